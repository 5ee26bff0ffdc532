package local

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// ErrLockWait is wrapped by the error of Shared.Run when it has waited too long
// for a lock.
var ErrLockWait = errors.New("a lock was held too long by somebody else")

// Shared runs the work of several callers in one local transaction, of which
// perhaps only one needs a lock that somebody else holds for long: it waits for
// each lock at most one second, and does not try again. SQLite has only one lock,
// which everybody needs; for that its busy timeout holds.
//
// MySQL knows isolation and the limit of lock waits by connection, or at the price
// of three more round trips by transaction. So Shared keeps connections of its own
// for a while, set up once, which never go back to the pool.
type Shared struct {
	db   *gorm.DB
	pool *sql.DB

	mu     sync.Mutex
	idle   []*lane
	closed bool
}

// NewShared returns a Shared on db.
func NewShared(db *gorm.DB) (*Shared, error) {
	pool, err := db.DB()
	return &Shared{db: db, pool: pool}, err
}

// lane is a connection that is set up for shared work.
type lane struct {
	conn *sql.Conn
	db   *gorm.DB    // on it
	rest *time.Timer // ends the lane when it is idle for long
}

const (
	// laneRest is how long a lane is kept that nobody uses.
	laneRest = time.Second

	// fewConnections are too few for keeping some of them.
	fewConnections = 8
)

// Run does work; see [Run].
func (s *Shared) Run(ctx context.Context, work func(tx *gorm.DB) error) error {
	err := run(ctx, func() error { return s.once(ctx, work) }, func(err error) bool {
		return Passing(err) && !errors.Is(err, ErrCommitUnknown) && !waitedTooLong(err)
	})
	if err != nil && waitedTooLong(err) {
		return fmt.Errorf("%w: %w", ErrLockWait, err)
	}
	return err
}

func (s *Shared) once(ctx context.Context, work func(tx *gorm.DB) error) error {
	switch most := s.pool.Stats().MaxOpenConnections; {
	case s.db.Dialector.Name() == string(dialect.Postgres):
		return once(ctx, s.db, readCommitted, func(tx *gorm.DB) error { return limited(tx, "SET LOCAL lock_timeout = '1s'", "", work) })
	case s.db.Dialector.Name() != string(dialect.MySQL):
		return once(ctx, s.db, readCommitted, work)
	case most > 0 && most < fewConnections:
		return once(ctx, s.db, readCommitted, func(tx *gorm.DB) error {
			return limited(tx, "SET @tccsaga_lock_wait = @@innodb_lock_wait_timeout, innodb_lock_wait_timeout = 1",
				"SET innodb_lock_wait_timeout = @tccsaga_lock_wait", work)
		})
	}
	l, err := s.take(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer s.put(l)
	return once(ctx, l.db, nil, work)
}

// limited does work in tx between two statements, of which the second may be
// empty.
func limited(tx *gorm.DB, limit, restore string, work func(tx *gorm.DB) error) error {
	pool, ctx := tx.Statement.ConnPool, tx.Statement.Context
	if _, err := pool.ExecContext(ctx, limit); err != nil {
		return fmt.Errorf("limiting lock waits: %w", err)
	}
	err := work(tx)
	if restore != "" {
		if _, restoreErr := pool.ExecContext(ctx, restore); restoreErr != nil && err == nil {
			return fmt.Errorf("restoring the limit of lock waits: %w", restoreErr)
		}
	}
	return err
}

// take returns a lane that nobody uses.
func (s *Shared) take(ctx context.Context) (*lane, error) {
	s.mu.Lock()
	for len(s.idle) > 0 {
		l := s.idle[len(s.idle)-1]
		s.idle = s.idle[:len(s.idle)-1]
		if l.rest.Stop() {
			s.mu.Unlock()
			return l, nil
		}
		// It is ending.
	}
	s.mu.Unlock()
	conn, err := s.pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	l := &lane{conn: conn}
	for _, statement := range []string{"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", "SET innodb_lock_wait_timeout = 1"} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			l.end()
			return nil, fmt.Errorf("setting up a connection: %w", err)
		}
	}
	l.db = s.db.Session(&gorm.Session{NewDB: true, Context: context.WithoutCancel(ctx)})
	l.db.Statement.ConnPool = conn
	return l, nil
}

// put keeps a lane for the next one, if its connection is still good.
func (s *Shared) put(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !l.good() {
		l.end()
		return
	}
	l.rest = time.AfterFunc(laneRest, l.end)
	s.idle = append(s.idle, l)
}

// Close ends the connections that are kept.
func (s *Shared) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, l := range s.idle {
		if l.rest.Stop() {
			l.end()
		}
	}
	s.idle = nil
}

func (l *lane) good() bool {
	return l.conn.Raw(func(conn any) error {
		if v, ok := conn.(driver.Validator); ok && !v.IsValid() {
			return driver.ErrBadConn
		}
		return nil
	}) == nil
}

// end closes the connection for good: nobody else would expect its settings.
func (l *lane) end() {
	l.conn.Raw(func(any) error { return driver.ErrBadConn })
	l.conn.Close()
}

// waitedTooLong says whether err is MySQL's 1205 or PostgreSQL's 55P03.
func waitedTooLong(err error) bool {
	if number, ok := mysqlNumber(err); ok {
		return number == 1205
	}
	state, ok := sqlState(err)
	return ok && state == "55P03"
}
