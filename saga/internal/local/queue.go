package local

import (
	"context"
	"database/sql"
	"runtime"
	"sync"
	"time"
	"weak"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// queue is where the local transactions of a process wait that write to the same
// SQLite database, which lets one write at a time. SQLite has no queue: whoever
// finds the database locked sleeps and tries again, while others overtake, and
// under load some never have luck.
//
// Only the local transactions of this package stand here. The others, and those
// of other processes, are met as before.
type queue chan struct{}

// queues has them by database, as long as it is in use.
var queues sync.Map // weak.Pointer[sql.DB] to queue

// patience is how long a place at the front is waited for. Who calls the
// database from within a local transaction on it would wait for ever, and hears
// from SQLite then that it is locked.
const patience = 5 * time.Second

// Exec runs one statement that is a local transaction by itself.
func Exec(ctx context.Context, db *gorm.DB, statement string, arguments ...any) (sql.Result, error) {
	leave, err := enter(ctx, db)
	if err != nil {
		return nil, err
	}
	defer leave()
	return db.Statement.ConnPool.ExecContext(ctx, statement, arguments...)
}

// Unordered lets the local transactions on a SQLite database come as they like.
func Unordered(pool *sql.DB) { remember(pool, nil) }

// enter waits for a turn to write to db, which lasts until leave is called.
func enter(ctx context.Context, db *gorm.DB) (leave func(), err error) {
	if db.Dialector.Name() != string(dialect.SQLite) {
		return func() {}, nil
	}
	pool, err := db.DB()
	if err != nil {
		return nil, err
	}
	q := queueOf(pool)
	if q == nil {
		return func() {}, nil
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case q <- struct{}{}:
		return func() { <-q }, nil
	case <-timer.C:
		return func() {}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func queueOf(pool *sql.DB) queue {
	if q, known := queues.Load(weak.Make(pool)); known {
		return q.(queue)
	}
	return remember(pool, make(queue, 1))
}

// remember returns the queue of pool, which is q if it had none.
func remember(pool *sql.DB, q queue) queue {
	key := weak.Make(pool)
	first, known := queues.LoadOrStore(key, q)
	if !known {
		runtime.AddCleanup(pool, func(key weak.Pointer[sql.DB]) { queues.Delete(key) }, key)
	}
	return first.(queue)
}
