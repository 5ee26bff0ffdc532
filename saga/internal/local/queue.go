package local

import (
	"context"
	"database/sql"
	"runtime"
	"sync"
	"time"
	"weak"
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

// queueTimeout bounds the wait for a turn. A call of the database from within a
// local transaction on it would wait for ever; after this time SQLite answers it
// that the database is locked.
const queueTimeout = 5 * time.Second

// Unordered lets the local transactions on a SQLite database come as they like.
func Unordered(pool *sql.DB) { remember(pool, nil) }

// enter waits for a turn to write to the SQLite database of pool, which lasts
// until leave is called.
func enter(ctx context.Context, pool *sql.DB) (leave func(), err error) {
	q := queueOf(pool)
	if q == nil {
		return func() {}, nil
	}
	timer := time.NewTimer(queueTimeout)
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
