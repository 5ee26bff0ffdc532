package saga

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
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

// finishInBatch calls the last branches, which are ready, and ends the transaction. It
// does so in a shared commit if it can, and alone otherwise.
func (r *round) finishInBatch(ctx context.Context, ready []readyStep) error {
	steps := stepsReady(ready)
	key, shared := r.o.batchKey(steps)
	again := ""
	for _, d := range ready {
		// A branch that failed before might fail the batch, unless its Outside part
		// had failed, which has succeeded now. Those share commits with each other.
		shared = shared && d.due && d.look.by == "" && (d.failed == 0 || r.o.bulky(d.branch, r.op))
		if d.failed > 0 {
			again = "again "
		}
	}
	if !shared || r.op != barrier.Confirm {
		return r.commit(ctx, ready, true)
	}
	a := &finishItem{ctx: ctx, round: r, ready: ready, done: make(chan struct{})}
	r.o.finishes.Add(fmt.Sprint(again, r.txn.epoch, " ", key), a)
	<-a.done
	if errors.Is(a.err, errApart) {
		return r.commit(ctx, ready, true)
	}
	return a.err
}

func stepsReady(ready []readyStep) []*step {
	steps := make([]*step, len(ready))
	for i, d := range ready {
		steps[i] = d.step
	}
	return steps
}

// errApart tells the members of a finish batch to commit alone.
var errApart = errors.New("the batch has failed")

// finishBatch writes a finish batch. If it fails, each member commits alone.
func (o *Orchestrator) finishBatch(batch []*finishItem) {
	if len(batch) == 1 {
		a := batch[0]
		a.err = a.round.commit(a.ctx, a.ready, true)
		close(a.done)
		return
	}
	ctx, cancel := o.detachFor(o.work)
	defer cancel()
	err := o.share(ctx, len(batch), stepsReady(batch[0].ready), func(ctx context.Context, tx *gorm.DB, w *watch) error {
		return o.writeFinishes(ctx, tx, w, batch)
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

func (o *Orchestrator) writeFinishes(ctx context.Context, tx *gorm.DB, w *watch, batch []*finishItem) error {
	gids, ids := make([]string, len(batch)), make([]string, len(batch[0].ready))
	for i, a := range batch {
		gids[i] = a.round.txn.gid
	}
	for i, d := range batch[0].ready {
		ids[i] = d.id
	}
	if err := barrierrows.ConfirmAll(ctx, tx, o.logID, ids, gids); err != nil {
		return err
	}
	for position, d := range batch[0].ready {
		calls := make([]JointCall, len(batch))
		for i, a := range batch {
			calls[i] = JointCall{Context: context.WithoutCancel(a.ctx), Call: a.ready[position].call}
		}
		failures, err := o.jointly(ctx, tx, w, d.branch, calls)
		if err := errors.Join(err, errors.Join(failures...)); err != nil {
			return err
		}
	}
	return o.log.FinishAll(ctx, tx, batch[0].round.txn.epoch, gids)
}
