package local

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"
)

// TwoPhase has the statements of a local transaction that is prepared before it is committed.
type TwoPhase struct {
	Begin    string
	NotBegun string   // is sent if Begin has failed; empty for nothing
	End      string   // is sent before Prepare; empty for nothing
	Prepare  string   // if it fails, the connection is closed
	Rollback []string // before Prepare; only the last of them has to succeed
}

// Prepared is the connection of a prepared local transaction. It holds a part of the pool's
// share until Release or Close is called. Only one goroutine at a time may use it.
type Prepared struct {
	conn    *sql.Conn
	mark    uint32
	release func(unusable bool)
	failed  bool
}

// Prepare runs work in a local transaction, as Run does, and prepares it instead of
// committing it. The statements may depend on the mark of the connection; see SetMark. If the
// answer to the last statement is lost, the error wraps ErrCommitUnknown: the transaction may
// be prepared.
func (s *Shared) Prepare(ctx context.Context, statements func(mark uint32) TwoPhase, work func(tx *gorm.DB) error) (*Prepared, error) {
	var prepared *Prepared
	err := run(ctx, func() (again bool, err error) {
		prepared, again, err = s.prepareOnce(ctx, statements, work)
		return again, err
	})
	return prepared, err
}

func (s *Shared) prepareOnce(ctx context.Context, statements func(mark uint32) TwoPhase, work func(tx *gorm.DB) error) (p *Prepared, again bool, err error) {
	outer, err := s.take(ctx)
	if err != nil {
		return nil, beginAgain(err), fmt.Errorf("begin: %w", err)
	}
	inner := &twoPhaseConn{statements: statements(outer.mark)}
	done, unusable := false, true
	defer func() {
		if !done { // also after a panic of work
			outer.release(unusable || inner.broken)
		}
	}()
	if err = inner.own(outer.conn); err != nil {
		return nil, beginAgain(err), fmt.Errorf("begin: %w", err)
	}
	// A *sql.Tx of its own, so that rows and statements of user code end with it.
	pool := sql.OpenDB(inner)
	defer pool.Close()
	connect := func(ctx context.Context) (*connection, error) {
		conn, connErr := pool.Conn(ctx)
		if connErr != nil {
			return nil, connErr
		}
		return &connection{pool: s.pool, conn: conn, twoPhase: true, release: func(u bool) { unusable = u; conn.Close() }}, nil
	}
	if again, err = once(ctx, s.db, connect, work); err != nil {
		return nil, again, err
	}
	done = true
	return &Prepared{conn: outer.conn, mark: outer.mark, release: outer.release}, false, nil
}

// Exec sends a statement on the connection.
func (p *Prepared) Exec(ctx context.Context, statement string) error {
	_, err := p.conn.ExecContext(ctx, statement)
	p.failed = p.failed || err != nil
	return err
}

// Mark returns the mark of the connection; see SetMark.
func (p *Prepared) Mark() uint32 { return p.mark }

// Release gives the connection back, or closes it after an error of Exec.
func (p *Prepared) Release() { p.release(p.failed) }

// Close closes the connection. The prepared transaction stays.
func (p *Prepared) Close() { p.release(true) }

// errPrepareStmt is the error of a gorm session with PrepareStmt. Its statements belong to the
// user's pool, and would stay in gorm's cache.
var errPrepareStmt = errors.New("a local transaction that is prepared takes no session with PrepareStmt: use a session without it")

// failedContext is a context whose Err is its cause.
type failedContext struct{ context.Context }

func (c failedContext) Err() error { return context.Cause(c.Context) }

// twoPhaseConn begins, prepares and rolls back with the statements of a TwoPhase.
type twoPhaseConn struct {
	ownConn
	statements TwoPhase
}

var (
	_ driver.Connector   = (*twoPhaseConn)(nil)
	_ driver.ConnBeginTx = (*twoPhaseConn)(nil)
	_ driver.Tx          = (*twoPhaseConn)(nil)
)

// Connect returns the connection itself.
func (c *twoPhaseConn) Connect(context.Context) (driver.Conn, error) { return c, nil }

// BeginTx begins the transaction.
func (c *twoPhaseConn) BeginTx(ctx context.Context, _ driver.TxOptions) (driver.Tx, error) {
	if err := c.send(ctx, c.statements.Begin); err != nil {
		// Not Rollback: it would roll back another transaction with the same name.
		c.broken = c.broken || c.send(ctx, c.statements.NotBegun) != nil
		return nil, err
	}
	return c, nil
}

// Commit prepares the transaction.
func (c *twoPhaseConn) Commit() error {
	ctx := context.Background()
	if err := c.send(ctx, c.statements.End); err != nil {
		_ = c.Rollback()
		return err
	}
	err := c.send(ctx, c.statements.Prepare)
	c.broken = c.broken || err != nil
	return err
}

// endTimeout limits the statements that roll back.
const endTimeout = 10 * time.Second

// Rollback rolls back.
func (c *twoPhaseConn) Rollback() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	for _, statement := range c.statements.Rollback {
		err = c.send(ctx, statement)
	}
	c.broken = c.broken || err != nil
	return err
}
