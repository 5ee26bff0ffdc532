package sqltx_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc/internal/sqltx"
)

// pool counts the statements of a transaction, like one that watches them.
type pool struct {
	gorm.ConnPool
	gorm.TxCommitter
	statements int
	last       context.Context
}

func (p *pool) ExecContext(ctx context.Context, query string, arguments ...any) (sql.Result, error) {
	p.statements++
	p.last = ctx
	return p.ConnPool.ExecContext(ctx, query, arguments...)
}

func (p *pool) QueryContext(ctx context.Context, query string, arguments ...any) (*sql.Rows, error) {
	p.statements++
	p.last = ctx
	return p.ConnPool.QueryContext(ctx, query, arguments...)
}

// world is a database with a table of all kinds of columns, and a transaction.
type world struct {
	db      *gorm.DB
	dialect string
	tx      *gorm.DB
	direct  *sql.Tx // of the driver
	pool    *pool
	through *sql.Tx // of the pool
	end     context.CancelFunc
}

var tables = map[string]string{
	"sqlite":   "CREATE TABLE kinds (id INTEGER PRIMARY KEY, i BIGINT, f DOUBLE, s VARCHAR(40), b BLOB, t DATETIME, d DECIMAL(10,2), o BOOLEAN, n INT NOT NULL DEFAULT 7)",
	"mysql":    "CREATE TABLE kinds (id BIGINT PRIMARY KEY AUTO_INCREMENT, i BIGINT, f DOUBLE, s VARCHAR(40), b BLOB, t DATETIME(6), d DECIMAL(10,2), o BOOLEAN, n INT NOT NULL DEFAULT 7)",
	"postgres": "CREATE TABLE kinds (id BIGSERIAL PRIMARY KEY, i BIGINT, f DOUBLE PRECISION, s VARCHAR(40), b BYTEA, t TIMESTAMPTZ, d DECIMAL(10,2), o BOOLEAN, n INT NOT NULL DEFAULT 7)",
}

// each runs test on every database, with prepared statements of gorm and without.
func each(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, dialect := range sqltest.Dialects {
		for _, prepare := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/prepare=%t", dialect, prepare), func(t *testing.T) {
				t.Parallel()
				test(t, newWorld(t, dialect, prepare))
			})
		}
	}
}

func newWorld(t testing.TB, dialect string, prepare bool) *world {
	t.Helper()
	database := sqltest.Create(t, dialect)
	if dialect == "mysql" {
		database.DSN += "?parseTime=true"
	}
	w := &world{db: sqltest.Connect(t, database, &gorm.Config{PrepareStmt: prepare}), dialect: dialect}
	must(t, w.db.Exec(tables[dialect]).Error)
	w.begin(t)
	return w
}

// begin begins the transaction, which is rolled back after the test.
func (w *world) begin(t testing.TB) {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	w.tx, w.end = w.db.WithContext(context.WithoutCancel(ctx)).Begin(), end
	must(t, w.tx.Error)
	tx := w.tx
	t.Cleanup(func() { end(); tx.Rollback() })
	inner := w.tx.Statement.ConnPool
	w.pool = &pool{ConnPool: inner, TxCommitter: inner.(gorm.TxCommitter)}
	watched := w.tx.Session(&gorm.Session{NewDB: true, Context: ctx})
	watched.Statement.ConnPool = w.pool
	var err error
	w.direct, err = sqltx.Of(w.tx)
	must(t, err)
	w.through, err = sqltx.Of(watched)
	must(t, err)
}

// sql writes a query with question marks for the dialect.
func (w *world) sql(query string) string {
	for i := 1; w.dialect == "postgres" && strings.Contains(query, "?"); i++ {
		query = strings.Replace(query, "?", fmt.Sprintf("$%d", i), 1)
	}
	return query
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type (
	cents int64
	label string
	price struct{ units int64 }
)

// Value is what the database gets.
func (p price) Value() (driver.Value, error) { return fmt.Sprintf("%d.50", p.units), nil }

var moment = time.Date(2026, 11, 26, 1, 2, 3, 456789000, time.UTC)

// lines are rows of arguments of all kinds.
func lines() [][]any {
	text := "pointer"
	var none *string
	return [][]any{
		{int64(math.MaxInt64), math.MaxFloat64, "text", []byte{0, 1, 255}, moment, "12.34", true},
		{int64(math.MinInt64), -0.1, "", []byte{}, moment.Add(time.Hour), price{7}, false},
		{nil, nil, nil, nil, nil, nil, nil},
		{cents(5), float32(0.5), label("named"), []byte("bytes"), &moment, 3, sql.NullBool{}},
		{uint8(7), sql.NullFloat64{Float64: 1.5, Valid: true}, &text, []byte(nil), sql.NullTime{}, nil, sql.Null[bool]{V: true, Valid: true}},
		{sql.Null[int64]{}, nil, none, nil, nil, nil, nil},
		{math.MaxInt32, nil, "ü'\"\\", nil, nil, nil, nil},
	}
}

const insert = "INSERT INTO kinds (i, f, s, b, t, d, o) VALUES (?, ?, ?, ?, ?, ?, ?)"

// read reads all rows as the driver gives them.
func read(t *testing.T, tx *sql.Tx, query string, arguments ...any) [][]any {
	t.Helper()
	rows, err := tx.QueryContext(t.Context(), query, arguments...)
	must(t, err)
	defer rows.Close()
	columns, err := rows.Columns()
	must(t, err)
	var all [][]any
	for rows.Next() {
		values, scan := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			scan[i] = &values[i]
		}
		must(t, rows.Scan(scan...))
		all = append(all, values)
	}
	must(t, rows.Err())
	return all
}

// What is written and read through the pool is what the driver writes and reads.
func TestValuesPassThroughUnchanged(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		if w.direct == w.through {
			t.Fatal("the pool is passed by")
		}
		for _, line := range lines() {
			for _, tx := range []*sql.Tx{w.direct, w.through} {
				result, err := tx.ExecContext(t.Context(), w.sql(insert), line...)
				if err != nil {
					t.Fatalf("%v: %v", line, err)
				}
				if n, err := result.RowsAffected(); n != 1 || err != nil {
					t.Errorf("RowsAffected: %d, %v", n, err)
				}
			}
		}
		const columns = "i, f, s, b, t, d, o, n"
		all := read(t, w.direct, "SELECT "+columns+" FROM kinds ORDER BY id")
		for i := 0; i < len(all); i += 2 {
			if !reflect.DeepEqual(all[i], all[i+1]) {
				t.Errorf("the driver wrote %v, the pool %v", all[i], all[i+1])
			}
		}
		if through := read(t, w.through, "SELECT "+columns+" FROM kinds ORDER BY id"); !reflect.DeepEqual(through, all) {
			t.Errorf("the driver reads\n%v, the pool\n%v", all, through)
		}
		if want := len(lines()) + 1; w.pool.statements != want {
			t.Errorf("the pool got %d statements, want %d", w.pool.statements, want)
		}

		var into struct {
			i sql.Null[cents]
			f *float64
			s sql.NullString
			b []byte
			t sql.NullTime
			d sql.RawBytes
			o *bool
			n uint16
		}
		rows, err := w.through.Query("SELECT " + columns + " FROM kinds ORDER BY id")
		must(t, err)
		defer rows.Close()
		for rows.Next() {
			must(t, rows.Scan(&into.i, &into.f, &into.s, &into.b, &into.t, &into.d, &into.o, &into.n))
		}
		must(t, rows.Err())
		if into.i.V != math.MaxInt32 || into.f != nil || into.s.String != "ü'\"\\" || into.b != nil || into.t.Valid || into.d != nil || into.o != nil || into.n != 7 {
			t.Errorf("the last row: %+v", into)
		}
	})
}

func TestColumnsPassThroughUnchanged(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		_, err := w.direct.Exec(w.sql(insert), lines()[0]...)
		must(t, err)
		describe := func(tx *sql.Tx) (all []string) {
			rows, err := tx.Query("SELECT id, i, f, s, b, t, d, o, n FROM kinds")
			must(t, err)
			defer rows.Close()
			types, err := rows.ColumnTypes()
			must(t, err)
			for _, c := range types {
				nullable, knowsNull := c.Nullable()
				length, hasLength := c.Length()
				precision, scale, decimal := c.DecimalSize()
				all = append(all, fmt.Sprintln(c.Name(), c.DatabaseTypeName(), c.ScanType(), nullable, knowsNull, length, hasLength, precision*b(decimal), scale*b(decimal), decimal))
			}
			return all
		}
		if direct, through := describe(w.direct), describe(w.through); !reflect.DeepEqual(direct, through) {
			t.Errorf("the driver says\n%v, the pool\n%v", direct, through)
		}
	})
}

func b(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

func TestStatementsOfAllSorts(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		tx := w.through
		prepared, err := tx.Prepare(w.sql("INSERT INTO kinds (i, s) VALUES (?, ?)"))
		must(t, err)
		const many = 300
		for i := range many {
			result, err := prepared.Exec(i, fmt.Sprint("row ", i))
			must(t, err)
			if id, err := result.LastInsertId(); w.dialect != "postgres" && (err != nil || id != int64(i+1)) {
				t.Fatalf("LastInsertId: %d, %v", id, err)
			} else if w.dialect == "postgres" && err == nil {
				t.Fatal("the driver for PostgreSQL knows no LastInsertId")
			}
		}
		must(t, prepared.Close())
		if w.pool.statements != many {
			t.Errorf("the pool got %d statements", w.pool.statements)
		}
		if all := read(t, tx, "SELECT i, s FROM kinds ORDER BY id"); len(all) != many || fmt.Sprint(all[many-1][1]) == "" {
			t.Errorf("%d rows: %v", len(all), all)
		}
		query, err := tx.PrepareContext(t.Context(), w.sql("SELECT s FROM kinds WHERE i = ?"))
		must(t, err)
		var text string
		must(t, query.QueryRow(7).Scan(&text))
		if text != "row 7" {
			t.Errorf("read %q", text)
		}
		result, err := tx.Exec(w.sql("UPDATE kinds SET s = ? WHERE i < ?"), "changed", 10)
		must(t, err)
		if n, err := result.RowsAffected(); n != 10 || err != nil {
			t.Errorf("RowsAffected: %d, %v", n, err)
		}
		if err := tx.QueryRow("SELECT s FROM kinds WHERE i < 0").Scan(&text); !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("no rows: %v", err)
		}
		// A row that is not read to its end does not keep the connection.
		rows, err := tx.Query("SELECT s FROM kinds")
		must(t, err)
		rows.Next()
		must(t, rows.Close())
		switch w.dialect {
		case "postgres":
			var n int
			must(t, tx.QueryRow("SELECT COUNT(*) FROM kinds WHERE i = ANY($1)", []int64{1, 2, 3}).Scan(&n))
			if n != 3 {
				t.Errorf("%d rows for an array", n)
			}
		case "sqlite":
			must(t, tx.QueryRow("SELECT s FROM kinds WHERE i = :i", sql.Named("i", 20)).Scan(&text))
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
	must(t, err)
	defer rows.Close()
	var a int
	var b string
	for rows.Next() {
		must(t, rows.Scan(&a))
	}
	if !rows.NextResultSet() || !rows.Next() {
		t.Fatalf("the second result set: %v", rows.Err())
	}
	must(t, rows.Scan(&a, &b))
	if a != 2 || b != "b" || rows.Next() || rows.NextResultSet() {
		t.Errorf("%d, %q, or more", a, b)
	}
	must(t, rows.Err())
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
		must(t, err)
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
		must(t, err)
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
			must(t, w.db.Exec("INSERT INTO kinds (id) VALUES (1), (2)").Error)
			w.begin(t)
			first := w.through
			w.begin(t)
			second := w.through
			lock := func(tx *sql.Tx, id int) error {
				_, err := tx.Exec(w.sql("UPDATE kinds SET i = 1 WHERE id = ?"), id)
				return err
			}
			must(t, lock(first, 1))
			must(t, lock(second, 2))
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
		must(t, err)
		for what, end := range map[string]func() error{"Commit": w.through.Commit, "Rollback": w.through.Rollback} {
			if err := end(); err == nil || !strings.Contains(err.Error(), what) && !errors.Is(err, sql.ErrTxDone) {
				t.Errorf("%s: %v", what, err)
			}
		}
		must(t, w.tx.Commit().Error)
		var n int
		must(t, w.db.Raw("SELECT COUNT(*) FROM kinds").Scan(&n).Error)
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
			must(t, w.db.Exec("INSERT INTO kinds (id) VALUES (1)").Error)
			w.begin(t)
			const lock = "UPDATE kinds SET i = 1 WHERE id = 1"
			_, err := w.direct.Exec(lock)
			must(t, err)
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
