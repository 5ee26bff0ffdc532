package decide

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// item is a member of a decide batch: a plan that has only resident, quick branches. It
// needs one commit, which holds every Try, the decision, and every Confirm that works only
// in the database. Plans with the same kinds of branches share the commit.
//
// If a plan has other branches too, the batch begins it, undecided, with the Trys of its first
// resident branches.
//
// A failed member is decided again alone, so its error rests on committed data. There
// are two exceptions: a rejection by a branch that tries many members at once, and a
// batch of one.
type item struct {
	ctx  context.Context
	e    *execution
	done chan struct{}

	steps  []*txn.Step // that are tried in the batch
	begins bool        // the transaction is begun and not decided
	start  txlog.Start // of a transaction that is begun

	// The result, when done is closed. If all three are zero, the plan is confirmed.
	err       error            // nothing was written because of err; a BranchError if a Try failed
	cancelled *txn.BranchError // the failed Try; the transaction is recorded as cancelled because of it
	alone     bool             // it has to be written alone

	unanswered bool // the COMMIT was not answered: alone, it may meet its own transaction
}

// decideBatch decides the members of a batch.
func (d *Decider) decideBatch(batch []*item) {
	sortByInput(batch)
	d.tryBatch(batch)
}

// sortByInput sorts a batch by the payload of the first branch. Members with the same
// payload mostly lock the same rows. So parallel batches lock rows in the same order,
// and wait instead of deadlocking.
func sortByInput(batch []*item) {
	slices.SortFunc(batch, func(a, b *item) int {
		return cmp.Or(bytes.Compare(a.steps[0].Payload, b.steps[0].Payload), cmp.Compare(a.e.txn.GID, b.e.txn.GID))
	})
}

// tryBatch writes a batch in one commit and gives its members the result. If some
// members fail, it writes the others again without them. Members whose callers have
// gone are dropped first.
func (d *Decider) tryBatch(batch []*item) {
	if batch = dropGone(batch); len(batch) == 0 {
		return
	}
	if len(batch) == 1 {
		d.tryMember(batch)
		return
	}
	ctx, cancel := d.Life.DetachCall(d.Life.Context())
	defer cancel()
	cancelled, err := d.writeDecisions(ctx, batch)
	var failure *batchFailure
	switch {
	case err == nil:
		d.Observe.Batch(ctx, batchDecide, len(batch))
		for _, m := range batch {
			m.cancelled = cancelled[m]
			close(m.done)
		}
	case errors.Is(err, errCallerGone):
		d.tryBatch(batch)
	case errors.As(err, &failure):
		before, rest := failure.split(batch)
		d.tryBatch(before)
		d.tryBatch(rest)
	case errors.Is(err, txlog.ErrExists):
		d.tryBatch(d.withoutUsed(batch))
	default:
		// Alone, each member gets its own error. If the COMMIT was made and not answered,
		// each finds its own transaction in the log.
		for _, m := range batch {
			m.unanswered = errors.Is(err, local.ErrCommitUnknown)
		}
		decideEachAlone(batch)
	}
}

// writeDecisions writes a batch in one local transaction. It returns the members that
// are recorded as cancelled, each with its first failed Try.
func (d *Decider) writeDecisions(ctx context.Context, batch []*item) (cancelled map[*item]*txn.BranchError, err error) {
	err = d.Shared.Run(ctx, len(batch), branchesOf(batch[0].steps), func(ctx context.Context, tx *gorm.DB, w *call.Watch) error {
		run := &batchRun{d: d, tx: tx, watch: w, batch: batch, cancelled: map[*item]*txn.BranchError{}}
		if writeErr := run.write(ctx); writeErr != nil {
			return writeErr
		}
		cancelled = run.cancelled // of the last run
		return nil
	})
	return cancelled, err
}

func branchesOf(steps []*txn.Step) []*txn.Branch {
	branches := make([]*txn.Branch, len(steps))
	for i, s := range steps {
		branches[i] = s.Branch
	}
	return branches
}

// tryMember is tryBatch for a batch of one.
func (d *Decider) tryMember(batch []*item) {
	m := batch[0]
	cancelled, err := d.writeDecisions(m.ctx, batch)
	var failure *batchFailure
	var failed *txn.BranchError
	switch {
	case err == nil:
		m.cancelled = cancelled[m]
		d.Observe.Batch(m.ctx, batchDecide, 1)
	case errors.Is(err, local.ErrCommitUnknown), errors.Is(err, barrierrows.ErrNotAll), errors.Is(err, local.ErrCommitRefused), local.Aborted(err):
		m.alone, m.unanswered = true, errors.Is(err, local.ErrCommitUnknown) // its own run shows the cause
	case errors.As(err, &failure) && failure.op == barrier.Confirm && errors.As(err, &failed):
		m.steps[failed.Index].BatchError = failed.Err
		m.alone = true
	case errors.Is(err, errCallerGone):
		m.err = local.Expired(m.ctx)
	default:
		m.err = err
	}
	close(m.done)
}

// decideEachAlone lets each member be decided alone.
func decideEachAlone(batch []*item) {
	for _, m := range batch {
		m.alone = true
		close(m.done)
	}
}

// errCallerGone says that the caller of a member has gone. The batch is written without it.
var errCallerGone = errors.New("a caller has gone")

// dropGone returns the members whose callers still wait. The others get the error of their
// context; nothing was written for them.
func dropGone(batch []*item) []*item {
	kept := batch[:0]
	for _, m := range batch {
		if m.err = local.Expired(m.ctx); m.err != nil {
			close(m.done)
		} else {
			kept = append(kept, m)
		}
	}
	return kept
}

// withoutUsed returns the members whose gids are not in use; the others are decided
// alone. If no gid is in use, another transaction is about to commit one of them, and
// all members are decided alone.
func (d *Decider) withoutUsed(batch []*item) (rest []*item) {
	gids := make([]string, len(batch))
	for i, m := range batch {
		gids[i] = m.e.txn.GID
	}
	ctx, cancel := d.Life.DetachCall(d.Life.Context())
	defer cancel()
	var inUse map[string]bool
	err := local.Run(ctx, d.DB, func(tx *gorm.DB) (err error) {
		inUse, err = d.Log.InUse(ctx, tx, gids)
		return err
	})
	if err != nil || len(inUse) == 0 {
		decideEachAlone(batch)
		return nil
	}
	for _, m := range batch {
		if inUse[m.e.txn.GID] {
			decideEachAlone([]*item{m})
		} else {
			rest = append(rest, m)
		}
	}
	return rest
}

// batchFailure is the failure of some members, which have to be decided alone.
type batchFailure struct {
	op      barrier.Op
	failed  []*item
	stopped bool // the members after the failed one were not called
	err     error
}

func (f *batchFailure) Error() string { return f.err.Error() }
func (f *batchFailure) Unwrap() error { return f.err }

// split lets the failed members be decided alone. It returns the others in two batches: if
// the calls stopped at the failed member, those that were called before it come first.
func (f *batchFailure) split(batch []*item) (before, rest []*item) {
	for _, m := range batch {
		switch {
		case slices.Contains(f.failed, m):
			decideEachAlone([]*item{m})
			if f.stopped {
				before, rest = rest, nil
			}
		default:
			rest = append(rest, m)
		}
	}
	return before, rest
}
