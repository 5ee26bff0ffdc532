package xa_test

import (
	"context"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/xa"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// add adds to a number.
type add struct {
	ID, N int
}

func (add) Branch() string { return "number.add" }

// adder is the branch of add.
type adder struct{ before, after func(ctx context.Context, tx *gorm.DB, in add) error }

func (a adder) Work(ctx context.Context, tx *gorm.DB, in add) error {
	if a.before != nil {
		if err := a.before(ctx, tx, in); err != nil {
			return err
		}
	}
	if err := tx.Exec("UPDATE numbers SET n = n + ? WHERE id = ?", in.N, in.ID).Error; err != nil {
		return err
	}
	if a.after != nil {
		return a.after(ctx, tx, in)
	}
	return nil
}

// each runs a test on each server that can prepare transactions.
func each(t *testing.T, test func(t *testing.T, db *gorm.DB)) {
	t.Helper()
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			test(t, numbers(t, sqltest.Open(t, dialect)))
		})
	}
}

// numbers makes the table of add. Its cleanup ends what a test has left prepared, because a
// prepared transaction keeps its database.
func numbers(t testing.TB, db *gorm.DB) *gorm.DB {
	sqltest.Exec(t, db, "CREATE TABLE numbers (id INT PRIMARY KEY, n INT NOT NULL)")
	sqltest.Exec(t, db, "INSERT INTO numbers VALUES (1, 0), (2, 0), (3, 0)")
	return db
}

func open(t testing.TB, db *gorm.DB) *xa.Database {
	t.Helper()
	d, err := xa.Open(t.Context(), db)
	sagatest.Must(t, err)
	t.Cleanup(d.Close)
	return d
}

// n reads a number, with a connection of its own.
func n(t testing.TB, db *gorm.DB, id int) (n int) {
	t.Helper()
	sagatest.Must(t, db.Raw("SELECT n FROM numbers WHERE id = ?", id).Scan(&n).Error)
	return n
}

// engine returns an engine with the branch, which runs.
func engine(t testing.TB, log, db *gorm.DB, b xa.Branch[add]) *embedded.Engine {
	t.Helper()
	e := sagatest.Open(t, log, embedded.Config{})
	sagatest.Must(t, xa.Register(e, open(t, db), b))
	sagatest.Run(t, e)
	return e
}

func rows(t testing.TB, db *gorm.DB, gid string) []barrier.Row {
	t.Helper()
	rows, err := barrier.Look(t.Context(), db, gid)
	sagatest.Must(t, err)
	return rows
}

var _ = saga.Confirmed
