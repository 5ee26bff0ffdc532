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
// of round trips by transaction. So Shared sets up connections of its own, keeps a
// few of them for a second, and never gives one back to the pool.
type Shared struct {
	db    *gorm.DB
	pool  *sql.DB
	share *share
	setUp []string      // statements for a new connection on MySQL
	limit bool          // lock waits are limited
	rest  time.Duration // how long a connection is kept that nobody uses
	most  int           // how many are kept

	mu     sync.Mutex
	idle   []*session
	closed bool
}

// NewShared returns a Shared on db.
func NewShared(db *gorm.DB) (*Shared, error) {
	pool, err := Pool(db)
	if err != nil {
		return nil, err
	}
	own := shareOf(pool)
	return &Shared{db: db, pool: pool, share: own, limit: true, rest: sessionRest, most: own.kept,
		setUp: []string{readCommittedSession, "SET innodb_lock_wait_timeout = 1"}}, nil
}

// NewKept returns a Shared that does not limit lock waits. It is for somebody who runs
// one local transaction after the other: it saves the round trip that MySQL needs to
// set the isolation level. It keeps at most that many connections.
func NewKept(db *gorm.DB, most int) (*Shared, error) {
	pool, err := Pool(db)
	if err != nil {
		return nil, err
	}
	own := shareOf(pool)
	return &Shared{db: db, pool: pool, share: own, rest: keptRest, most: min(most, own.kept), setUp: []string{readCommittedSession}}, nil
}

const readCommittedSession = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"

// session is a connection that is set up for shared work.
type session struct {
	conn *sql.Conn
	rest *time.Timer // ends the session when it is idle for long
}

// sessionRest is how long a session is kept that nobody uses.
const (
	sessionRest = time.Second
	keptRest    = 30 * time.Second
)

// Run does work; see [Run].
func (s *Shared) Run(ctx context.Context, work func(tx *gorm.DB) error) error {
	err := run(ctx, func() (bool, error) {
		again, err := s.once(ctx, work)
		return again && !(s.limit && waitedTooLong(err)), err
	})
	if err != nil && s.limit && waitedTooLong(err) {
		return fmt.Errorf("%w: %w", ErrLockWait, err)
	}
	return err
}

func (s *Shared) once(ctx context.Context, work func(tx *gorm.DB) error) (bool, error) {
	switch dialectOf(s.db) {
	case dialect.MySQL:
		return once(ctx, s.db, s.take, work)
	case dialect.Postgres:
		if !s.limit {
			break
		}
		limited := func(tx *gorm.DB) error {
			if _, err := tx.Statement.ConnPool.ExecContext(ctx, "SET LOCAL lock_timeout = '1s'"); err != nil {
				return fmt.Errorf("limiting lock waits: %w", err)
			}
			return work(tx)
		}
		return once(ctx, s.db, func(ctx context.Context) (*connection, error) { return connect(ctx, s.db) }, limited)
	}
	return once(ctx, s.db, func(ctx context.Context) (*connection, error) { return connect(ctx, s.db) }, work)
}

// take returns the connection of a session that nobody uses.
func (s *Shared) take(ctx context.Context) (*connection, error) {
	leave, err := s.share.take(ctx)
	if err != nil {
		return nil, err
	}
	l := s.kept()
	if l == nil {
		if l, err = s.open(ctx); err != nil {
			leave()
			return nil, err
		}
	}
	return &connection{conn: l.conn, release: func(spoiled bool) {
		s.put(l, spoiled)
		leave()
	}}, nil
}

func (s *Shared) kept() *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.idle) > 0 {
		l := s.idle[len(s.idle)-1]
		s.idle = s.idle[:len(s.idle)-1]
		if l.rest.Stop() {
			return l
		}
		// It is ending.
	}
	return nil
}

func (s *Shared) open(ctx context.Context) (*session, error) {
	conn, err := s.pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	l := &session{conn: conn}
	for _, statement := range s.setUp {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			l.end()
			return nil, fmt.Errorf("setting up a connection: %w", err)
		}
	}
	return l, nil
}

// put keeps a session for the next one, if its connection is still good and few
// are kept.
func (s *Shared) put(l *session, spoiled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || spoiled || len(s.idle) >= s.most || !l.good() {
		l.end()
		return
	}
	l.rest = time.AfterFunc(s.rest, func() { s.drop(l) })
	s.idle = append(s.idle, l)
}

// drop ends a session that nobody has used for long.
func (s *Shared) drop(l *session) {
	s.mu.Lock()
	for i, other := range s.idle {
		if other == l {
			s.idle = append(s.idle[:i], s.idle[i+1:]...)
			break
		}
	}
	s.mu.Unlock()
	l.end()
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

func (l *session) good() bool {
	return l.conn.Raw(func(conn any) error {
		if v, ok := conn.(driver.Validator); ok && !v.IsValid() {
			return driver.ErrBadConn
		}
		return nil
	}) == nil
}

// end closes the connection for good: nobody else would expect its settings.
func (l *session) end() {
	discard(l.conn)
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
