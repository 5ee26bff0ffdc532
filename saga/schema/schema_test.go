package schema_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

func TestMigrateTwice(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		if err := schema.Migrate(t.Context(), db); err != nil {
			t.Fatal(err)
		}
		if err := schema.Check(t.Context(), db); err != nil {
			t.Fatal(err)
		}
	})
}

func TestMigrateFromSeveralPoolsAtOnce(t *testing.T) {
	t.Parallel()
	for _, dialect := range sqltest.Dialects {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			database := sqltest.Create(t, dialect)
			var wg sync.WaitGroup
			for range 4 {
				db := sqltest.Connect(t, database, &gorm.Config{})
				wg.Go(func() {
					if err := schema.Migrate(t.Context(), db); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if err := schema.Check(t.Context(), sqltest.Connect(t, database, &gorm.Config{})); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCheckSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, damage string
		want         error
		says         string
	}{
		{"empty", "", schema.ErrNotMigrated, "version 0 found"},
		{"broken off", "UPDATE saga_schema SET complete = 0", schema.ErrNotMigrated, "broken off"},
		{"newer", "UPDATE saga_schema SET version = 99", schema.ErrNewer, "version 99 found"},
		{"table missing", "DROP TABLE saga_inbox", schema.ErrNotMigrated, "saga_inbox"},
		{"column missing", "ALTER TABLE saga_barrier DROP COLUMN turned_away", schema.ErrNotMigrated, "turned_away"},
	}
	for _, dialect := range sqltest.Dialects {
		for _, c := range cases {
			t.Run(dialect+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				db := sqltest.Connect(t, sqltest.Create(t, dialect), &gorm.Config{})
				if c.damage != "" {
					if err := schema.Migrate(t.Context(), db); err != nil {
						t.Fatal(err)
					}
					if err := db.Exec(c.damage).Error; err != nil {
						t.Fatal(err)
					}
				}
				err := schema.Check(t.Context(), db)
				if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("Check: %v, want %v that says %q", err, c.want, c.says)
				}
				again := schema.Migrate(t.Context(), db)
				switch {
				case c.want == schema.ErrNewer:
					if !errors.Is(again, schema.ErrNewer) {
						t.Errorf("Migrate over a newer schema: %v", again)
					}
				case c.name == "column missing":
					// A hand-made change is reported, not guessed away.
					if again == nil || !strings.Contains(again.Error(), "turned_away") {
						t.Errorf("Migrate over a damaged table: %v", again)
					}
				case again != nil || schema.Check(t.Context(), db) != nil:
					t.Errorf("Migrate did not mend it: %v", again)
				}
			})
		}
	}
}

// A constraint or an index that was dropped by hand is reported, with the statement
// that adds it, which then does.
func TestCheckFindsDroppedConstraints(t *testing.T) {
	t.Parallel()
	again := func(drop string) map[string]string {
		return map[string]string{"mysql": drop, "postgres": drop}
	}
	cases := []struct {
		name   string
		damage map[string]string
		says   string
	}{
		{"check", map[string]string{
			"mysql":    "ALTER TABLE saga_stock DROP CONSTRAINT saga_stock_never_negative",
			"postgres": "ALTER TABLE saga_stock DROP CONSTRAINT saga_stock_never_negative",
			"sqlite":   "DROP TABLE saga_stock; CREATE TABLE saga_stock (sku TEXT NOT NULL, available INTEGER NOT NULL, locked INTEGER NOT NULL, sold INTEGER NOT NULL, PRIMARY KEY (sku))",
		}, "table saga_stock lacks the constraint saga_stock_never_negative"},
		{"another check", map[string]string{
			"mysql":    "ALTER TABLE saga_stock DROP CONSTRAINT saga_stock_never_negative, ADD CONSTRAINT other CHECK (sold >= 0)",
			"postgres": "ALTER TABLE saga_stock DROP CONSTRAINT saga_stock_never_negative, ADD CONSTRAINT other CHECK (sold >= 0)",
		}, "table saga_stock lacks the constraint saga_stock_never_negative"},
		{"check not validated", map[string]string{
			"postgres": "ALTER TABLE saga_stock DROP CONSTRAINT saga_stock_never_negative, ADD CONSTRAINT saga_stock_never_negative CHECK (available >= 0 AND locked >= 0 AND sold >= 0) NOT VALID",
		}, "table saga_stock lacks the constraint saga_stock_never_negative"},
		{"primary key", map[string]string{
			"mysql":    "ALTER TABLE saga_barrier DROP PRIMARY KEY",
			"postgres": "ALTER TABLE saga_barrier DROP CONSTRAINT saga_barrier_pkey",
			"sqlite":   "DROP TABLE saga_kinds; CREATE TABLE saga_kinds (kind TEXT NOT NULL, paused_at TEXT NOT NULL)",
		}, "lacks the primary key"},
		{"another primary key", again("ALTER TABLE saga_kinds DROP {primary}, ADD PRIMARY KEY (kind, paused_at)"), "table saga_kinds lacks the primary key"},
		{"index", map[string]string{
			"mysql": "ALTER TABLE saga_transactions DROP KEY saga_transactions_due",
		}, "table saga_transactions lacks the index saga_transactions_due"},
		{"another index", map[string]string{
			"mysql":    "ALTER TABLE saga_transactions DROP KEY saga_transactions_due, ADD KEY saga_transactions_due (created_at)",
			"postgres": "DROP INDEX saga_transactions_due; CREATE INDEX saga_transactions_due ON saga_transactions (created_at)",
			"sqlite":   "DROP INDEX saga_transactions_due; CREATE INDEX saga_transactions_due ON saga_transactions (created_at)",
		}, "table saga_transactions lacks the index saga_transactions_due"},
		{"index of other rows", map[string]string{
			"postgres": "DROP INDEX saga_transactions_due; CREATE INDEX saga_transactions_due ON saga_transactions (due_at) WHERE gid > 'm'",
			"sqlite":   "DROP INDEX saga_transactions_due; CREATE INDEX saga_transactions_due ON saga_transactions (due_at) WHERE gid > 'm'",
		}, "table saga_transactions lacks the index saga_transactions_due"},
	}
	for _, c := range cases {
		for dialect, damage := range c.damage {
			t.Run(dialect+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				db := sqltest.Open(t, dialect)
				primary := map[string]string{"mysql": "PRIMARY KEY", "postgres": "CONSTRAINT saga_kinds_pkey"}[dialect]
				for statement := range strings.SplitSeq(strings.ReplaceAll(damage, "{primary}", primary), "; ") {
					if err := db.Exec(statement).Error; err != nil {
						t.Fatal(err)
					}
				}
				err := schema.Check(t.Context(), db)
				if !errors.Is(err, schema.ErrNotMigrated) || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("Check: %v, want %q", err, c.says)
				}
				// It is not guessed away.
				if again := schema.Migrate(t.Context(), db); again == nil || !strings.Contains(again.Error(), c.says) {
					t.Errorf("Migrate: %v", again)
				}
				_, mend, found := strings.Cut(strings.TrimSuffix(err.Error(), ": "+schema.ErrNotMigrated.Error()), "add it with: ")
				if !found {
					if dialect != "sqlite" || !strings.Contains(err.Error(), "create the table anew") {
						t.Errorf("no statement in %v", err)
					}
					return
				}
				if strings.HasPrefix(c.name, "another") && !strings.Contains(c.name, "check") || strings.HasPrefix(c.name, "index of") || strings.HasSuffix(c.name, "validated") {
					return // what is there in its place has to be dropped first
				}
				if err := db.Exec(mend).Error; err != nil {
					t.Fatalf("%s: %v", mend, err)
				}
				if err := schema.Check(t.Context(), db); err != nil {
					t.Errorf("after %s: %v", mend, err)
				}
			})
		}
	}
}

// A connection that is lost is not taken for a missing schema, and panics
// nowhere, whatever statement it was lost before.
func TestCheckWithoutAConnection(t *testing.T) {
	t.Parallel()
	for _, prepare := range []bool{false, true} {
		for in := 1; ; in++ {
			db, loss := sqltest.OpenLossy(t)
			loss.Cut(in)
			err := schema.Check(t.Context(), db.Session(&gorm.Session{PrepareStmt: prepare}))
			if !loss.WasCut() {
				if err != nil || in < 10 {
					t.Errorf("%d statements: %v", in-1, err)
				}
				break
			}
			// A table is looked at twice before it is blamed.
			if err != nil && (!errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, schema.ErrNotMigrated)) {
				t.Errorf("cut before statement %d: %v", in, err)
			}
		}
	}
}

func TestEveryColumnIsCommented(t *testing.T) {
	t.Parallel()
	for _, dialect := range sqltest.Dialects {
		script, err := schema.Script(dialect)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(script) {
			if !strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "  PRIMARY") || strings.HasPrefix(line, "  KEY") || strings.HasPrefix(line, "  CONSTRAINT") {
				continue
			}
			column := strings.Fields(line)[0]
			comment := map[string]string{"mysql": " COMMENT '", "sqlite": " -- ", "postgres": ""}[dialect]
			if !strings.Contains(line, comment) || dialect == "postgres" && !strings.Contains(script, "."+column+" IS '") {
				t.Errorf("%s: no comment on %s", dialect, strings.TrimSpace(line))
			}
		}
	}
}

func TestStatementsOfUnknownDialect(t *testing.T) {
	if _, err := schema.Statements("oracle"); err == nil || !strings.Contains(err.Error(), "oracle") {
		t.Errorf("Statements: %v", err)
	}
}

// People who run their own migrations take the script as it is.
func ExampleScript() {
	script, err := schema.Script("mysql")
	if err != nil {
		panic(err)
	}
	fmt.Println(strings.SplitN(script, "\n", 2)[0])
	// Output: -- Schema of tccsaga for MySQL 8.0.16+ and MariaDB 10.6+.
}

// A database with an older schema, with rows in it, is upgraded: by Migrate, also
// after an upgrade that was broken off, and by the script for one's own tool. The
// result is that of a new one.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	for _, dialect := range sqltest.Dialects {
		for _, way := range []string{"migrate", "broken off", "script"} {
			t.Run(dialect+"/"+way, func(t *testing.T) {
				t.Parallel()
				db := sqltest.Connect(t, sqltest.Create(t, dialect), &gorm.Config{})
				old, err := os.ReadFile("testdata/" + dialect + "_1.sql")
				if err != nil {
					t.Fatal(err)
				}
				runScript(t, db, string(old), -1)
				if err := db.Exec("INSERT INTO saga_barrier (gid, branch_id, state, turned_away) VALUES ('g', '01', 'tried', 0)").Error; err != nil {
					t.Fatal(err)
				}
				if err := db.Exec("INSERT INTO saga_inbox (consumer, message_id, handled_at) VALUES ('c', 'm', '2026-01-02 03:04:05.678')").Error; err != nil {
					t.Fatal(err)
				}
				if err := schema.Check(t.Context(), db); !errors.Is(err, schema.ErrNotMigrated) {
					t.Fatalf("Check of version 1: %v", err)
				}
				script, err := schema.Upgrade(dialect, 1)
				if err != nil {
					t.Fatal(err)
				}
				switch way {
				case "script":
					runScript(t, db, script, -1)
				case "broken off":
					runScript(t, db, script, 4)
					fallthrough
				default:
					if err := schema.Migrate(t.Context(), db); err != nil {
						t.Fatal(err)
					}
				}
				if err := schema.Check(t.Context(), db); err != nil {
					t.Fatal(err)
				}
				fresh := sqltest.Open(t, dialect)
				for _, table := range []string{"saga_schema", "saga_transactions", "saga_branches", "saga_attempts", "saga_acts", "saga_barrier",
					"saga_stock", "saga_stock_holds", "saga_stock_acts", "saga_outbox", "saga_outbox_order", "saga_outbox_delayed",
					"saga_inbox", "saga_inbox_cleaning", "saga_letter_acts"} {
					if got, want := columns(t, db, table), columns(t, fresh, table); !slices.Equal(got, want) {
						t.Errorf("%s has the columns\n%v, a new one\n%v", table, got, want)
					}
				}
				var id string
				if err := db.Raw("SELECT log_id FROM saga_schema").Scan(&id).Error; err != nil || len(id) < 32 {
					t.Errorf("the log's id is %q, %v", id, err)
				}
				var handled int64
				if err := db.Raw("SELECT COUNT(*) FROM saga_inbox WHERE consumer = 'c' AND stream = '' AND message_id = 'm' AND handled_at IS NOT NULL AND attempts = 0").Scan(&handled).Error; err != nil || handled != 1 {
					t.Errorf("the inbox row is there %d times, %v", handled, err)
				}
				for _, stream := range []string{"a", "b"} { // the primary key has the stream
					if err := db.Exec("INSERT INTO saga_inbox (consumer, stream, message_id) VALUES ('c', ?, 'm')", stream).Error; err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

// runScript runs the first statements of a script, or all.
func runScript(t *testing.T, db *gorm.DB, script string, most int) {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(script) {
		if b.Len() == 0 && (strings.TrimSpace(line) == "" || strings.HasPrefix(line, "--")) {
			continue
		}
		if b.WriteString(line); strings.HasSuffix(strings.TrimSpace(line), ";") {
			if most == 0 {
				return
			}
			most--
			if err := db.Exec(strings.TrimSuffix(strings.TrimSpace(b.String()), ";")).Error; err != nil {
				t.Fatal(err)
			}
			b.Reset()
		}
	}
}

func columns(t *testing.T, db *gorm.DB, table string) (names []string) {
	t.Helper()
	types, err := db.Migrator().ColumnTypes(table)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range types {
		names = append(names, fmt.Sprint(c.Name(), " ", c.DatabaseTypeName()))
	}
	slices.Sort(names)
	return names
}
