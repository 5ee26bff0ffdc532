package sqltx_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/sagatest"
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
	sagatest.Must(t, w.db.Exec(tables[dialect]).Error)
	w.begin(t)
	return w
}

// begin begins the transaction, which is rolled back after the test.
func (w *world) begin(t testing.TB) {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	w.tx, w.end = w.db.WithContext(context.WithoutCancel(ctx)).Begin(), end
	sagatest.Must(t, w.tx.Error)
	tx := w.tx
	t.Cleanup(func() { end(); tx.Rollback() })
	inner := w.tx.Statement.ConnPool
	w.pool = &pool{ConnPool: inner, TxCommitter: inner.(gorm.TxCommitter)}
	watched := w.tx.Session(&gorm.Session{NewDB: true, Context: ctx})
	watched.Statement.ConnPool = w.pool
	var err error
	w.direct, err = sqltx.Of(w.tx)
	sagatest.Must(t, err)
	w.through, err = sqltx.Of(watched)
	sagatest.Must(t, err)
}

// sql writes a query with question marks for the dialect.
func (w *world) sql(query string) string {
	for i := 1; w.dialect == "postgres" && strings.Contains(query, "?"); i++ {
		query = strings.Replace(query, "?", fmt.Sprintf("$%d", i), 1)
	}
	return query
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
	sagatest.Must(t, err)
	defer rows.Close()
	columns, err := rows.Columns()
	sagatest.Must(t, err)
	var all [][]any
	for rows.Next() {
		values, scan := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			scan[i] = &values[i]
		}
		sagatest.Must(t, rows.Scan(scan...))
		all = append(all, values)
	}
	sagatest.Must(t, rows.Err())
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
		sagatest.Must(t, err)
		defer rows.Close()
		for rows.Next() {
			sagatest.Must(t, rows.Scan(&into.i, &into.f, &into.s, &into.b, &into.t, &into.d, &into.o, &into.n))
		}
		sagatest.Must(t, rows.Err())
		if into.i.V != math.MaxInt32 || into.f != nil || into.s.String != "ü'\"\\" || into.b != nil || into.t.Valid || into.d != nil || into.o != nil || into.n != 7 {
			t.Errorf("the last row: %+v", into)
		}
	})
}

func TestColumnsPassThroughUnchanged(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		_, err := w.direct.Exec(w.sql(insert), lines()[0]...)
		sagatest.Must(t, err)
		describe := func(tx *sql.Tx) (all []string) {
			rows, err := tx.Query("SELECT id, i, f, s, b, t, d, o, n FROM kinds")
			sagatest.Must(t, err)
			defer rows.Close()
			types, err := rows.ColumnTypes()
			sagatest.Must(t, err)
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
