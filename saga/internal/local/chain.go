package local

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"reflect"

	"github.com/go-sql-driver/mysql"
)

// chainConn is a connection of MySQL on which local transactions follow each other: COMMIT AND
// CHAIN commits, and begins the next one. So a local transaction needs no round trip to begin,
// unless the one before was rolled back. A local transaction without a statement has no
// snapshot and no locks, so it may wait for as long as the connection is kept.
//
// MySQL's manual, START TRANSACTION: the next transaction has the isolation level of the one
// before.
type chainConn struct {
	ownConn
	begun bool // by the COMMIT before
}

var (
	_ driver.Connector   = (*chainConn)(nil)
	_ driver.ConnBeginTx = (*chainConn)(nil)
	_ driver.Tx          = (*chainConn)(nil)
)

// chained is a chainConn in a pool of its own.
type chained struct {
	inner *chainConn
	pool  *sql.DB
	conn  *sql.Conn
}

// chain returns conn as one whose local transactions follow each other; nil if it has another
// driver than go-sql-driver/mysql, or one around it. Such a driver may count on being told of the
// begin of each transaction.
func chain(ctx context.Context, conn *sql.Conn) (*chained, error) {
	inner := &chainConn{}
	if err := inner.own(conn); err != nil {
		return nil, err
	}
	if t := reflect.TypeOf(inner.Conn); t.Kind() != reflect.Pointer || t.Elem().PkgPath() != reflect.TypeFor[mysql.Config]().PkgPath() {
		return nil, nil
	}
	pool := sql.OpenDB(inner)
	c, err := pool.Conn(ctx)
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &chained{inner, pool, c}, nil
}

// good reports whether the connection may be used again.
func (c *chained) good() bool {
	return c.conn.Raw(func(any) error {
		if c.inner.broken {
			return driver.ErrBadConn
		}
		return nil
	}) == nil
}

// close gives the connection back to nobody: it belongs to another pool.
func (c *chained) close() {
	c.conn.Close()
	c.pool.Close()
}

// Connect returns the connection itself.
func (c *chainConn) Connect(context.Context) (driver.Conn, error) { return c, nil }

// BeginTx begins the transaction, unless the COMMIT of the one before has done so.
func (c *chainConn) BeginTx(ctx context.Context, _ driver.TxOptions) (driver.Tx, error) {
	if !c.begun {
		if err := c.send(ctx, "START TRANSACTION"); err != nil {
			return nil, err
		}
	}
	c.begun = false
	return c, nil
}

// Commit commits, and begins the next transaction.
func (c *chainConn) Commit() error {
	err := c.send(context.Background(), "COMMIT AND CHAIN")
	c.begun = err == nil
	c.broken = c.broken || err != nil
	return err
}

// Rollback rolls back.
func (c *chainConn) Rollback() error {
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	err := c.send(ctx, "ROLLBACK")
	c.broken = c.broken || err != nil
	return err
}

// errChained is the error of a statement that is prepared on a chainConn: it would stay in the
// caches of gorm, which expect it on the user's pool.
var errChained = errors.New("the local transaction runs again, on a connection that takes prepared statements")
