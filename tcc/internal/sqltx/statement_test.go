package sqltx_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc/internal/sqltx"
)

func TestStatementsOfAllSorts(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		tx := w.through
		prepared, err := tx.Prepare(w.sql("INSERT INTO kinds (i, s) VALUES (?, ?)"))
		sagatest.Must(t, err)
		const many = 300
		for i := range many {
			result, err := prepared.Exec(i, fmt.Sprint("row ", i))
			sagatest.Must(t, err)
			if id, err := result.LastInsertId(); w.dialect != "postgres" && (err != nil || id != int64(i+1)) {
				t.Fatalf("LastInsertId: %d, %v", id, err)
			} else if w.dialect == "postgres" && err == nil {
				t.Fatal("the driver for PostgreSQL knows no LastInsertId")
			}
		}
		sagatest.Must(t, prepared.Close())
		if w.pool.statements != many {
			t.Errorf("the pool got %d statements", w.pool.statements)
		}
		if all := read(t, tx, "SELECT i, s FROM kinds ORDER BY id"); len(all) != many || fmt.Sprint(all[many-1][1]) == "" {
			t.Errorf("%d rows: %v", len(all), all)
		}
		query, err := tx.PrepareContext(t.Context(), w.sql("SELECT s FROM kinds WHERE i = ?"))
		sagatest.Must(t, err)
		var text string
		sagatest.Must(t, query.QueryRow(7).Scan(&text))
		if text != "row 7" {
			t.Errorf("read %q", text)
		}
		result, err := tx.Exec(w.sql("UPDATE kinds SET s = ? WHERE i < ?"), "changed", 10)
		sagatest.Must(t, err)
		if n, err := result.RowsAffected(); n != 10 || err != nil {
			t.Errorf("RowsAffected: %d, %v", n, err)
		}
		if err := tx.QueryRow("SELECT s FROM kinds WHERE i < 0").Scan(&text); !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("no rows: %v", err)
		}
		// A row that is not read to its end does not keep the connection.
		rows, err := tx.Query("SELECT s FROM kinds")
		sagatest.Must(t, err)
		rows.Next()
		sagatest.Must(t, rows.Close())
		switch w.dialect {
		case "postgres":
			var n int
			sagatest.Must(t, tx.QueryRow("SELECT COUNT(*) FROM kinds WHERE i = ANY($1)", []int64{1, 2, 3}).Scan(&n))
			if n != 3 {
				t.Errorf("%d rows for an array", n)
			}
		case "sqlite":
			sagatest.Must(t, tx.QueryRow("SELECT s FROM kinds WHERE i = :i", sql.Named("i", 20)).Scan(&text))
			if text != "row 20" {
				t.Errorf("read %q by a named argument", text)
			}
		}
	})
}

// Several result sets come through one after the other.
func TestResultSets(t *testing.T) {
	t.Parallel()
	database := sqltest.Create(t, "mysql")
	database.DSN += "?multiStatements=true"
	w := &world{db: sqltest.Connect(t, database, &gorm.Config{}), dialect: "mysql"}
	w.begin(t)
	rows, err := w.through.Query("SELECT 1; SELECT 2, 'b'")
	sagatest.Must(t, err)
	defer rows.Close()
	var a int
	var b string
	for rows.Next() {
		sagatest.Must(t, rows.Scan(&a))
	}
	if !rows.NextResultSet() || !rows.Next() {
		t.Fatalf("the second result set: %v", rows.Err())
	}
	sagatest.Must(t, rows.Scan(&a, &b))
	if a != 2 || b != "b" || rows.Next() || rows.NextResultSet() {
		t.Errorf("%d, %q, or more", a, b)
	}
	sagatest.Must(t, rows.Err())
}

// code is what the server called an error.
func code(err error) string {
	var my *mysql.MySQLError
	var pg *pgconn.PgError
	var lite interface{ Code() int }
	switch {
	case errors.As(err, &my):
		return fmt.Sprint(my.Number)
	case errors.As(err, &pg):
		return pg.Code
	case errors.As(err, &lite):
		return fmt.Sprint(lite.Code())
	}
	return fmt.Sprintf("%v", err)
}

func TestErrorsOfTheServerAreKept(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		_, err := w.through.Exec("INSERT INTO kinds (id, n) VALUES (1, 1)")
		sagatest.Must(t, err)
		_, err = w.through.Exec("INSERT INTO kinds (id, n) VALUES (1, 1)")
		if want := map[string]string{"mysql": "1062", "postgres": "23505", "sqlite": "1555"}[w.dialect]; code(err) != want {
			t.Errorf("a duplicate: %v", err)
		}
		if w.dialect == "postgres" {
			w.begin(t)
		}
		_, err = w.through.Query("SELECT nothing FROM kinds")
		if want := map[string]string{"mysql": "1054", "postgres": "42703", "sqlite": "1"}[w.dialect]; code(err) != want {
			t.Errorf("an unknown column: %v", err)
		}
		if w.dialect == "postgres" {
			w.begin(t)
		}
		prepared, err := w.through.Prepare("SELECT nothing FROM kinds")
		sagatest.Must(t, err)
		if err := prepared.QueryRow().Scan(new(int)); code(err) != map[string]string{"mysql": "1054", "postgres": "42703", "sqlite": "1"}[w.dialect] {
			t.Errorf("an unknown column in a prepared statement: %v", err)
		}
	})
}

// Of two transactions that wait for each other, one is told of the deadlock.
func TestDeadlocksAreKept(t *testing.T) {
	t.Parallel()
	for dialect, want := range map[string]string{"mysql": "1213", "postgres": "40P01"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, dialect, false)
			w.tx.Rollback()
			sagatest.Must(t, w.db.Exec("INSERT INTO kinds (id) VALUES (1), (2)").Error)
			w.begin(t)
			first := w.through
			w.begin(t)
			second := w.through
			lock := func(tx *sql.Tx, id int) error {
				_, err := tx.Exec(w.sql("UPDATE kinds SET i = 1 WHERE id = ?"), id)
				return err
			}
			sagatest.Must(t, lock(first, 1))
			sagatest.Must(t, lock(second, 2))
			told := make(chan error, 2)
			go func() { told <- lock(first, 2) }()
			go func() { told <- lock(second, 1) }()
			if a, b := <-told, <-told; code(a) != want && code(b) != want {
				t.Errorf("%v, %v", a, b)
			}
		})
	}
}

func TestEndOfTheTransaction(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		_, err := w.through.Exec("INSERT INTO kinds (i) VALUES (1)")
		sagatest.Must(t, err)
		for what, end := range map[string]func() error{"Commit": w.through.Commit, "Rollback": w.through.Rollback} {
			if err := end(); err == nil || !strings.Contains(err.Error(), what) && !errors.Is(err, sql.ErrTxDone) {
				t.Errorf("%s: %v", what, err)
			}
		}
		sagatest.Must(t, w.tx.Commit().Error)
		var n int
		sagatest.Must(t, w.db.Raw("SELECT COUNT(*) FROM kinds").Scan(&n).Error)
		if n != 1 {
			t.Errorf("%d rows are committed", n)
		}
		w.begin(t)
		w.end()
		if _, err := w.through.Exec("INSERT INTO kinds (i) VALUES (1)"); err == nil {
			t.Error("a statement after the end of the context succeeded")
		}
	})
}

// A statement that waits for a lock ends with the transaction's context, if it was
// given none, and otherwise with its own.
func TestContextsEndStatements(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, dialect, false)
			w.tx.Rollback()
			sagatest.Must(t, w.db.Exec("INSERT INTO kinds (id) VALUES (1)").Error)
			w.begin(t)
			const lock = "UPDATE kinds SET i = 1 WHERE id = 1"
			_, err := w.direct.Exec(lock)
			sagatest.Must(t, err)
			for name, act := range map[string]func(tx *sql.Tx, end func()) error{
				"its own": func(tx *sql.Tx, _ func()) error {
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
					defer cancel()
					_, err := tx.ExecContext(ctx, lock)
					return err
				},
				"the transaction's": func(tx *sql.Tx, end func()) error {
					timer := time.AfterFunc(20*time.Millisecond, end)
					defer timer.Stop()
					_, err := tx.Exec(lock)
					return err
				},
			} {
				w.begin(t)
				if err := act(w.through, w.end); err == nil {
					t.Errorf("%s: the statement did not end", name)
				}
			}
		})
	}
}

func TestOfRefusesWhatIsNoTransaction(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	prepared := db.Session(&gorm.Session{PrepareStmt: true})
	failed := db.Session(&gorm.Session{Context: t.Context()})
	failed.AddError(errors.New("begin failed"))
	tx := db.Begin()
	defer tx.Rollback()
	endless := tx.Session(&gorm.Session{NewDB: true, Context: context.Background()})
	endless.Statement.ConnPool = &pool{ConnPool: tx.Statement.ConnPool, TxCommitter: tx.Statement.ConnPool.(gorm.TxCommitter)}
	none := tx.Session(&gorm.Session{NewDB: true})
	none.Statement.ConnPool = (*sql.Tx)(nil)
	for name, c := range map[string]struct {
		tx   *gorm.DB
		says string
	}{
		"nil":             {nil, "is nil"},
		"a pool":          {db, "not in a transaction"},
		"with prepared":   {prepared, "not in a transaction"},
		"failed":          {failed, "begin failed"},
		"nil transaction": {none, "not in a transaction"},
		"endless context": {endless, "never ends"},
	} {
		if _, err := sqltx.Of(c.tx); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}
