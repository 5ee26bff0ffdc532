package saga

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// share runs work for a number of callers, whose steps are of the same kinds, in
// one local transaction. It gives up when one of them may keep the others
// waiting, by a lock that somebody else holds or by slow calls; those kinds of
// branches then go alone for a while. It returns then even if a call does not: the
// local transaction is rolled back, and nothing that the call still does counts. The
// context of work ends then, and cuts off the statement under way.
func (o *Orchestrator) share(ctx context.Context, callers int, steps []*step, work func(ctx context.Context, tx *gorm.DB, w *watch) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &watch{fired: make(chan struct{}), cancel: cancel, limit: o.timeout + noticing}
	if callers > 1 {
		w.limit = slowBatch + time.Duration(callers)*quickCall
	}
	run := o.shared.Run
	if callers == 1 {
		run = func(ctx context.Context, work func(tx *gorm.DB) error) error { return local.Run(ctx, o.db, work) }
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
		err = errSlow
	}
	if callers == 1 {
		return err
	}
	stalled := errors.Is(err, local.ErrLockWait) || errors.Is(err, errSlow) || err != nil && ctx.Err() != nil
	for _, s := range steps {
		switch {
		case stalled:
			s.branch.backoff.Penalize()
		case err == nil:
			s.branch.backoff.Reset()
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

var errSlow = errors.New("the calls of the branch are too slow for a shared commit")

// watch gives up a shared local transaction when a call in it takes too long.
type watch struct {
	limit  time.Duration
	fired  chan struct{} // closed when the transaction has been given up
	cancel context.CancelCauseFunc

	mu sync.Mutex
	tx *local.Tx
}

func (w *watch) watch(tx *local.Tx) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tx = tx
}

// over watches the calls that follow, until stop is called.
func (w *watch) over() (stop func()) {
	timer := time.AfterFunc(w.limit, func() {
		w.mu.Lock()
		tx := w.tx
		w.mu.Unlock()
		w.cancel(errSlow)
		aborted := make(chan struct{})
		go func() { tx.Abort(errSlow); close(aborted) }()
		select {
		case <-aborted:
		case <-time.After(noticing):
		}
		close(w.fired)
	})
	return func() { timer.Stop() }
}

// singleFailure is the failure of one of several calls, after which the others
// were not made.
type singleFailure struct {
	index int
	err   error
}

func (f *singleFailure) Error() string { return f.err.Error() }
func (f *singleFailure) Unwrap() error { return f.err }

// jointly makes calls of the same operation of a branch: together, if it can do
// that, and else one after the other. The failures are in the order of the
// calls, and nil if there is none.
func (o *Orchestrator) jointly(ctx context.Context, tx *gorm.DB, w *watch, b *branch, calls []JointCall) (failures []error, err error) {
	defer w.over()()
	if b.Together != nil && len(calls) > 1 {
		return o.together(ctx, tx, b, calls)
	}
	began := time.Now()
	for i, c := range calls {
		// The values are the caller's, and the end is the batch's.
		if err := o.insideBatch(callContext{c.Context, ctx}, tx, b, c.Call); err != nil {
			return nil, &singleFailure{i, err}
		}
		if len(calls) > 1 && time.Since(began) > slowStart+time.Duration(i+1)*quickCall {
			return nil, errSlow
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

// together calls the Together part of a branch, bounded in time.
func (o *Orchestrator) together(ctx context.Context, tx *gorm.DB, b *branch, calls []JointCall) (failures []error, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	err = withCause(ctx, o.protected(ctx, calls[0].Call, func(ctx context.Context) (err error) {
		failures, err = b.Together(ctx, local.Guest(ctx, b.Database, tx), calls[0].Op, calls)
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
