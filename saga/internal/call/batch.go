package call

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/observe"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// SingleFailure is the failure of one of several calls. The calls after it were not made.
type SingleFailure struct {
	Index int
	Err   error
}

func (f *SingleFailure) Error() string { return f.Err.Error() }
func (f *SingleFailure) Unwrap() error { return f.Err }

// CallBatch is RunBatch, and tells observers of each call.
func (s *Shared) CallBatch(ctx context.Context, tx *gorm.DB, w *Watch, b *txn.Branch, calls []saga.BatchCall) (failures []error, err error) {
	return s.runBatch(ctx, tx, w, b, calls, s.calls.observe)
}

// RunBatch makes calls of the same operation of a branch: Trys and Confirms with one WorkBatch
// if the branch has it, and others one after the other. The failures are in the order of the
// calls, and nil if there is none.
func (s *Shared) RunBatch(ctx context.Context, tx *gorm.DB, w *Watch, b *txn.Branch, calls []saga.BatchCall) (failures []error, err error) {
	return s.runBatch(ctx, tx, w, b, calls, nil)
}

func (s *Shared) runBatch(ctx context.Context, tx *gorm.DB, w *Watch, b *txn.Branch, calls []saga.BatchCall, n *observe.Notifier) (failures []error, err error) {
	if !b.Works(calls[0].Op) {
		return nil, nil
	}
	defer w.start()()
	if b.WorkBatch != nil && len(calls) > 1 && calls[0].Op != barrier.Cancel {
		observed := startAll(n, calls)
		failures, err = s.callWorkBatch(ctx, tx, b, calls)
		observed.end(b, calls[0].Op, failures, err)
		return failures, err
	}
	began := time.Now()
	for i, c := range calls {
		own, observed := n.Call(c.Context, c.Call, false)
		err := s.calls.callWorkInBatch(callContext{own, ctx}, tx, b, c.Call)
		if observed != nil {
			observed.Saw(barrier.Run)
			observed.End(ResultOf(b, c.Op, err), err)
		}
		if err != nil {
			return nil, &SingleFailure{i, err}
		}
		if len(calls) > 1 && TooSlow(began, i+1) {
			return nil, ErrSlow
		}
	}
	return nil, nil
}

// callContext has the values of the caller's context, and ends with the batch.
type callContext struct {
	context.Context // of the caller
	end             context.Context
}

func (c callContext) Deadline() (time.Time, bool) { return c.end.Deadline() }
func (c callContext) Done() <-chan struct{}       { return c.end.Done() }
func (c callContext) Err() error                  { return c.end.Err() }

// AfterFunc saves package context a goroutine for each context that is derived from this
// one.
func (c callContext) AfterFunc(f func()) (stop func() bool) { return context.AfterFunc(c.end, f) }

// callWorkBatch calls the WorkBatch of a branch, bounded in time.
func (s *Shared) callWorkBatch(ctx context.Context, tx *gorm.DB, b *txn.Branch, calls []saga.BatchCall) (failures []error, err error) {
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
