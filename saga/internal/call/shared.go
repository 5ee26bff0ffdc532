package call

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// Shared runs local transactions in the engine's own database that several transactions
// share, and makes the calls in them. It is safe for concurrent use.
type Shared struct {
	calls    *Caller
	db       *gorm.DB
	shared   *local.Shared
	maxBatch int
}

// NewShared returns a Shared on db, whose batches have at most maxBatch members.
func NewShared(db *gorm.DB, calls *Caller, maxBatch int) (*Shared, error) {
	shared, err := local.NewShared(db)
	if err != nil {
		return nil, err
	}
	return &Shared{calls, db, shared, maxBatch}, nil
}

// Close closes the connections that are kept for shared local transactions.
func (s *Shared) Close() { s.shared.Close() }

// MaxBatch is the most members of a batch; 1 if nothing is shared.
func (s *Shared) MaxBatch() int { return s.maxBatch }

// Workers is how many batches with the same key are at work at once: while one waits for
// the database, the other one uses the time. SQLite lets one write at a time.
func (s *Shared) Workers() int {
	if s.db.Name() == "sqlite" {
		return 1
	}
	return 2
}

// Larger transactions do not share commits: they gain little, and the other members would
// wait for them.
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

// Run runs work for a number of callers, whose steps are of the same kinds, in
// one local transaction. It gives up when one of them may keep the others
// waiting, by a lock that somebody else holds or by slow calls; those kinds of
// branches then go alone for a while. It returns then even if a call does not: the
// local transaction is rolled back, and nothing that the call still does counts. The
// context of work ends then, and cuts off the statement under way.
func (s *Shared) Run(ctx context.Context, callers int, steps []*txn.Step, work func(ctx context.Context, tx *gorm.DB, w *Watch) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &Watch{fired: make(chan struct{}), cancel: cancel, limit: s.calls.timeout + noticing}
	if callers > 1 {
		w.limit = slowBatch + time.Duration(callers)*quickCall
	}
	run := s.shared.Run
	if callers == 1 {
		run = func(ctx context.Context, work func(tx *gorm.DB) error) error { return local.Run(ctx, s.db, work) }
	}
	ended := make(chan error, 1)
	go func() {
		err := errors.New("a branch ended the goroutine of a batch")
		defer func() { ended <- err }()
		err = run(ctx, func(tx *gorm.DB) error {
			w.watch(local.TxOf(tx))
			return work(ctx, tx, w)
		})
	}()
	var err error
	select {
	case err = <-ended:
	case <-w.fired:
		err = ErrSlow
	}
	if callers == 1 {
		return err
	}
	stalled := errors.Is(err, local.ErrLockWait) || errors.Is(err, ErrSlow) || err != nil && ctx.Err() != nil
	for _, step := range steps {
		switch {
		case stalled:
			step.Branch.Backoff.Penalize()
		case err == nil:
			step.Branch.Backoff.Reset()
		}
	}
	return err
}

const (
	// quickCall is how long the calls of a branch may take on average if they
	// are made one after the other for callers who wait for all of them.
	quickCall = 3 * time.Millisecond

	// slowStart is what they may take in addition, however few they are: the
	// first one waits until others have gone who want the same row.
	slowStart = 500 * time.Millisecond

	// slowBatch is after which time, and quickCall for each member, a batch is
	// given up during a call: more than it may wait for a lock.
	slowBatch = 1500 * time.Millisecond
)

// TooSlow reports whether a number of calls that are made one after the other have taken
// too long for a shared commit.
func TooSlow(began time.Time, calls int) bool {
	return time.Since(began) > slowStart+time.Duration(calls)*quickCall
}

// ErrSlow says that the calls of a branch are too slow for a shared commit.
var ErrSlow = errors.New("the calls of the branch are too slow for a shared commit")

// SingleFailure is the failure of one of several calls, after which the others
// were not made.
type SingleFailure struct {
	Index int
	Err   error
}

func (f *SingleFailure) Error() string { return f.Err.Error() }
func (f *SingleFailure) Unwrap() error { return f.Err }

// Batch makes calls of the same operation of a branch: together, if it can do
// that, and else one after the other. The failures are in the order of the
// calls, and nil if there is none.
func (s *Shared) Batch(ctx context.Context, tx *gorm.DB, w *Watch, b *txn.Branch, calls []saga.BatchCall) (failures []error, err error) {
	defer w.over()()
	if b.WorkBatch != nil && len(calls) > 1 {
		return s.workBatch(ctx, tx, b, calls)
	}
	began := time.Now()
	for i, c := range calls {
		// The values are the caller's, and the end is the batch's.
		if err := s.calls.inBatch(callContext{c.Context, ctx}, tx, b, c.Call); err != nil {
			return nil, &SingleFailure{i, err}
		}
		if len(calls) > 1 && TooSlow(began, i+1) {
			return nil, ErrSlow
		}
	}
	return nil, nil
}

// callContext has the values of one context and the end of another.
type callContext struct {
	context.Context // of the caller
	end             context.Context
}

func (c callContext) Deadline() (time.Time, bool) { return c.end.Deadline() }
func (c callContext) Done() <-chan struct{}       { return c.end.Done() }
func (c callContext) Err() error                  { return c.end.Err() }

// AfterFunc spares package context a goroutine for each context made of this one.
func (c callContext) AfterFunc(f func()) (stop func() bool) { return context.AfterFunc(c.end, f) }

// workBatch calls the WorkBatch of a branch, bounded in time.
func (s *Shared) workBatch(ctx context.Context, tx *gorm.DB, b *txn.Branch, calls []saga.BatchCall) (failures []error, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.calls.timeout)
	defer cancel()
	err = withCause(ctx, s.calls.protected(ctx, calls[0].Call, func(ctx context.Context) (err error) {
		failures, err = b.WorkBatch(ctx, local.UserHandle(ctx, b.Database, tx), calls[0].Op, calls)
		return err
	}))
	switch {
	case err != nil:
		return nil, err
	case failures != nil && len(failures) != len(calls):
		return nil, fmt.Errorf("%s: %d calls were made together, and %d results came back", b.Kind, len(calls), len(failures))
	case errors.Join(failures...) == nil:
		return nil, nil
	}
	return failures, nil
}
