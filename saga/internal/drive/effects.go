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

// effectItem is a member of an effect batch: the effect of one call, of a branch that can
// make the effects of several calls at once.
type effectItem struct {
	ctx      context.Context
	branch   *txn.Branch
	call     saga.Call
	repeated bool // the barrier has to say whether the call is due
	due      bool
	receipt  any
	err      error
	done     chan struct{}
}

// batchesEffects reports whether the effects of an operation are made in batches.
func (d *Driver) batchesEffects(b *txn.Branch, op barrier.Op) bool {
	return b.EffectBatches[op] != nil && d.Shared.MaxBatch() != 1
}

// effectInBatch makes the effect of a call in a batch with the effects of other
// transactions. First calls and repeated calls have separate batches.
func (d *Driver) effectInBatch(ctx context.Context, b *txn.Branch, c saga.Call, repeated bool) *effectItem {
	m := &effectItem{ctx: ctx, branch: b, call: c, repeated: repeated, due: !repeated, done: make(chan struct{})}
	key := b.Kind + " " + string(c.Op)
	if repeated {
		key += " " + c.BranchID
	}
	d.effects.Add(key, m)
	<-m.done
	return m
}

// runEffect makes the effect of a Confirm or Cancel, in a batch if the branch can do that.
// The first call of a fresh transaction is due. For others the barrier says whether the
// call is due.
func (d *Driver) runEffect(ctx context.Context, b *txn.Branch, c saga.Call, fresh bool) (call.EffectResult, error) {
	defer d.Calls.UnderWay.Begin(c)()
	repeated := !fresh || c.Attempt > 1
	switch {
	case d.batchesEffects(b, c.Op) && (!repeated || b.Resident && c.Op == barrier.Confirm):
		m := d.effectInBatch(ctx, b, c, repeated)
		return call.EffectResult{Due: m.due, Receipt: m.receipt}, m.err
	case !fresh:
		return d.Calls.RunEffect(ctx, b, c)
	}
	receipt, err := d.Calls.CallEffect(ctx, b, c, nil)
	return call.EffectResult{Due: true, Receipt: receipt}, err
}

// runEffectBatch makes the effects of a batch.
func (d *Driver) runEffectBatch(batch []*effectItem) {
	if batch = d.dueOf(batch); len(batch) == 0 {
		return
	}
	if m := batch[0]; len(batch) == 1 {
		m.receipt, m.err = d.Calls.CallEffect(m.ctx, m.branch, m.call, nil)
		d.Observe.Batch(m.ctx, batchEffects, 1)
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
	receipts, failures, err := d.Calls.CallEffectBatch(ctx, b, calls)
	d.Observe.Batch(ctx, batchEffects, len(calls))
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

// dueOf returns the members of a batch whose calls are due. For repeated calls it reads the
// barrier, and releases the other members.
func (d *Driver) dueOf(batch []*effectItem) (due []*effectItem) {
	if !batch[0].repeated {
		return batch
	}
	ctx, cancel := d.Life.DetachCall(d.Life.Context())
	defer cancel()
	requests := make([]barrier.Request, len(batch))
	for i, m := range batch {
		requests[i] = d.Calls.Request(m.call)
	}
	var found []barrierrows.Finding
	err := local.Run(ctx, batch[0].branch.Database, func(tx *gorm.DB) (err error) {
		found, err = barrierrows.LookBatch(ctx, tx, requests)
		return err
	})
	for i, m := range batch {
		if m.err = err; err == nil && found[i] == barrierrows.Tried {
			m.due = true
			due = append(due, m)
			continue
		}
		close(m.done)
	}
	return due
}
