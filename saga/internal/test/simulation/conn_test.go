package simulation

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

// connector makes the connections of one process to one database.
type connector struct {
	process  *process
	database *database
}

func (c connector) Driver() driver.Driver { return c.database.driver }

func (c connector) Connect(context.Context) (driver.Conn, error) {
	if c.process.dead() {
		return nil, driver.ErrBadConn
	}
	c.database.io.Lock()
	defer c.database.io.Unlock()
	inner, err := c.database.driver.Open(c.database.dsn)
	if err != nil {
		return nil, err
	}
	opened := &conn{connector: c, inner: inner.(sqliteConn)}
	c.process.track(opened)
	return opened, nil
}

// sqliteConn is a connection of the SQLite driver.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
}

// conn is a connection whose calls wait at the gate.
type conn struct {
	connector
	inner sqliteConn

	mu     sync.Mutex
	begun  bool      // the process has begun a local transaction
	first  string    // its first statement
	inTx   driver.Tx // from its first statement on
	broken bool
}

// errBusy is the error of SQLite while another connection writes.
type errBusy struct{}

func (errBusy) Error() string { return "database is locked (5) (SQLITE_BUSY), on purpose" }
func (errBusy) Code() int     { return 5 }

// do makes a call: it passes the gate, and then performs what its fault leaves of
// act.
func (c *conn) do(ctx context.Context, waiting *call, act func() error) error {
	if !c.IsValid() {
		return driver.ErrBadConn
	}
	waiting.process, waiting.database = c.process, c.database
	if c.process.starting && !waiting.writes {
		// The check of the schema has tests elsewhere.
		return c.locked(act)
	}
	f, err := c.process.world.gate.pass(ctx, waiting)
	if err != nil {
		return err
	}
	if f == dieAfter {
		defer c.process.die()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.perform(waiting, f, func() error { return c.locked(act) })
}

// locked calls act while nobody else calls SQLite.
func (c *conn) locked(act func() error) error {
	c.database.io.Lock()
	defer c.database.io.Unlock()
	return act()
}

// perform does what the fault leaves of the call.
func (c *conn) perform(made *call, f fault, act func() error) error {
	switch {
	case c.process.dead() || c.broken:
		c.breakLocked()
		return driver.ErrBadConn
	case f == failBefore && made.dice < 4 && !made.commits:
		return errBusy{}
	case f == rolledBack && c.inTx != nil:
		c.rollback()
		return errBusy{}
	case f == rolledBack:
		return errBusy{}
	case f == failBefore:
		c.breakLocked()
		return fmt.Errorf("connection lost before the call, on purpose: %w", io.ErrUnexpectedEOF)
	case f == failAfter:
		err := act()
		c.breakLocked()
		if err != nil {
			return err
		}
		return fmt.Errorf("connection lost after the call, on purpose: %w", io.ErrUnexpectedEOF)
	}
	return act()
}

// disconnect breaks the connection; the database rolls back what was not committed.
func (c *conn) disconnect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.breakLocked()
}

// breakLocked is disconnect for a caller that holds c.mu.
func (c *conn) breakLocked() {
	c.broken = true
	if c.inTx != nil {
		c.rollback()
	}
}

func (c *conn) rollback() error { return c.locked(c.rollbackLocked) }

// rollbackLocked is rollback for a caller that holds SQLite's lock.
func (c *conn) rollbackLocked() error {
	defer c.endTx()
	return c.inTx.Rollback()
}

func (c *conn) endTx() {
	c.inTx, c.begun = nil, false
	c.database.pass(c, nil)
}

func (c *conn) IsValid() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.broken
}

func (c *conn) Prepare(string) (driver.Stmt, error) { return nil, driver.ErrSkip }
func (c *conn) Begin() (driver.Tx, error)           { return c.BeginTx(context.Background(), driver.TxOptions{}) }
func (c *conn) ResetSession(context.Context) error  { return nil }

func (c *conn) Close() error {
	c.disconnect()
	return c.locked(c.inner.Close)
}

// BeginTx does not pass the gate. The first statement does, and begins: it tells
// one local transaction from another.
func (c *conn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) {
	if !c.IsValid() {
		return nil, driver.ErrBadConn
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun, c.first = true, ""
	return tx{c}, nil
}

// begin takes the write lock, if the process has begun a local transaction that
// the database has not.
func (c *conn) begin(what string) (err error) {
	if !c.begun || c.inTx != nil {
		return nil
	}
	c.first = what
	if c.inTx, err = c.inner.BeginTx(context.Background(), driver.TxOptions{}); err == nil {
		c.database.pass(nil, c)
	}
	return err
}

func (c *conn) ExecContext(ctx context.Context, query string, arguments []driver.NamedValue) (result driver.Result, err error) {
	what, sent := describe(ctx, query, arguments), time.Now()
	err = c.do(ctx, &call{what: what, writes: !c.inside()}, func() error {
		switch {
		case query == "ROLLBACK" && c.inTx != nil:
			result = driver.RowsAffected(0)
			return c.rollbackLocked()
		case query == "BEGIN" && c.inTx == nil:
			c.begun, result = true, driver.RowsAffected(0)
			return c.begin(what)
		}
		if err := c.begin(what); err != nil {
			return err
		}
		result, err = c.inner.ExecContext(context.Background(), c.atNow(query), arguments)
		return err
	})
	if err == nil && strings.HasPrefix(query, "INSERT INTO saga_instances") {
		c.process.renewed(sent)
	}
	return result, err
}

func (c *conn) QueryContext(ctx context.Context, query string, arguments []driver.NamedValue) (rows driver.Rows, err error) {
	key := ""
	if c.process.starting && ofSchema.MatchString(query) {
		key = query + fmt.Sprint(arguments)
		if known := c.database.known(key); known != nil {
			return known, nil
		}
	}
	what := describe(ctx, query, arguments)
	reads := strings.HasPrefix(strings.ToUpper(strings.TrimSpace(query)), "SELECT") && !c.isBegun()
	err = c.do(ctx, &call{what: what, writes: !reads && !c.inside()}, func() error {
		if err := c.begin(what); err != nil {
			return err
		}
		asked := c.inner
		if reads && c.database.replicated && !c.process.starting {
			asked = c.database.replica.conn
		}
		found, err := asked.QueryContext(context.Background(), c.atNow(query), arguments)
		if err != nil {
			return err
		}
		all, err := readAll(found)
		if rows = all; err == nil && key != "" {
			c.database.keep(key, all)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

func (c *conn) isBegun() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.begun
}

// inside says whether the connection is in a local transaction.
func (c *conn) inside() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inTx != nil
}

// ofSchema matches the statements that only check the schema.
var ofSchema = regexp.MustCompile(`sqlite_master|FROM pragma_|WHERE 1 = 0|FROM saga_schema`)

// atNow puts the time of the database's clock into the query.
func (c *conn) atNow(query string) string {
	return strings.ReplaceAll(query, "'now'", c.database.now())
}

// tx is a local transaction.
type tx struct{ conn *conn }

func (c *conn) beganWith() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first
}

func (t tx) Commit() error {
	return t.conn.do(context.Background(), &call{what: "COMMIT after " + t.conn.beganWith(), commits: true}, func() error {
		if t.conn.inTx == nil {
			// MySQL, too, accepts a COMMIT after it has rolled back by itself.
			t.conn.begun = false
			return nil
		}
		err := t.conn.inTx.Commit()
		t.conn.endTx()
		return err
	})
}

// Rollback does not pass the gate: it cannot fail, and nothing depends on its
// moment.
func (t tx) Rollback() error {
	t.conn.mu.Lock()
	defer t.conn.mu.Unlock()
	if t.conn.begun = false; t.conn.inTx == nil {
		return nil
	}
	return t.conn.rollback()
}
