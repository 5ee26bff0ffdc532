package drive

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// tolerance is how much too early a branch may be called. A call that is a little early
// costs less than a further poll of the log.
const tolerance = 20 * time.Millisecond

// round is one call of each pending branch of a decided transaction.
type round struct {
	d   *Driver
	txn *txn.Txn
	end saga.State

	ended func(saga.State) // is told of the end before it is written; nil if nobody waits for it

	mu       sync.Mutex
	failures map[*txn.Step]error
	marked   map[*txn.Step]bool // of each branch that is done: whether the log shows it
	finished bool               // the end is written
	release  bool               // an instance that knows more kinds has to take over
}

func (r *round) pending() (due, waiting []*txn.Step) {
	pending, _ := txn.Split(r.txn.Steps, func(s *txn.Step) bool { return !s.Done })
	return txn.Split(pending, func(s *txn.Step) bool { return s.Wait <= tolerance })
}

// run calls the branches. It returns an error of the log; a failed branch is a failure of
// the round.
func (r *round) run(ctx context.Context) error {
	r.failures, r.marked = make(map[*txn.Step]error), make(map[*txn.Step]bool)
	r.holdBack(ctx)
	for {
		next := r.nextWave()
		if err := r.runWave(ctx, next); err != nil || r.finished || !next.complete() {
			return err
		}
	}
}

// runWave calls the due branches of a wave in parallel.
func (r *round) runWave(ctx context.Context, w wave) error {
	known := r.withoutUnknown(r.withoutBatchErrors(w.due))
	inLog, alone := txn.Split(known, func(s *txn.Step) bool { return s.Branch.EndsInLog() })
	// Made here: they read the results of steps, and the calls of the wave set results.
	calls, callsInLog := r.calls(alone), r.calls(inLog)
	var running sync.WaitGroup
	for i, s := range alone {
		running.Go(func() { r.noteResult(s, r.d.Calls.Call(ctx, s.Branch, calls[i].call)) })
	}
	err := r.runInLog(ctx, callsInLog, len(inLog) == len(w.due) && w.last)
	running.Wait()
	for i, s := range alone {
		if s.Done && calls[i].call.Result != nil {
			s.Result = *calls[i].call.Result
		}
	}
	return err
}

// calls returns the next calls of steps. An Apply sets a result.
func (r *round) calls(steps []*txn.Step) []readyStep {
	all := make([]readyStep, len(steps))
	for i, s := range steps {
		all[i] = readyStep{Step: s, call: r.txn.Call(s, r.txn.Op(s))}
		if all[i].call.Op == barrier.Apply {
			all[i].call.Result = new(json.RawMessage)
		}
	}
	return all
}

// withoutBatchErrors notes the steps whose Confirms failed in a decide batch as failures of
// this round, and returns the others.
func (r *round) withoutBatchErrors(due []*txn.Step) []*txn.Step {
	failed, others := txn.Split(due, func(s *txn.Step) bool { return s.BatchError != nil })
	for _, s := range failed {
		r.noteFailure(s, s.BatchError)
		s.BatchError = nil
	}
	return others
}

// withoutUnknown leaves the steps of unknown kinds to another instance, and returns the
// others.
func (r *round) withoutUnknown(due []*txn.Step) []*txn.Step {
	known, unknown := txn.Split(due, func(s *txn.Step) bool { return s.Branch != nil })
	for _, s := range unknown {
		// An instance that knows the kind takes over at once.
		s.Wait, s.WaitReason = tolerance+1, "this instance does not know the kind of branch "+s.Kind
		r.release = true
	}
	return known
}

// holdBack postpones branches of paused kinds, and repeated calls beyond the limits of
// their kinds.
func (r *round) holdBack(ctx context.Context) {
	d := r.d
	due, _ := r.pending()
	for _, s := range due {
		switch {
		case d.Paused.Has(s.Kind):
			s.Wait, s.WaitReason = jitter.UpTo(ctx, d.MaxBackoff)+tolerance, "an operator has paused the kind of branch "+s.Kind
		case s.Branch != nil && s.Failed > 0:
			if delay := s.Branch.Breaker.Delay(ctx, d.MaxBackoff, d.batchesEffects(s.Branch, r.txn.Op(s))); delay > 0 {
				s.Wait, s.WaitReason = delay+tolerance, "too many calls of "+s.Kind+" fail, or are repeated: see Config.Limits"
			}
		}
	}
}

// noteResult notes the result of a call that was made alone.
func (r *round) noteResult(s *txn.Step, err error) {
	var notYet *call.NotYetError
	switch {
	case err == nil:
		r.noteDone(s, false)
	case errors.As(err, &notYet):
		r.mu.Lock()
		defer r.mu.Unlock()
		s.Wait, s.WaitReason = max(notYet.Wait, tolerance+1), notYet.Why
	default:
		r.noteFailure(s, err)
	}
}

func (r *round) noteFailure(s *txn.Step, err error) {
	if s.Branch != nil && !errors.Is(err, barrier.ErrConflict) && !errors.Is(err, saga.ErrOngoing) {
		s.Branch.Breaker.Failure(r.txn.GID)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures[s] = err
}

func (r *round) noteDone(s *txn.Step, marked bool) {
	s.Branch.Breaker.Success()
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Done = true
	r.marked[s] = marked
}
