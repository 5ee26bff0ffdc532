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
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// readyStep is a step that shares a commit, and whose effect, if any, succeeded.
type readyStep struct {
	*txn.Step
	call saga.Call
	due  bool // the barrier said that the call was due, so that the effect ran
	look call.Look
}

// runInLog calls the branches in the orchestrator's own database in one local
// transaction, with the end of the transaction if these are all. One that fails
// there is left out of the next try, so that it holds up no other.
func (r *round) runInLog(ctx context.Context, steps []*txn.Step, all bool) error {
	ready := r.makeEffects(ctx, steps)
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
			return r.runAlone(ctx, ready)
		case errors.As(err, &failed):
			r.failed(ready[failed.Index].Step, failed.Err)
			ready = slices.Delete(ready, failed.Index, failed.Index+1)
		case errors.Is(err, local.ErrCommitRefused):
			return r.runAlone(ctx, ready)
		default:
			return err
		}
	}
	return nil
}

// runAlone gives each step a commit of its own, after the database has refused
// the shared one without saying whose fault that was.
func (r *round) runAlone(ctx context.Context, ready []readyStep) error {
	for _, one := range ready {
		err := r.commit(ctx, []readyStep{one}, false)
		var failed *txn.BranchError
		switch {
		case errors.As(err, &failed):
			r.failed(one.Step, failed.Err)
		case errors.Is(err, local.ErrCommitRefused), local.Aborted(err):
			r.failed(one.Step, err)
		case err != nil:
			return err
		}
	}
	return nil
}

// makeEffects makes the effects in parallel and returns the steps that are
// ready for their commit.
func (r *round) makeEffects(ctx context.Context, steps []*txn.Step) []readyStep {
	all, failures := make([]readyStep, len(steps)), make([]error, len(steps))
	var acts []func()
	for i, s := range steps {
		all[i] = readyStep{Step: s, call: r.txn.Call(s, r.op)}
		if s.Branch.Effects[r.op] == nil {
			all[i].due = true
			continue
		}
		acts = append(acts, func() {
			all[i].look, failures[i] = r.d.actFresh(ctx, s.Branch, all[i].call, r.txn.Fresh)
			all[i].due, all[i].call.Receipt = all[i].look.Due, all[i].look.Receipt
		})
	}
	inParallel(acts)
	var ready []readyStep
	for i, one := range all {
		if failures[i] != nil {
			r.failed(one.Step, failures[i])
		} else {
			ready = append(ready, one)
		}
	}
	return ready
}

// inParallel calls the last function itself, and the others meanwhile.
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

// commit calls steps in one local transaction, and ends the transaction in it,
// or marks them done. An unanswered COMMIT is made again; the barrier then
// turns the calls away as duplicates.
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
	err := local.Run(ctx, d.DB, write)
	for look := 1; look < txn.MaxLooks && errors.Is(err, local.ErrCommitUnknown); look++ {
		err = local.Run(ctx, d.DB, write)
	}
	if err != nil {
		return err
	}
	r.committed(steps, end)
	return nil
}

// committed notes that steps are done, and whether that was the end.
func (r *round) committed(steps []readyStep, end bool) {
	for _, one := range steps {
		r.done(one.Step, true)
	}
	r.finished = end
}

func (r *round) callInTransaction(ctx context.Context, tx *gorm.DB, one readyStep) error {
	verdict, err := barrier.Call(ctx, tx, call.Request(one.call))
	switch {
	case err != nil || verdict != barrier.Run:
		return err
	case !one.due:
		return call.ErrRaced
	}
	if one.look.By != "" {
		if err := r.d.Calls.NoteExternal(ctx, tx, one.call, one.look); err != nil {
			return err
		}
	}
	return r.d.Calls.InTransaction(ctx, tx, one.Branch, one.call)
}

// finishInBatch calls the last branches, which are ready, and ends the transaction. It
// does so in a shared commit if it can, and alone otherwise.
func (r *round) finishInBatch(ctx context.Context, ready []readyStep) error {
	steps := stepsReady(ready)
	key, shared := r.d.Shared.Key(steps)
	again := ""
	for _, one := range ready {
		// A branch that failed before might fail the batch, unless its effect
		// had failed, which has succeeded now. Those share commits with each other.
		shared = shared && one.due && one.look.By == "" && (one.Failed == 0 || r.d.bulky(one.Branch, r.op))
		if one.Failed > 0 {
			again = "again "
		}
	}
	if !shared || r.op != barrier.Confirm {
		return r.commit(ctx, ready, true)
	}
	a := &finishItem{ctx: ctx, round: r, ready: ready, done: make(chan struct{})}
	r.d.finishes.Add(fmt.Sprint(again, r.txn.Epoch, " ", key), a)
	<-a.done
	if errors.Is(a.err, errApart) {
		return r.commit(ctx, ready, true)
	}
	return a.err
}
