package simulation

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	sagasql "github.com/tccsaga/tccsaga/sql"
)

// database is a SQLite file that all processes share.
type database struct {
	name   string
	driver driver.Driver
	dsn    string
	direct *sql.DB       // for the test itself: no gate, no faults
	offset time.Duration // of its clock

	replica    *replica
	replicated bool // reads outside of local transactions go to the replica

	io sync.Mutex // SQLite itself never has to wait

	mu     sync.Mutex
	writer *conn // who is in a local transaction; SQLite lets one
}

func (d *database) free() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writer == nil
}

// pass hands the write lock from one to another; nil is nobody.
func (d *database) pass(from, to *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.writer == from {
		d.writer = to
	}
}

func openDatabase(t *testing.T, name string) *database {
	t.Helper()
	// Nobody has to wait here, and so nobody has to lock.
	file := filepath.Join(t.TempDir(), name+".db")
	dsn := "file:" + file + "?nolock=1&_txlock=immediate&_pragma=journal_mode(MEMORY)&_pragma=synchronous(OFF)"
	direct, err := sql.Open(sqlite.DriverName, dsn)
	must(t, err)
	direct.SetMaxOpenConns(1)
	t.Cleanup(func() { direct.Close() })
	db, err := gorm.Open(&sqlite.Dialector{Conn: direct}, &gorm.Config{Logger: logger.Discard})
	must(t, err)
	must(t, sagasql.Migrate(t.Context(), db))
	for _, statement := range []string{
		`CREATE TABLE effects (number INTEGER PRIMARY KEY AUTOINCREMENT, gid TEXT, branch TEXT, op TEXT)`,
		`CREATE TABLE remarks (n INTEGER)`,
		`CREATE TABLE transitions (number INTEGER PRIMARY KEY AUTOINCREMENT, gid TEXT, state TEXT, epoch INTEGER, old_state TEXT, old_epoch INTEGER)`,
		`CREATE TRIGGER begun AFTER INSERT ON saga_transactions BEGIN
			INSERT INTO transitions (gid, state, epoch, old_state, old_epoch) VALUES (new.gid, new.state, new.epoch, '', 0); END`,
		`CREATE TRIGGER moved AFTER UPDATE ON saga_transactions WHEN new.state <> old.state OR new.epoch <> old.epoch BEGIN
			INSERT INTO transitions (gid, state, epoch, old_state, old_epoch) VALUES (new.gid, new.state, new.epoch, old.state, old.epoch); END`,
	} {
		_, err := direct.Exec(statement)
		must(t, err)
	}
	return &database{name: name, driver: direct.Driver(), dsn: dsn, direct: direct, replica: newReplica(t, direct.Driver(), file)}
}

// empty makes the database as it was when it was opened.
func (d *database) empty(t *testing.T) {
	t.Helper()
	d.pass(d.writer, nil)
	for _, table := range []string{"saga_transactions", "saga_branches", "saga_attempts", "saga_instances", "saga_kinds", "saga_acts",
		"saga_barrier", "effects", "transitions", "sqlite_sequence"} {
		_, err := d.direct.Exec("DELETE FROM " + table)
		must(t, err)
	}
	_, err := d.direct.Exec("UPDATE saga_cleaning SET after_gid = '', next_at = '2000-01-01 00:00:00.000'")
	must(t, err)
	d.replicated = false
	d.replicate()
}

// now is what the database takes for the time: not what the processes do.
func (d *database) now() string {
	return time.Now().Add(d.offset).UTC().Format("'2006-01-02 15:04:05.000'")
}

// connector makes the connections of one process to one database.
type connector struct {
	process  *process
	database *database
}

func (c connector) Driver() driver.Driver { return c.database.driver }

func (c connector) Connect(context.Context) (driver.Conn, error) {
	inner, err := c.database.driver.Open(c.database.dsn)
	if err != nil {
		return nil, err
	}
	opened := &conn{connector: c, inner: inner.(full)}
	c.process.own(opened)
	return opened, nil
}

// full is what the SQLite driver's connections can do.
type full interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
}

// conn is a connection whose calls wait at the gate.
type conn struct {
	connector
	inner full

	mu     sync.Mutex
	begun  bool      // a local transaction was begun
	first  string    // its first statement
	inTx   driver.Tx // since its first statement
	broken bool
}

// errBusy is what SQLite says when somebody else writes.
type errBusy struct{}

func (errBusy) Error() string { return "database is locked (5) (SQLITE_BUSY), on purpose" }
func (errBusy) Code() int     { return 5 }

// do passes the gate and then does what the fault leaves of the call.
func (c *conn) do(ctx context.Context, what string, writes bool, act func() error) error {
	if !c.IsValid() {
		return driver.ErrBadConn
	}
	undisturbed := act
	act = func() error {
		c.database.io.Lock()
		defer c.database.io.Unlock()
		return undisturbed()
	}
	if c.process.starting && !writes {
		return act() // the schema's check is not what is tested here
	}
	waiting := &call{process: c.process, database: c.database, what: what, writes: writes}
	f, err := c.process.world.gate.pass(ctx, waiting)
	if err != nil {
		return err
	}
	if f == dieAfter {
		defer c.process.die()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.process.dead() || c.broken:
		c.break_()
		return driver.ErrBadConn
	case f == failBefore && waiting.dice < 4 && !strings.HasPrefix(what, "COMMIT"):
		return errBusy{}
	case f == rolledBack && c.inTx != nil:
		c.rollback()
		return errBusy{}
	case f == rolledBack:
		return errBusy{}
	case f == failBefore:
		c.break_()
		return fmt.Errorf("connection lost before the call, on purpose: %w", io.ErrUnexpectedEOF)
	case f == failAfter:
		err := act()
		c.break_()
		if err != nil {
			return err
		}
		return fmt.Errorf("connection lost after the call, on purpose: %w", io.ErrUnexpectedEOF)
	}
	return act()
}

// lose breaks the connection; what was not committed is rolled back.
func (c *conn) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.break_()
}

func (c *conn) break_() {
	c.broken = true
	if c.inTx != nil {
		c.rollback()
	}
}

func (c *conn) rollback() error {
	c.database.io.Lock()
	defer c.database.io.Unlock()
	return c.rollbackLocked()
}

// rollbackLocked is rollback for who has SQLite's lock.
func (c *conn) rollbackLocked() error {
	defer c.leave()
	return c.inTx.Rollback()
}

func (c *conn) leave() {
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
	c.lose()
	c.database.io.Lock()
	defer c.database.io.Unlock()
	return c.inner.Close()
}

// BeginTx waits at no gate. The first statement does, and begins: it tells one
// local transaction from another.
func (c *conn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) {
	if !c.IsValid() {
		return nil, driver.ErrBadConn
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun, c.first = true, ""
	return tx{c}, nil
}

// begin takes the write lock, if the connection has still to begin.
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
	what := asker(ctx) + describe(query, arguments)
	err = c.do(ctx, what, !c.inside(), func() error {
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
	return result, err
}

func (c *conn) QueryContext(ctx context.Context, query string, arguments []driver.NamedValue) (rows driver.Rows, err error) {
	what := asker(ctx) + describe(query, arguments)
	reads := strings.HasPrefix(strings.ToUpper(strings.TrimSpace(query)), "SELECT") && !c.isBegun()
	err = c.do(ctx, what, !reads && !c.inside(), func() error {
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
		rows, err = readAll(found)
		return err
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// answered are rows that have left the database: whatever becomes of the
// connection, they do not ask it again.
type answered struct {
	columns []string
	rows    [][]driver.Value
}

func readAll(rows driver.Rows) (*answered, error) {
	defer rows.Close()
	a := &answered{columns: rows.Columns()}
	for {
		row := make([]driver.Value, len(a.columns))
		if err := rows.Next(row); err == io.EOF {
			return a, nil
		} else if err != nil {
			return nil, err
		}
		a.rows = append(a.rows, row)
	}
}

func (a *answered) Columns() []string { return a.columns }
func (a *answered) Close() error      { return nil }

func (a *answered) Next(into []driver.Value) error {
	if len(a.rows) == 0 {
		return io.EOF
	}
	copy(into, a.rows[0])
	a.rows = a.rows[1:]
	return nil
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

func (c *conn) atNow(query string) string {
	return strings.ReplaceAll(query, "'now'", c.database.now())
}

// askerKey is where a context says which caller it is of: two callers of one
// process may send the same statement at the same moment, and the seed decides
// which goes first.
type askerKey struct{}

func asker(ctx context.Context) string {
	if name, ok := ctx.Value(askerKey{}).(string); ok {
		return name + ": "
	}
	return ""
}

func describe(query string, arguments []driver.NamedValue) string {
	query = strings.Join(strings.Fields(query), " ")
	if len(query) > 90 {
		query = query[:90] + "..."
	}
	values := make([]string, len(arguments))
	for i, a := range arguments {
		if values[i] = fmt.Sprint(a.Value); len(values[i]) > 40 {
			values[i] = values[i][:40]
		}
	}
	return query + " [" + strings.Join(values, " ") + "]"
}

type tx struct{ conn *conn }

func (c *conn) beganWith() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first
}

func (t tx) Commit() error {
	return t.conn.do(context.Background(), "COMMIT after "+t.conn.beganWith(), false, func() error {
		if t.conn.inTx == nil {
			// As MySQL has it, also after it has rolled back by itself.
			t.conn.begun = false
			return nil
		}
		err := t.conn.inTx.Commit()
		t.conn.leave()
		return err
	})
}

// Rollback waits at no gate: it cannot fail, and nothing depends on when.
func (t tx) Rollback() error {
	t.conn.mu.Lock()
	defer t.conn.mu.Unlock()
	if t.conn.begun = false; t.conn.inTx == nil {
		return nil
	}
	return t.conn.rollback()
}
