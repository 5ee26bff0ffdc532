package local

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// ErrLockWait is wrapped by the error of Shared.Run if a lock wait took too long.
var ErrLockWait = errors.New("the wait for a lock took too long")

// Shared runs local transactions on connections of its own.
//
// MySQL sets the isolation level and the limit of lock waits per connection, or per transaction
// with more round trips. So Shared sets up connections, keeps a few of them for a while, and
// never gives one back to the pool. The local transactions on such a connection follow each
// other without a round trip to begin; see chainConn.
//
// NewShared is for the work of several callers in one local transaction. One of them may need a
// lock that another transaction holds for long. So such a Shared waits for each lock at most one
// second, and does not try again. SQLite has a single lock for all writers; its busy timeout
// applies instead. NewKept and NewSpare do not limit lock waits.
type Shared struct {
	db          *gorm.DB
	pool        *sql.DB
	share       *share
	setUp       []string // statements for a new connection of MySQL
	mark        func(ctx context.Context, conn *sql.Conn) (uint32, error)
	limit       bool          // lock waits are limited
	idleTimeout time.Duration // of a kept connection
	maxIdle     int           // kept connections
	spare       bool          // it sets up no more connections than it keeps
	prepares    atomic.Bool   // user code prepares statements, so that nothing is chained

	mu       sync.Mutex
	idle     []*session
	sessions int // idle ones, and those in use
	closed   bool
}

// NewShared returns a Shared on db that limits lock waits. It keeps a connection for a second.
func NewShared(db *gorm.DB) (*Shared, error) {
	pool, err := Pool(db)
	if err != nil {
		return nil, err
	}
	own := shareOf(pool)
	return &Shared{db: db, pool: pool, share: own, limit: true, idleTimeout: time.Second, maxIdle: own.keptShared(),
		setUp: []string{readCommittedSession, "SET innodb_lock_wait_timeout = 1"}}, nil
}

// NewKept returns a Shared that does not limit lock waits. It is for a caller that runs one
// local transaction after the other. It saves the round trip that sets the isolation level
// on MySQL. It keeps at most maxIdle connections, for half a minute without use.
func NewKept(db *gorm.DB, maxIdle int) (*Shared, error) {
	pool, err := Pool(db)
	if err != nil {
		return nil, err
	}
	own := shareOf(pool)
	return &Shared{db: db, pool: pool, share: own, idleTimeout: 30 * time.Second, maxIdle: min(maxIdle, own.kept), setUp: []string{readCommittedSession}}, nil
}

// NewSpare returns a Shared like that of NewKept for callers that may run many local
// transactions at once: those that find none of at most maxIdle connections free use
// connections of the pool. It keeps a connection for a second. It and NewShared divide the
// connections that may be kept.
func NewSpare(db *gorm.DB, maxIdle int) (*Shared, error) {
	s, err := NewKept(db, maxIdle)
	if err != nil {
		return nil, err
	}
	s.spare, s.idleTimeout, s.maxIdle = true, time.Second, min(maxIdle, s.share.kept-s.share.keptShared())
	return s, nil
}

const readCommittedSession = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"

// Size returns the most local transactions that run on the pool at once; 0 is no limit.
func (s *Shared) Size() int { return cap(s.share.slots) }

// session is a connection that Shared has set up.
type session struct {
	conn    *sql.Conn
	chained *chained    // the same, as local transactions use it; nil if they do not
	mark    uint32      // see SetMark
	idle    *time.Timer // ends the session after the idle timeout
}

// SetMark makes Prepare call mark once for each new connection. The mark that it returns goes
// to the statements of the local transactions on that connection.
func (s *Shared) SetMark(mark func(ctx context.Context, conn *sql.Conn) (uint32, error)) {
	s.mark = mark
}

// Run runs work as the function [Run] does.
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
		return once(ctx, s.db, s.chain, work)
	case dialect.Postgres:
		if !s.limit {
			break
		}
		limited := func(tx *gorm.DB) error {
			if _, err := tx.Statement.ConnPool.ExecContext(ctx, "SET LOCAL lock_timeout = '1s'"); err != nil {
				return fmt.Errorf("limit lock waits: %w", err)
			}
			return work(tx)
		}
		return once(ctx, s.db, func(ctx context.Context) (*connection, error) { return connect(ctx, s.db) }, limited)
	}
	return once(ctx, s.db, func(ctx context.Context) (*connection, error) { return connect(ctx, s.db) }, work)
}

// chain is take for a local transaction that may follow the one before.
func (s *Shared) chain(ctx context.Context) (*connection, error) {
	c, err := s.take(ctx)
	if err != nil || c.session == nil || s.prepares.Load() {
		return c, err
	}
	if c.session.chained == nil {
		if c.session.chained, err = chain(ctx, c.conn); err != nil {
			c.release(true)
			return nil, err
		}
	}
	if c.session.chained != nil {
		c.conn, c.unchain = c.session.chained.conn, func() { s.prepares.Store(true) }
	}
	return c, nil
}

// take returns the connection of an idle or a new session. With spare, it may be one of the
// pool.
func (s *Shared) take(ctx context.Context) (*connection, error) {
	leave, err := s.share.take(ctx)
	if err != nil {
		return nil, err
	}
	c, full := s.kept()
	if full {
		return pooled(ctx, s.pool, readCommitted, leave)
	}
	if c == nil {
		if c, err = s.begin(ctx); err != nil {
			s.ended()
			leave()
			return nil, err
		}
	}
	return &connection{pool: s.pool, conn: c.conn, session: c, mark: c.mark, release: func(unusable bool) {
		s.put(c, unusable)
		leave()
	}}, nil
}

// kept returns an idle session; nil if one more has to be begun. Full says that it may not.
func (s *Shared) kept() (c *session, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.idle) > 0 {
		c := s.idle[len(s.idle)-1]
		s.idle = s.idle[:len(s.idle)-1]
		if c.idle.Stop() {
			return c, false
		}
		// Its timer has fired, and ends it.
	}
	if s.spare && s.sessions >= s.maxIdle {
		return nil, true
	}
	s.sessions++
	return nil, false
}

// ended notes that a session has ended.
func (s *Shared) ended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions--
}

// begin begins a session. The caller notes it if that fails.
func (s *Shared) begin(ctx context.Context) (*session, error) {
	conn, err := s.pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	c := &session{conn: conn}
	if s.mark != nil {
		if c.mark, err = s.mark(ctx, conn); err != nil {
			c.end()
			return nil, fmt.Errorf("mark a connection: %w", err)
		}
	}
	if dialectOf(s.db) != dialect.MySQL {
		return c, nil
	}
	for _, statement := range s.setUp {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			c.end()
			return nil, fmt.Errorf("set up a connection: %w", err)
		}
	}
	return c, nil
}

// put keeps a session if its connection is good and less than maxIdle are kept. Otherwise
// it ends the session.
func (s *Shared) put(c *session, unusable bool) {
	if !s.keep(c, unusable) {
		c.end()
		s.ended()
	}
}

func (s *Shared) keep(c *session, unusable bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || unusable || len(s.idle) >= s.maxIdle || !c.good() {
		return false
	}
	c.idle = time.AfterFunc(s.idleTimeout, func() { s.drop(c) })
	s.idle = append(s.idle, c)
	return true
}

// drop ends a session after its idle timeout.
func (s *Shared) drop(c *session) {
	s.mu.Lock()
	s.idle = slices.DeleteFunc(s.idle, func(other *session) bool { return other == c })
	s.mu.Unlock()
	c.end()
	s.ended()
}

// Close ends the kept sessions.
func (s *Shared) Close() {
	s.mu.Lock()
	idle := s.idle
	s.closed, s.idle = true, nil
	s.mu.Unlock()
	for _, c := range idle {
		if c.idle.Stop() {
			c.end()
			s.ended()
		}
	}
}

func (c *session) good() bool {
	if c.chained != nil && !c.chained.good() {
		return false
	}
	return c.conn.Raw(func(conn any) error {
		if v, ok := conn.(driver.Validator); ok && !v.IsValid() {
			return driver.ErrBadConn
		}
		return nil
	}) == nil
}

// end closes the connection instead of giving it back: nobody else expects its settings.
func (c *session) end() {
	if c.chained != nil {
		c.chained.close()
	}
	discard(c.conn)
	c.conn.Close()
}

// waitedTooLong reports whether err is MySQL's 1205 or PostgreSQL's 55P03.
func waitedTooLong(err error) bool {
	if number, ok := mysqlNumber(err); ok {
		return number == 1205
	}
	state, ok := sqlState(err)
	return ok && state == "55P03"
}
