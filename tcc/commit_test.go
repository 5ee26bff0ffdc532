package tcc_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"testing"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/saga"
	sagasql "github.com/tccsaga/tccsaga/sql"
	"github.com/tccsaga/tccsaga/tcc"
)

// loss loses the answer to a COMMIT: the connection breaks before the server
// has made it, or after.
type loss struct {
	mu        sync.Mutex
	in        int  // the in-th COMMIT from now is lost; 0 is none
	committed bool // it was made before the connection broke
	lost      int
}

func (l *loss) arm(in int, committed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.in, l.committed = in, committed
}

func (l *loss) hit() (lost, committed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
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

func (l *loss) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// lossyConnector opens real SQLite connections whose COMMITs can be lost.
type lossyConnector struct {
	driver driver.Driver
	dsn    string
	loss   *loss
}

func (c lossyConnector) Driver() driver.Driver { return c.driver }

func (c lossyConnector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	return &lossyConn{full: conn.(full), loss: c.loss}, nil
}

// full is what the SQLite driver's connections can do.
type full interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
}

type lossyConn struct {
	full
	loss *loss
}

func (c *lossyConn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	tx, err := c.full.BeginTx(ctx, options)
	return &lossyTx{tx, c.loss}, err
}

type lossyTx struct {
	driver.Tx
	loss *loss
}

func (t *lossyTx) Commit() error {
	lost, committed := t.loss.hit()
	switch {
	case !lost:
		return t.Tx.Commit()
	case committed:
		if err := t.Tx.Commit(); err != nil {
			return err
		}
	default:
		if err := t.Tx.Rollback(); err != nil {
			return err
		}
	}
	return fmt.Errorf("on purpose: %w", io.ErrUnexpectedEOF)
}

func openLossy(t *testing.T) (*gorm.DB, *loss) {
	t.Helper()
	dsn := filepath.Join(t.TempDir(), "lossy.db") + "?_txlock=immediate&_pragma=busy_timeout(20000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)"
	plain, err := sql.Open(sqlite.DriverName, dsn)
	must(t, err)
	l := &loss{}
	pool := sql.OpenDB(lossyConnector{plain.Driver(), dsn, l})
	must(t, plain.Close())
	t.Cleanup(func() { pool.Close() })
	db, err := gorm.Open(&sqlite.Dialector{Conn: pool}, &gorm.Config{Logger: logger.Discard})
	must(t, err)
	must(t, sagasql.Migrate(t.Context(), db))
	return db, l
}

// Whichever COMMIT goes unanswered, made or not made, what the caller is told
// is what happened.
func TestUnansweredCommits(t *testing.T) {
	t.Parallel()
	db, loss := openLossy(t)
	config := quick
	// Only what the calls themselves do commits; nothing comes in between.
	config.Poll, config.Lease = maxDuration/4, maxDuration/4
	b := newBench(t, db, config)
	for _, d := range []*gorm.DB{b.db, b.other} {
		exec(t, d, "UPDATE accounts SET credit = 100000")
	}
	short := []tcc.Payload{holdAway{1, 1}, hold{1, 1 << 30}}
	all := map[string][]tcc.Payload{"short, here": short[1:], "short, mixed": short}
	for name, plan := range plans {
		all[name] = plan
	}
	for name, plan := range all {
		for _, committed := range []bool{false, true} {
			for nth := 1; ; nth++ {
				lost := loss.count()
				loss.arm(nth, committed)
				what := fmt.Sprintf("%s, COMMIT %d, made %t", name, nth, committed)
				b.executeTruthfully(what, plan)
				loss.arm(0, false)
				if loss.count() == lost {
					break // there are not so many
				}
			}
		}
	}
	if loss.count() < 20 {
		t.Errorf("only %d COMMITs were lost", loss.count())
	}
}

func (b *bench) executeTruthfully(what string, plan []tcc.Payload) {
	t, ctx := b.t, b.t.Context()
	t.Helper()
	before := b.spent()
	gid := newGID()
	_, err := tcc.Execute(ctx, b.orch, gid, plan...)
	if errors.Is(err, saga.ErrUnknown) {
		_, err = tcc.Execute(ctx, b.orch, gid, plan...)
	}
	// Whoever is left brings it to its end, now rather than at the next turn.
	helper := b.open(quick)
	running := make(chan error)
	stopping, stop := context.WithCancel(ctx)
	exec(t, b.db, "UPDATE saga_transactions SET due_at = created_at, owner = '' WHERE due_at IS NOT NULL AND state <> 'trying'")
	go func() { running <- helper.Run(stopping) }()
	defer func() { stop(); <-running }()
	switch {
	case err == nil:
		b.reaches(gid, saga.Confirmed)
		if got := b.spent() - before; got == 0 {
			t.Errorf("%s: told confirmed, and nothing was spent", what)
		}
	case errors.Is(err, saga.ErrCancelled):
		b.reaches(gid, saga.Cancelled)
		if got := b.spent() - before; got != 0 {
			t.Errorf("%s: told cancelled, and %d was spent", what, got)
		}
	default:
		t.Errorf("%s: %v", what, err)
	}
	for _, d := range []*gorm.DB{b.db, b.other} {
		var held int
		must(t, d.Raw("SELECT SUM(held) FROM accounts").Scan(&held).Error)
		if held != 0 {
			t.Errorf("%s: %d is still held", what, held)
		}
	}
}

// spent adds up what both databases say.
func (b *bench) spent() int {
	b.t.Helper()
	total := 0
	for _, d := range []*gorm.DB{b.db, b.other} {
		var spent int
		must(b.t, d.Raw("SELECT SUM(spent) FROM accounts").Scan(&spent).Error)
		total += spent
	}
	return total
}
