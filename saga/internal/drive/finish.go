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

// finishItem is a member of a finish batch: the last commit of a transaction all of
// whose remaining branches are resident. It holds their Confirms and the end.
// Transactions with the same kinds of branches share the commit.
type finishItem struct {
	ctx   context.Context
	round *round
	ready []readyStep
	err   error
	done  chan struct{}
}

func stepsReady(ready []readyStep) []*txn.Step {
	steps := make([]*txn.Step, len(ready))
	for i, one := range ready {
		steps[i] = one.Step
	}
	return steps
}

// errApart tells the members of a finish batch to commit alone.
var errApart = errors.New("the batch has failed")

// finishBatch writes a finish batch. If it fails, each member commits alone.
func (d *Driver) finishBatch(batch []*finishItem) {
	if len(batch) == 1 {
		a := batch[0]
		a.err = a.round.commit(a.ctx, a.ready, true)
		close(a.done)
		return
	}
	ctx, cancel := d.Life.DetachCall(d.Life.Context())
	defer cancel()
	err := d.Shared.Run(ctx, len(batch), stepsReady(batch[0].ready), func(ctx context.Context, tx *gorm.DB, w *call.Watch) error {
		return d.writeFinishes(ctx, tx, w, batch)
	})
	for _, a := range batch {
		if err != nil {
			a.err = errApart
		} else {
			a.round.committed(a.ready, true)
		}
		close(a.done)
	}
}

func (d *Driver) writeFinishes(ctx context.Context, tx *gorm.DB, w *call.Watch, batch []*finishItem) error {
	gids, ids := make([]string, len(batch)), make([]string, len(batch[0].ready))
	for i, a := range batch {
		gids[i] = a.round.txn.GID
	}
	for i, one := range batch[0].ready {
		ids[i] = one.ID
	}
	if err := barrierrows.ConfirmBatch(ctx, tx, d.LogID, ids, gids); err != nil {
		return err
	}
	for position, one := range batch[0].ready {
		calls := make([]saga.BatchCall, len(batch))
		for i, a := range batch {
			calls[i] = saga.BatchCall{Context: context.WithoutCancel(a.ctx), Call: a.ready[position].call}
		}
		failures, err := d.Shared.Batch(ctx, tx, w, one.Branch, calls)
		if err := errors.Join(err, errors.Join(failures...)); err != nil {
			return err
		}
	}
	return d.Log.FinishAll(ctx, tx, batch[0].round.txn.Epoch, gids)
}
