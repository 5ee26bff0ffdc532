package saga

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// arrival is the last commit of a transaction all of whose remaining branches
// are resident: their Confirms, and the end. Arrivals of the same kinds of
// branches share it.
type arrival struct {
	ctx   context.Context
	round *round
	ready []delivered
	err   error
	done  chan struct{}
}

// arrive calls the branches that are ready, which are the last ones, and ends
// the transaction, together with others if that goes well.
func (r *round) arrive(ctx context.Context, ready []delivered) error {
	steps := stepsReady(ready)
	key, company := r.o.companyOf(steps)
	again := ""
	for _, d := range ready {
		// One that has failed might fail the others, unless it was for its Outside
		// part, which has succeeded now. Such ones share a commit of their own.
		company = company && d.due && d.look.by == "" && (d.failed == 0 || r.o.bulky(d.branch, r.op))
		if d.failed > 0 {
			again = "again "
		}
	}
	if !company || r.op != barrier.Confirm {
		return r.commit(ctx, ready, true)
	}
	a := &arrival{ctx: ctx, round: r, ready: ready, done: make(chan struct{})}
	r.o.arrivals.add(fmt.Sprint(again, r.txn.epoch, " ", key), a)
	<-a.done
	if errors.Is(a.err, errApart) {
		return r.commit(ctx, ready, true)
	}
	return a.err
}

func stepsReady(ready []delivered) []*step {
	steps := make([]*step, len(ready))
	for i, d := range ready {
		steps[i] = d.step
	}
	return steps
}

// errApart tells an arrival to commit by itself.
var errApart = errors.New("something is amiss with one of several")

// arriveTogether writes a batch. If anything is amiss, each finds out by
// itself.
func (o *Orchestrator) arriveTogether(batch []*arrival) {
	if len(batch) == 1 {
		a := batch[0]
		a.err = a.round.commit(a.ctx, a.ready, true)
		close(a.done)
		return
	}
	ctx, cancel := o.detachFor(o.work)
	defer cancel()
	err := o.share(ctx, len(batch), stepsReady(batch[0].ready), func(tx *gorm.DB, w *watch) error { return o.writeArrivals(ctx, tx, w, batch) })
	for _, a := range batch {
		if err != nil {
			a.err = errApart
		} else {
			a.round.committed(a.ready, true)
		}
		close(a.done)
	}
}

func (o *Orchestrator) writeArrivals(ctx context.Context, tx *gorm.DB, w *watch, batch []*arrival) error {
	gids, ids := make([]string, len(batch)), make([]string, len(batch[0].ready))
	for i, a := range batch {
		gids[i] = a.round.txn.gid
	}
	for i, d := range batch[0].ready {
		ids[i] = d.id
	}
	if err := barrier.ConfirmAll(ctx, tx, o.logID, ids, gids); err != nil {
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
