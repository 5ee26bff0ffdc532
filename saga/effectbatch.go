package saga

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// effectItem is a member of an effect batch: the Outside part of a call whose branch
// can make several at once.
type effectItem struct {
	ctx     context.Context
	branch  *branch
	call    Call
	again   bool // the barrier has to say whether the call is due
	due     bool
	receipt any
	err     error
	done    chan struct{}
}

// bulky reports whether the Outside part of a call is made together with those of other
// transactions.
func (o *Orchestrator) bulky(b *branch, op barrier.Op) bool {
	return b.OutsideTogether[op] != nil && o.config.MaxBatch != 1
}

// effectInBatch makes the Outside part of a call together with those of other
// transactions. First calls and repeated calls have separate batches.
func (o *Orchestrator) effectInBatch(ctx context.Context, b *branch, call Call, again bool) *effectItem {
	d := &effectItem{ctx: ctx, branch: b, call: call, again: again, due: !again, done: make(chan struct{})}
	key := b.Kind + " " + string(call.Op)
	if again {
		key += " " + call.BranchID
	}
	o.effects.Add(key, d)
	<-d.done
	return d
}

// actFresh makes the Outside part of a Confirm or Cancel, in a batch if the branch can
// make several at once. The call of a fresh transaction is due; for others the barrier
// says whether it is.
func (o *Orchestrator) actFresh(ctx context.Context, b *branch, call Call, fresh bool) (look outsideLook, err error) {
	defer o.underWay.begin(call)()
	again := !fresh || call.Attempt > 1
	switch {
	case o.bulky(b, call.Op) && (!again || b.resident && call.Op == barrier.Confirm):
		d := o.effectInBatch(ctx, b, call, again)
		return outsideLook{due: d.due, receipt: d.receipt}, d.err
	case !fresh:
		return o.actOutside(ctx, b, call)
	}
	receipt, err := o.outside(ctx, b, call, nil)
	return outsideLook{due: true, receipt: receipt}, err
}

// dueOf asks the barrier which calls of a batch are due, and returns those. It tells the
// others that they are not.
func (o *Orchestrator) dueOf(batch []*effectItem) (due []*effectItem) {
	if !batch[0].again {
		return batch
	}
	ctx, cancel := o.detachFor(o.work)
	defer cancel()
	requests := make([]barrier.Request, len(batch))
	for i, d := range batch {
		requests[i] = o.request(d.call)
	}
	var tried []bool
	err := local.Run(ctx, batch[0].branch.Database, func(tx *gorm.DB) (err error) {
		tried, err = barrierrows.TriedAll(ctx, tx, requests)
		return err
	})
	for i, d := range batch {
		if d.err = err; err == nil && tried[i] {
			d.due = true
			due = append(due, d)
			continue
		}
		close(d.done)
	}
	return due
}

// runEffects makes the Outside parts of a batch.
func (o *Orchestrator) runEffects(batch []*effectItem) {
	if batch = o.dueOf(batch); len(batch) == 0 {
		return
	}
	if d := batch[0]; len(batch) == 1 {
		d.receipt, d.err = o.outside(d.ctx, d.branch, d.call, nil)
		close(d.done)
		return
	}
	calls := make([]JointCall, len(batch))
	for i, d := range batch {
		calls[i] = JointCall{Context: context.WithoutCancel(d.ctx), Call: d.call}
	}
	ctx, cancel := o.detachFor(o.work)
	defer cancel()
	b := batch[0].branch
	type results struct {
		receipts []any
		failures []error
	}
	got := make(chan results, 1)
	err := o.bounded(ctx, calls[0].Call, func(ctx context.Context) error {
		receipts, failures := b.OutsideTogether[calls[0].Op](ctx, calls)
		if len(receipts) != len(calls) || failures != nil && len(failures) != len(calls) {
			return fmt.Errorf("%s: %d calls were made in one batch, and %d receipts and %d failures came back", b.Kind, len(calls), len(receipts), len(failures))
		}
		got <- results{receipts, failures}
		return nil
	}, nil)
	var r results
	if err == nil {
		r = <-got
	}
	for i, d := range batch {
		switch {
		case err != nil:
			d.err = err
		case r.failures != nil && r.failures[i] != nil:
			d.err = r.failures[i]
		default:
			d.receipt = r.receipts[i]
		}
		close(d.done)
	}
}
