package xa

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/tccsaga/tccsaga/saga"
)

// On MariaDB, and on MySQL without xa_detach_on_prepare, only the connection that has prepared a
// transaction can end it, until the connection has ended. While the server ends the connection,
// there is a moment in which MariaDB 10.11 answers the XA COMMIT of another connection with
// success and does not commit. The transaction then stays prepared, is not listed, and can only
// be ended after a restart of the server. TestEndedWhileTheConnectionCloses shows it.
//
// So another connection sends nothing before the connection is gone for endGrace. To know that,
// each connection holds a lock of the server, GET_LOCK, and the xid names it: its format is the
// number of the lock. The server frees the lock shortly before the end of that moment. After
// the COMMIT or ROLLBACK, the barrier row shows whether the server has done it.

// endGrace is how long a connection has to be gone.
const endGrace = time.Second

// lockName is the name of the lock of a connection.
func lockName(mark uint32) string { return prefix + strconv.FormatUint(uint64(mark), 10) }

// mark takes the lock of a new connection, and returns its number.
func mark(ctx context.Context, conn *sql.Conn) (uint32, error) {
	for {
		// At least 2: the format of an xid without a lock is 1. MySQL's formats have 31 bits.
		number := 2 + rand.Uint32N(1<<31-3)
		var got sql.NullInt64
		if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK('"+lockName(number)+"', 0)").Scan(&got); err != nil {
			return 0, fmt.Errorf("take its lock: %w", err)
		}
		if got.Int64 == 1 {
			return number, nil
		}
		if !got.Valid {
			return 0, errors.New("take its lock: the server returned NULL")
		}
	}
}

// sessions knows which connections have ended.
type sessions struct {
	mu   sync.Mutex
	gone map[uint32]time.Time // since when the lock has been seen free
}

// mostGone is how many connections are remembered. A forgotten one costs another endGrace.
const mostGone = 4096

// note records that a lock is free, and returns since when that is known.
func (s *sessions) note(mark uint32) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if since, known := s.gone[mark]; known {
		return since
	}
	if s.gone == nil || len(s.gone) >= mostGone {
		s.gone = make(map[uint32]time.Time)
	}
	now := time.Now()
	s.gone[mark] = now
	return now
}

// awaitEnd returns when the connection with the mark has been gone for endGrace. If it is still
// open, the error wraps [saga.ErrOngoing].
func (d *Database) awaitEnd(ctx context.Context, mark uint32) error {
	since, err := d.seenGone(ctx, mark)
	if err != nil {
		return err
	}
	timer := time.NewTimer(time.Until(since.Add(endGrace)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// seenGone returns since when a connection is known to be gone.
func (d *Database) seenGone(ctx context.Context, mark uint32) (time.Time, error) {
	for run := 0; ; run++ {
		holder, err := setting(ctx, d.db, "SELECT IS_USED_LOCK('"+lockName(mark)+"')")
		switch {
		case err != nil:
			return time.Time{}, fmt.Errorf("look for the connection that has prepared the transaction: %w", err)
		case holder == "":
			return d.sessions.note(mark), nil
		case run == maxLooks:
			return time.Time{}, fmt.Errorf("only the connection that has prepared the transaction can end it, and it is still open, in this process or in another one: connection %s: %w",
				holder, saga.ErrOngoing)
		case !look(ctx, run):
			return time.Time{}, context.Cause(ctx)
		}
	}
}
