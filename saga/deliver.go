package saga

import (
	"context"
	"fmt"
)

// delivery is the Outside part of a call whose branch can do several at once.
type delivery struct {
	ctx     context.Context
	branch  *branch
	call    Call
	receipt any
	err     error
	done    chan struct{}
}

// deliverTogether makes the Outside part of a call that is due, together with
// those of other transactions, if the branch can do that.
func (o *Orchestrator) deliverTogether(ctx context.Context, b *branch, call Call) (receipt any, err error) {
	if b.OutsideTogether[call.Op] == nil || call.Attempt > 1 || o.config.MaxBatch == 1 {
		return o.outside(ctx, b, call, nil)
	}
	d := &delivery{ctx: ctx, branch: b, call: call, done: make(chan struct{})}
	o.deliveries.add(b.Kind+" "+string(call.Op), d)
	<-d.done
	return d.receipt, d.err
}

// actFresh makes the Outside part of a Confirm or Cancel. A fresh transaction is
// due, and goes in company; otherwise the barrier says whether it is.
func (o *Orchestrator) actFresh(ctx context.Context, b *branch, call Call, fresh bool) (look outsideLook, err error) {
	defer o.underWay.begin(call)()
	if !fresh {
		return o.actOutside(ctx, b, call)
	}
	receipt, err := o.deliverTogether(ctx, b, call)
	return outsideLook{due: true, receipt: receipt}, err
}

// writeDeliveries makes the Outside parts of a batch.
func (o *Orchestrator) writeDeliveries(batch []*delivery) {
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
			return fmt.Errorf("%s: %d calls were made together, and %d receipts and %d failures came back", b.Kind, len(calls), len(receipts), len(failures))
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
