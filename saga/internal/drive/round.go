package drive

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// slack is how much too early a branch may be called again: less than asking
// the log once more is worth.
const slack = 20 * time.Millisecond

// round is one call of each pending branch of a decided transaction.
type round struct {
	d   *Driver
	txn *txn.Txn
	op  barrier.Op
	end saga.State

	mu       sync.Mutex
	failures map[*txn.Step]error
	marked   map[*txn.Step]bool // done, and marked so in the log
	finished bool               // the end is written
	release  bool               // an instance that knows more kinds has to take over
}

func (r *round) pending() (due, waiting []*txn.Step) {
	pending, _ := txn.Split(r.txn.Steps, func(s *txn.Step) bool { return !s.Done })
	return txn.Split(pending, func(s *txn.Step) bool { return s.Wait <= slack })
}

// run calls the branches. Its error is of the log; a branch's is a failure.
func (r *round) run(ctx context.Context) error {
	r.failures, r.marked = make(map[*txn.Step]error), make(map[*txn.Step]bool)
	r.holdBack(ctx)
	due, waiting := r.pending()
	early, due := txn.Split(due, func(s *txn.Step) bool { return s.Early != nil })
	for _, s := range early {
		r.failed(s, s.Early)
		s.Early = nil
	}
	known, unknown := txn.Split(due, func(s *txn.Step) bool { return s.Branch != nil })
	for _, s := range unknown {
		// An instance that knows the kind takes over at once.
		s.Wait, s.Held = slack+1, "this instance does not know the kind of branch "+s.Kind
		r.release = true
	}
	inLog, apart := txn.Split(known, func(s *txn.Step) bool { return s.Branch.EndsInLog() })
	var calls sync.WaitGroup
	for _, s := range apart {
		calls.Go(func() {
			r.ended(s, r.d.Calls.Apart(ctx, s.Branch, r.txn.Call(s, r.op)))
		})
	}
	err := r.runInLog(ctx, inLog, len(early)+len(waiting)+len(unknown)+len(apart) == 0)
	calls.Wait()
	return err
}

// holdBack puts off branches of paused kinds, and repeated calls beyond the
// limits of their kinds.
func (r *round) holdBack(ctx context.Context) {
	d := r.d
	due, _ := r.pending()
	for _, s := range due {
		switch {
		case d.Paused.Has(s.Kind):
			s.Wait, s.Held = jitter.UpTo(ctx, d.MaxBackoff)+slack, "an operator has paused the kind of branch "+s.Kind
		case s.Branch != nil && s.Failed > 0:
			if hold := s.Branch.Breaker.Delay(ctx, d.MaxBackoff, d.bulky(s.Branch, r.op)); hold > 0 {
				s.Wait, s.Held = hold+slack, "too many calls of "+s.Kind+" fail, or are repeated: see Config.Limits"
			}
		}
	}
}

// ended takes in how a call of its own went.
func (r *round) ended(s *txn.Step, err error) {
	var notYet *call.NotYetError
	switch {
	case err == nil:
		r.done(s, false)
	case errors.As(err, &notYet):
		r.mu.Lock()
		defer r.mu.Unlock()
		s.Wait, s.Held = max(notYet.Wait, slack+1), notYet.Why
	default:
		r.failed(s, err)
	}
}

func (r *round) failed(s *txn.Step, err error) {
	if s.Branch != nil && !errors.Is(err, barrier.ErrConflict) && !errors.Is(err, saga.ErrOngoing) {
		s.Branch.Breaker.Failure(r.txn.GID)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures[s] = err
}

func (r *round) done(s *txn.Step, marked bool) {
	s.Branch.Breaker.Success()
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Done = true
	r.marked[s] = marked
}
