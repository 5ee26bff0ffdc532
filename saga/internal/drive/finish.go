package drive

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// finishItem is a member of a finish batch: the last commit of a transaction that has only
// resident branches left. It holds their Confirms and the end. Transactions with the same
// kinds of branches share the commit.
type finishItem struct {
	ctx   context.Context
	round *round
	ready []readyStep
	err   error
	done  chan struct{}
}

func stepsOf(ready []readyStep) []*txn.Step {
	steps := make([]*txn.Step, len(ready))
	for i, one := range ready {
		steps[i] = one.Step
	}
	return steps
}

func branchesOf(ready []readyStep) []*txn.Branch {
	branches := make([]*txn.Branch, len(ready))
	for i, one := range ready {
		branches[i] = one.Branch
	}
	return branches
}

// errCommitAlone makes the members of a finish batch commit alone.
var errCommitAlone = errors.New("the batch has failed")

// finishBatch writes a finish batch. If it fails, each member commits alone.
func (d *Driver) finishBatch(batch []*finishItem) {
	if len(batch) == 1 {
		m := batch[0]
		if m.err = m.round.commit(m.ctx, m.ready, true); m.err == nil {
			d.Observe.Batch(m.ctx, batchFinish, 1)
		}
		close(m.done)
		return
	}
	ctx, cancel := d.Life.DetachCall(d.Life.Context())
	defer cancel()
	err := d.Shared.Run(ctx, len(batch), branchesOf(batch[0].ready), func(ctx context.Context, tx *gorm.DB, w *call.Watch) error {
		return d.writeFinishes(ctx, tx, w, batch)
	})
	if err == nil {
		d.Observe.Batch(ctx, batchFinish, len(batch))
	}
	for _, m := range batch {
		if err != nil {
			m.err = errCommitAlone
		} else {
			m.round.committed(m.ready, true)
		}
		close(m.done)
	}
}

// writeFinishes writes the barrier rows of all members, makes their Confirms, branch by
// branch, and ends their transactions. The first failure ends it.
func (d *Driver) writeFinishes(ctx context.Context, tx *gorm.DB, w *call.Watch, batch []*finishItem) error {
	gids, ids := make([]string, len(batch)), make([]string, len(batch[0].ready))
	for i, m := range batch {
		gids[i] = m.round.txn.GID
	}
	for i, one := range batch[0].ready {
		ids[i] = one.ID
	}
	if err := barrierrows.ConfirmBatch(ctx, tx, d.LogID, ids, gids); err != nil {
		return err
	}
	for position, one := range batch[0].ready {
		calls := make([]saga.BatchCall, len(batch))
		for i, m := range batch {
			calls[i] = saga.BatchCall{Context: context.WithoutCancel(m.ready[position].observed.In(m.ctx)), Call: m.ready[position].call}
		}
		failures, err := d.Shared.RunBatch(ctx, tx, w, one.Branch, calls)
		if err = errors.Join(err, errors.Join(failures...)); err != nil {
			return err
		}
	}
	return d.Log.FinishAll(ctx, tx, batch[0].round.txn.Epoch, gids)
}
