package call

import (
	"context"
	"errors"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// Shared runs local transactions in the engine's own database that several transactions
// share, and makes the calls in them. It is safe for concurrent use.
type Shared struct {
	calls    *Caller
	db       *gorm.DB
	shared   *local.Shared
	alone    *local.Shared
	maxBatch int
}

// maxAlone is the number of connections that are kept for local transactions of one member.
const maxAlone = 4

// NewShared returns a Shared on db, whose batches have at most maxBatch members.
func NewShared(db *gorm.DB, calls *Caller, maxBatch int) (*Shared, error) {
	shared, err := local.NewShared(db)
	if err != nil {
		return nil, err
	}
	alone, err := local.NewSpare(db, maxAlone)
	if err != nil {
		return nil, err
	}
	return &Shared{calls, db, shared, alone, maxBatch}, nil
}

// Close closes the connections that are kept for local transactions.
func (s *Shared) Close() {
	s.shared.Close()
	s.alone.Close()
}

// Local returns what runs the shared local transactions, for others on the same database: so
// they keep the same connections.
func (s *Shared) Local() *local.Shared { return s.shared }

// Alone returns what runs local transactions of one member, which wait for locks as long as the
// database lets them.
func (s *Shared) Alone() *local.Shared { return s.alone }

// MaxBatch is the most members of a batch; 1 if nothing is shared.
func (s *Shared) MaxBatch() int { return s.maxBatch }

// Workers is how many batches with the same key are written at once: while one waits for
// the database, the other one uses the time. SQLite allows one writer at a time.
func (s *Shared) Workers() int {
	if s.db.Name() == "sqlite" {
		return 1
	}
	return 2
}

// Limits of a transaction that shares commits. A larger one gains little, and the other
// members would wait for it.
const (
	sharedBranches = 8
	sharedBytes    = 16 << 10
)

// Key returns the key of the batches that transactions with these steps share. It returns
// false if they do not share commits now.
func (s *Shared) Key(steps []*txn.Step) (key string, shared bool) {
	if len(steps) > sharedBranches || s.maxBatch == 1 {
		return "", false
	}
	var b strings.Builder
	bytes := 0
	for _, step := range steps {
		if bytes += len(step.Payload); bytes > sharedBytes {
			return "", false
		}
		if step.Branch.Backoff.Active() {
			return "", false
		}
		b.WriteString(step.ID)
		b.WriteByte(' ')
		b.WriteString(step.Kind)
		b.WriteByte('\n')
	}
	return b.String(), true
}

// Work is the work of a shared local transaction. Its context ends when the batch is given
// up, and that cuts off the statement under way.
type Work func(ctx context.Context, tx *gorm.DB, w *Watch) error

// Run runs work for a number of members, which call the same branches, in one local
// transaction. It gives up when a member keeps the others waiting, by a lock that another
// transaction holds or by slow calls. Those kinds of branches do not share commits for a
// while.
//
// When it gives up, Run returns even if a call does not. The local transaction is rolled
// back, and what the call still does has no effect.
func (s *Shared) Run(ctx context.Context, members int, branches []*txn.Branch, work Work) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &Watch{fired: make(chan struct{}), cancel: cancel, limit: s.limit(members)}
	ended := make(chan error, 1)
	go func() {
		err := errors.New("a branch ended the goroutine of a batch")
		defer func() { ended <- err }()
		err = s.transaction(members)(ctx, func(tx *gorm.DB) error {
			w.setTx(local.TxOf(tx))
			return work(ctx, tx, w)
		})
	}()
	var err error
	select {
	case err = <-ended:
	case <-w.fired:
		err = ErrSlow
	}
	if members > 1 {
		adjustBackoff(branches, err, ctx.Err() != nil)
	}
	return err
}

// limit returns how long one call, or one WorkBatch, of a batch may take.
func (s *Shared) limit(members int) time.Duration {
	if members > 1 {
		return slowBatch + time.Duration(members)*quickCall
	}
	return s.calls.timeout + returnGrace
}

// transaction returns what runs the local transaction. A batch of one waits for locks like
// any local transaction.
func (s *Shared) transaction(members int) func(ctx context.Context, work func(tx *gorm.DB) error) error {
	if members > 1 {
		return s.shared.Run
	}
	return s.alone.Run
}

// adjustBackoff penalizes the kinds of branches of a batch that was slow, and resets them
// after one that succeeded.
func adjustBackoff(branches []*txn.Branch, err error, ended bool) {
	slow := errors.Is(err, local.ErrLockWait) || errors.Is(err, ErrSlow) || err != nil && ended
	for _, b := range branches {
		switch {
		case slow:
			b.Backoff.Penalize()
		case err == nil:
			b.Backoff.Reset()
		}
	}
}

const (
	// quickCall is how long a call may take on average if the calls of a batch are made
	// one after the other, and all members wait for all of them.
	quickCall = 3 * time.Millisecond

	// slowStart is how long those calls may take in addition, even if they are few: the
	// first one may wait for other transactions that lock the same row.
	slowStart = 500 * time.Millisecond

	// slowBatch, and quickCall for each member, is the time after which a batch is given
	// up during a call. It is longer than the batch may wait for a lock.
	slowBatch = 1500 * time.Millisecond
)

// TooSlow reports whether a number of calls that are made one after the other have taken
// too long for a shared commit.
func TooSlow(began time.Time, calls int) bool {
	return time.Since(began) > slowStart+time.Duration(calls)*quickCall
}

// ErrSlow says that the calls of a branch are too slow for a shared commit.
var ErrSlow = errors.New("the calls of the branch are too slow for a shared commit")
