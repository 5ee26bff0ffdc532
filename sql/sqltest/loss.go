package sqltest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/saga/schema"
)

// Loss loses the answer to a COMMIT: the connection breaks before the server has committed,
// or after. It can also lose a connection before a statement.
type Loss struct {
	mu        sync.Mutex
	in        int  // the answer to the in-th COMMIT from now is lost; 0 is none
	committed bool // the server commits before the connection breaks
	lost      int

	statements, commits int

	before int // the before-th statement from now is lost; 0 is none
	cut    bool

	after func() // is called once, after the next COMMIT
}

// After calls f once, after the next COMMIT is made and before it is answered.
func (l *Loss) After(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.after = f
}

func (l *Loss) committedNow() {
	l.mu.Lock()
	f := l.after
	l.after = nil
	l.mu.Unlock()
	if f != nil {
		f()
	}
}

// Traffic returns how many statements, besides BEGIN and COMMIT, and how many COMMITs were
// sent to the database.
func (l *Loss) Traffic() (statements, commits int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.statements, l.commits
}

func (l *Loss) statement() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.statements++
	if l.before > 0 {
		l.before--
		l.cut = l.before == 0
		if l.cut {
			return errLost
		}
	}
	return nil
}

var errLost = fmt.Errorf("lost on purpose: %w", io.ErrUnexpectedEOF)

// Cut loses the connection before the in-th statement from now.
func (l *Loss) Cut(in int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before, l.cut = in, false
}

// WasCut reports whether the connection was lost as Cut asked.
func (l *Loss) WasCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cut
}

// Arm loses the answer to the in-th COMMIT from now; 0 loses none. If committed is true, the
// database commits.
func (l *Loss) Arm(in int, committed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.in, l.committed = in, committed
}

func (l *Loss) hit() (lost, committed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commits++
	if l.in == 0 {
		return false, false
	}
	l.in--
	if l.in == 0 {
		l.lost++
		return true, l.committed
	}
	return false, false
}

// Count returns how many answers were lost.
func (l *Loss) Count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// lossyConnector opens SQLite connections that can lose the answer to a COMMIT.
type lossyConnector struct {
	driver driver.Driver
	dsn    string
	loss   *Loss
}

func (c lossyConnector) Driver() driver.Driver { return c.driver }

func (c lossyConnector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	return &lossyConn{full: conn.(full), loss: c.loss}, nil
}

// full has the interfaces of the SQLite driver's connections.
type full interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
}

type lossyConn struct {
	full
	loss *Loss
}

func (c *lossyConn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	tx, err := c.full.BeginTx(ctx, options)
	return &lossyTx{tx, c.loss}, err
}

func (c *lossyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.loss.statement(); err != nil {
		return nil, err
	}
	return c.full.ExecContext(ctx, query, args)
}

func (c *lossyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.loss.statement(); err != nil {
		return nil, err
	}
	return c.full.QueryContext(ctx, query, args)
}

func (c *lossyConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := c.loss.statement(); err != nil {
		return nil, err
	}
	return c.full.PrepareContext(ctx, query)
}

type lossyTx struct {
	driver.Tx
	loss *Loss
}

func (t *lossyTx) Commit() error {
	lost, committed := t.loss.hit()
	switch {
	case !lost:
		err := t.Tx.Commit()
		if err == nil {
			t.loss.committedNow()
		}
		return err
	case committed:
		if err := t.Tx.Commit(); err != nil {
			return err
		}
	default:
		if err := t.Tx.Rollback(); err != nil {
			return err
		}
	}
	return errLost
}

// OpenLossy returns a migrated SQLite database of the test that can lose the answer to a
// COMMIT.
func OpenLossy(t testing.TB) (*gorm.DB, *Loss) {
	t.Helper()
	return ConnectLossy(t, Create(t, "sqlite"))
}

// ConnectLossy is OpenLossy for a SQLite database that other processes may open too.
func ConnectLossy(t testing.TB, database Database) (*gorm.DB, *Loss) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	dsn := database.DSN
	plain, err := sql.Open(sqlite.DriverName, dsn)
	must(err)
	l := &Loss{}
	pool := sql.OpenDB(lossyConnector{plain.Driver(), dsn, l})
	must(plain.Close())
	t.Cleanup(func() { pool.Close() })
	db, err := gorm.Open(&sqlite.Dialector{Conn: pool}, &gorm.Config{Logger: logger.Discard})
	must(err)
	must(schema.Migrate(t.Context(), db))
	return db, l
}
