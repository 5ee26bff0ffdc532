package drive

import (
	"context"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// effectItem is a member of an effect batch: the effect of a call whose branch can make
// several at once.
type effectItem struct {
	ctx     context.Context
	branch  *txn.Branch
	call    saga.Call
	again   bool // the barrier has to say whether the call is due
	due     bool
	receipt any
	err     error
	done    chan struct{}
}

// bulky reports whether the effect of a call is made in one batch with those of other
// transactions.
func (d *Driver) bulky(b *txn.Branch, op barrier.Op) bool {
	return b.EffectBatches[op] != nil && d.Shared.MaxBatch() != 1
}

// effectInBatch makes the effect of a call in one batch with those of other transactions. First calls and repeated calls have separate batches.
func (d *Driver) effectInBatch(ctx context.Context, b *txn.Branch, c saga.Call, again bool) *effectItem {
	m := &effectItem{ctx: ctx, branch: b, call: c, again: again, due: !again, done: make(chan struct{})}
	key := b.Kind + " " + string(c.Op)
	if again {
		key += " " + c.BranchID
	}
	d.effects.Add(key, m)
	<-m.done
	return m
}

// actFresh makes the effect of a Confirm or Cancel, in a batch if the branch can
// make several at once. The call of a fresh transaction is due; for others the barrier
// says whether it is.
func (d *Driver) actFresh(ctx context.Context, b *txn.Branch, c saga.Call, fresh bool) (look call.Look, err error) {
	defer d.Calls.UnderWay.Begin(c)()
	again := !fresh || c.Attempt > 1
	switch {
	case d.bulky(b, c.Op) && (!again || b.Resident && c.Op == barrier.Confirm):
		m := d.effectInBatch(ctx, b, c, again)
		return call.Look{Due: m.due, Receipt: m.receipt}, m.err
	case !fresh:
		return d.Calls.ActExternal(ctx, b, c)
	}
	receipt, err := d.Calls.External(ctx, b, c, nil)
	return call.Look{Due: true, Receipt: receipt}, err
}

// dueOf asks the barrier which calls of a batch are due, and returns those. It tells the
// others that they are not.
func (d *Driver) dueOf(batch []*effectItem) (due []*effectItem) {
	if !batch[0].again {
		return batch
	}
	ctx, cancel := d.Life.DetachCall(d.Life.Context())
	defer cancel()
	requests := make([]barrier.Request, len(batch))
	for i, m := range batch {
		requests[i] = d.Calls.Request(m.call)
	}
	var tried []bool
	err := local.Run(ctx, batch[0].branch.Database, func(tx *gorm.DB) (err error) {
		tried, err = barrierrows.TriedBatch(ctx, tx, requests)
		return err
	})
	for i, m := range batch {
		if m.err = err; err == nil && tried[i] {
			m.due = true
			due = append(due, m)
			continue
		}
		close(m.done)
	}
	return due
}

// runEffects makes the effects of a batch.
func (d *Driver) runEffects(batch []*effectItem) {
	if batch = d.dueOf(batch); len(batch) == 0 {
		return
	}
	if m := batch[0]; len(batch) == 1 {
		m.receipt, m.err = d.Calls.External(m.ctx, m.branch, m.call, nil)
		close(m.done)
		return
	}
	calls := make([]saga.BatchCall, len(batch))
	for i, m := range batch {
		calls[i] = saga.BatchCall{Context: context.WithoutCancel(m.ctx), Call: m.call}
	}
	ctx, cancel := d.Life.DetachCall(d.Life.Context())
	defer cancel()
	b := batch[0].branch
	receipts, failures, err := d.Calls.EffectBatch(ctx, b, calls)
	for i, m := range batch {
		switch {
		case err != nil:
			m.err = err
		case failures != nil && failures[i] != nil:
			m.err = failures[i]
		default:
			m.receipt = receipts[i]
		}
		close(m.done)
	}
}
