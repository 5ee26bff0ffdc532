package local

import (
	"context"
	"database/sql"
	"runtime"
	"sync"
	"time"
	"weak"
)

// queue orders the local transactions of a process on the same SQLite database, which
// allows one writer at a time. SQLite itself has no queue: a writer that finds the
// database locked sleeps and tries again while others overtake it. Under load, some
// writers never succeed.
//
// Only the local transactions of this package wait in the queue. Other writers, in this
// process and in others, still compete with them.
type queue chan struct{}

// queues has the queues of the databases in use.
var queues sync.Map // weak.Pointer[sql.DB] to queue

// queueTimeout limits the wait in the queue. A local transaction inside another one on the
// same database would wait for ever. After this time it goes on, and SQLite reports that
// the database is locked.
const queueTimeout = 5 * time.Second

// Unordered turns off the queue of a SQLite database.
func Unordered(pool *sql.DB) { remember(pool, nil) }

// enter waits for the turn to write to the SQLite database of pool. The turn lasts until
// leave is called.
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

// remember returns the queue of pool. If there is none, it stores q.
func remember(pool *sql.DB, q queue) queue {
	key := weak.Make(pool)
	first, known := queues.LoadOrStore(key, q)
	if !known {
		runtime.AddCleanup(pool, func(key weak.Pointer[sql.DB]) { queues.Delete(key) }, key)
	}
	return first.(queue)
}
