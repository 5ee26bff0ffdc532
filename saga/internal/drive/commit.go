package drive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/observe"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// readyStep is a step that is ready for a commit with the log: its effect, if there is one,
// has succeeded.
type readyStep struct {
	*txn.Step
	call     saga.Call
	effect   call.EffectResult // Due is set if there is no effect
	observed *observe.Call
}

// runInLog calls the branches in the engine's own database in one local transaction. If
// these are all branches, it ends the transaction in the same commit. A branch that fails is
// left out, and the others are written again without it.
func (r *round) runInLog(ctx context.Context, steps []readyStep, all bool) error {
	r.startCalls(ctx, steps)
	err := r.commitSteps(ctx, steps, all)
	r.endCalls(steps, err)
	return err
}

func (r *round) commitSteps(ctx context.Context, steps []readyStep, all bool) error {
	ready := r.runEffects(ctx, steps)
	for len(ready) > 0 {
		var err error
		if all && len(ready) == len(steps) {
			err = r.finishInBatch(ctx, ready)
		} else {
			err = r.commit(ctx, ready, false)
		}
		var failed *txn.BranchError
		switch {
		case local.Aborted(err):
			return r.commitEachAlone(ctx, ready)
		case errors.As(err, &failed):
			r.noteFailure(ready[failed.Index].Step, failed.Err)
			ready = slices.Delete(ready, failed.Index, failed.Index+1)
		case errors.Is(err, local.ErrCommitRefused):
			return r.commitEachAlone(ctx, ready)
		default:
			return err
		}
	}
	return nil
}

// commitEachAlone commits each step alone. The database has refused their shared commit,
// and the refusal does not name the branch at fault.
func (r *round) commitEachAlone(ctx context.Context, ready []readyStep) error {
	for _, one := range ready {
		err := r.commit(ctx, []readyStep{one}, false)
		var failed *txn.BranchError
		switch {
		case errors.As(err, &failed):
			r.noteFailure(one.Step, failed.Err)
		case errors.Is(err, local.ErrCommitRefused), local.Aborted(err):
			r.noteFailure(one.Step, err)
		case err != nil:
			return err
		}
	}
	return nil
}

// runEffects makes the effects in parallel. It returns the steps that are ready for their
// commit.
func (r *round) runEffects(ctx context.Context, all []readyStep) []readyStep {
	failures := make([]error, len(all))
	var effects []func()
	for i := range all {
		s := all[i].Step
		if s.Branch.Effect(all[i].call.Op) == nil {
			all[i].effect.Due = true
			continue
		}
		effects = append(effects, func() {
			all[i].effect, failures[i] = r.d.runEffect(all[i].observed.In(ctx), s.Branch, all[i].call, r.txn.Fresh)
			all[i].call.Receipt = all[i].effect.Receipt
			if failures[i] != nil && all[i].observed != nil {
				all[i].observed.End(call.ResultOf(s.Branch, all[i].call.Op, failures[i]), failures[i])
			}
		})
	}
	inParallel(effects)
	var ready []readyStep
	for i, one := range all {
		if failures[i] != nil {
			r.noteFailure(one.Step, failures[i])
		} else {
			ready = append(ready, one)
		}
	}
	return ready
}

// inParallel runs the last function in its own goroutine, and each other in a new one.
func inParallel(calls []func()) {
	var others sync.WaitGroup
	for i, call := range calls {
		if i == len(calls)-1 {
			call()
		} else {
			others.Go(call)
		}
	}
	others.Wait()
}

// commit calls steps in one local transaction, and ends the transaction in it or marks the
// steps as done. If the COMMIT is not answered, it runs again; the barrier then turns the
// calls away as duplicates.
func (r *round) commit(ctx context.Context, steps []readyStep, end bool) error {
	d, t := r.d, r.txn
	write := func(tx *gorm.DB) error {
		ids := make([]string, len(steps))
		for i, one := range steps {
			ids[i] = one.ID
			if err := r.callInTransaction(ctx, tx, one); err != nil {
				return &txn.BranchError{Index: i, Kind: one.Kind, Err: err}
			}
		}
		if end {
			return d.Log.Finish(ctx, tx, t.GID, t.Epoch)
		}
		return d.Log.Done(ctx, tx, t.GID, ids...)
	}
	err := d.Shared.Alone().Run(ctx, write)
	for run := 1; run < txn.MaxRuns && errors.Is(err, local.ErrCommitUnknown); run++ {
		err = d.Shared.Alone().Run(ctx, write)
	}
	if err != nil {
		return err
	}
	r.committed(steps, end)
	return nil
}

// committed notes that steps are done, and whether the transaction has ended.
func (r *round) committed(steps []readyStep, end bool) {
	for _, one := range steps {
		if one.call.Result != nil {
			one.Result = *one.call.Result
		}
		r.noteDone(one.Step, true)
	}
	r.finished = end
}

func (r *round) callInTransaction(ctx context.Context, tx *gorm.DB, one readyStep) error {
	ctx = one.observed.In(ctx)
	if one.call.Op == barrier.Apply {
		*one.call.Result = nil // of an earlier run
		verdict, err := r.d.Calls.CallInLog(ctx, tx, one.Branch, one.call)
		one.observed.Saw(verdict)
		return err
	}
	verdict, err := barrier.Call(ctx, tx, call.Request(one.call))
	one.observed.Saw(verdict)
	switch {
	case err != nil || verdict != barrier.Run:
		return err
	case !one.effect.Due:
		return call.ErrRaced
	}
	if one.effect.Mark != "" {
		if err := r.d.Calls.NoteEffect(ctx, tx, one.call, one.effect); err != nil {
			return err
		}
	}
	return r.d.Calls.CallWork(ctx, tx, one.Branch, one.call)
}

// finishInBatch calls the last branches and ends the transaction: in a shared commit if
// possible, and alone otherwise.
func (r *round) finishInBatch(ctx context.Context, ready []readyStep) error {
	key, shared := r.finishKey(ready)
	if !shared {
		return r.commit(ctx, ready, true)
	}
	m := &finishItem{ctx: ctx, round: r, ready: ready, done: make(chan struct{})}
	r.d.finishes.Add(key, m)
	<-m.done
	if errors.Is(m.err, errCommitAlone) {
		return r.commit(ctx, ready, true)
	}
	return m.err
}

// finishKey returns the key of the finish batch. It returns false if the transaction has to
// commit alone.
func (r *round) finishKey(ready []readyStep) (key string, shared bool) {
	key, shared = r.d.Shared.Key(stepsOf(ready))
	again := ""
	for _, one := range ready {
		// A branch that has failed could fail the batch. If its batched effect had failed,
		// that has succeeded now, and such transactions share commits with each other.
		shared = shared && one.call.Op == barrier.Confirm && one.effect.Due && one.effect.Mark == "" && (one.Failed == 0 || r.d.batchesEffects(one.Branch, one.call.Op))
		if one.Failed > 0 {
			again = "again "
		}
	}
	return fmt.Sprint(again, r.txn.Epoch, " ", key), shared
}
