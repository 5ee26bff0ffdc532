package local

import (
	"context"
	"database/sql"
	"sync"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// Exec runs one statement as a local transaction of its own.
func Exec(ctx context.Context, db *gorm.DB, statement string, arguments ...any) (sql.Result, error) {
	c, err := connect(ctx, db)
	if err != nil {
		return nil, err
	}
	result, err := c.conn.ExecContext(ctx, statement, arguments...)
	c.release(err != nil && readOnly(err))
	return result, err
}

// Reserved runs single statements on a connection that it keeps, so that heartbeats do not
// wait for a connection under load. After an error it takes a new connection, which may
// lead to another server after a failover. It keeps no connection of a pool with less than
// three connections, and none of SQLite.
//
// Only one goroutine at a time may call Exec. Any goroutine may call Close.
type Reserved struct {
	db   *gorm.DB
	pool *sql.DB

	mu     sync.Mutex
	conn   *sql.Conn
	closed bool
}

// NewReserved returns a Reserved on db.
func NewReserved(db *gorm.DB) (*Reserved, error) {
	pool, err := Pool(db)
	return &Reserved{db: db, pool: pool}, err
}

// Exec runs one statement.
func (r *Reserved) Exec(ctx context.Context, statement string, arguments ...any) (sql.Result, error) {
	if dialectOf(r.db) == dialect.SQLite {
		return Exec(ctx, r.db, statement, arguments...)
	}
	if most := r.pool.Stats().MaxOpenConnections; most > 0 && most < 3 {
		return r.pool.ExecContext(ctx, statement, arguments...)
	}
	for {
		conn, kept, err := r.take(ctx)
		if err != nil {
			return nil, err
		}
		result, err := conn.ExecContext(ctx, statement, arguments...)
		r.put(conn, err == nil)
		if err == nil || !kept || ctx.Err() != nil || !looksLost(err) && !readOnly(err) {
			return result, err
		}
		// Perhaps only the old connection is lost: try a new one.
	}
}

func (r *Reserved) take(ctx context.Context) (conn *sql.Conn, kept bool, err error) {
	r.mu.Lock()
	conn = r.conn
	r.conn = nil
	r.mu.Unlock()
	if conn != nil {
		return conn, true, nil
	}
	conn, err = r.pool.Conn(ctx)
	return conn, false, err
}

func (r *Reserved) put(conn *sql.Conn, good bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if good && !r.closed {
		r.conn = conn
		return
	}
	if !good {
		discard(conn)
	}
	conn.Close()
}

// Close gives the connection back.
func (r *Reserved) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.conn != nil {
		r.conn.Close()
		r.conn = nil
	}
}
