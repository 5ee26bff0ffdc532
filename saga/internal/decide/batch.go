package decide

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/reason"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// item is a member of a decide batch: a plan all of whose branches are resident
// and quick. It needs one commit, which holds every Try, the decision, and every
// Confirm that acts on nothing but the database. Plans with the same kinds of branches
// share the commit.
//
// A failed member is decided again alone, so its error rests on committed data. There
// are two exceptions: a rejection by a branch that judges many members at once, and a
// batch of one.
type item struct {
	ctx  context.Context
	e    *execution
	done chan struct{}

	// How it went, when done is closed.
	err     error            // why it failed; a branchError if it was a Try
	refused *txn.BranchError // the Try that failed; the log has it as the reason of the cancel
	alone   bool             // it has to be decided in a local transaction of its own
}

// decideInBatch decides a plan in a shared commit if it can, and alone otherwise.
func (e *execution) decideInBatch(ctx context.Context) error {
	d, t := e.d, e.txn
	key, shared := d.Shared.Key(t.Steps)
	if !shared {
		return e.decideAlone(ctx)
	}
	m := &item{ctx: ctx, e: e, done: make(chan struct{})}
	d.batches.Add(key, m)
	<-m.done
	switch {
	case m.alone:
		return e.decideAlone(ctx)
	case m.err != nil:
		return e.refuse(ctx, m.err)
	case m.refused != nil:
		t.State, e.reason = saga.Cancelled, reason.Of(m.refused)
		return m.refused.Err
	}
	t.State, t.Fresh = saga.Confirmed, true
	for _, s := range t.Steps {
		if s.Done = s.Branch.ConfirmsInLog(); s.Done {
			s.Branch.Breaker.Success()
		} else {
			t.State = saga.Confirming
		}
	}
	return nil
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
		return bytes.Compare(a.e.txn.Steps[0].Payload, b.e.txn.Steps[0].Payload)
	})
}

// tryBatch writes a batch in one commit and tells its members the result. If some
// members fail, it writes the others again without them. Members whose callers have
// gone are dropped first.
func (d *Decider) tryBatch(batch []*item) {
	if batch = present(batch); len(batch) == 0 {
		return
	}
	if len(batch) == 1 {
		d.tryMember(batch)
		return
	}
	ctx, cancel := d.Life.DetachCall(d.Life.Context())
	defer cancel()
	refused, err := d.writeDecisions(ctx, batch)
	var failure *batchFailure
	switch {
	case err == nil:
		for _, m := range batch {
			m.refused = refused[m]
			close(m.done)
		}
	case errors.Is(err, errGone):
		d.tryBatch(batch)
	case errors.As(err, &failure):
		before, rest := failure.without(batch)
		d.tryBatch(before)
		d.tryBatch(rest)
	case errors.Is(err, txlog.ErrExists):
		d.tryBatch(d.withoutUsed(batch))
	default:
		// Each member finds out alone whether it is at fault. If the COMMIT was made
		// and not answered, each finds its own transaction in the log.
		commitAlone(batch)
	}
}

// writeDecisions writes a batch in one local transaction. It returns the members that
// are recorded as cancelled, each with its first failing Try.
func (d *Decider) writeDecisions(ctx context.Context, batch []*item) (refused map[*item]*txn.BranchError, err error) {
	err = d.Shared.Run(ctx, len(batch), batch[0].e.txn.Steps, func(ctx context.Context, tx *gorm.DB, w *call.Watch) error {
		run := &batchRun{d: d, tx: tx, watch: w, batch: batch, refused: map[*item]*txn.BranchError{}}
		if err := run.write(ctx); err != nil {
			return err
		}
		refused = run.refused // of the last run
		return nil
	})
	return refused, err
}

// tryMember is tryBatch for a batch of one.
func (d *Decider) tryMember(batch []*item) {
	m := batch[0]
	refused, err := d.writeDecisions(m.ctx, batch)
	var failure *batchFailure
	var failed *txn.BranchError
	switch {
	case err == nil:
		m.refused = refused[m]
	case errors.Is(err, local.ErrCommitUnknown), errors.Is(err, barrierrows.ErrNotAll), errors.Is(err, local.ErrCommitRefused), local.Aborted(err):
		m.alone = true // which shows the cause
	case errors.As(err, &failure) && failure.op == barrier.Confirm && errors.As(err, &failed):
		m.e.txn.Steps[failed.Index].Early = failed.Err
		m.alone = true
	case errors.Is(err, errGone):
		m.err = local.Expired(m.ctx)
	default:
		m.err = err
	}
	close(m.done)
}

// commitAlone tells members to be decided alone.
func commitAlone(batch []*item) {
	for _, m := range batch {
		m.alone = true
		close(m.done)
	}
}

// errGone says that a caller has gone, and the batch is written without its member.
var errGone = errors.New("a caller has gone")

// present returns the members whose callers are still there. It tells the others that
// nothing was written.
func present(batch []*item) []*item {
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
		commitAlone(batch)
		return nil
	}
	for _, m := range batch {
		if inUse[m.e.txn.GID] {
			commitAlone([]*item{m})
		} else {
			rest = append(rest, m)
		}
	}
	return rest
}

// batchFailure is the failure of some members, which have to be decided alone.
type batchFailure struct {
	op     barrier.Op
	failed []*item
	split  bool // the members after the failed one have not been called
	err    error
}

func (s *batchFailure) Error() string { return s.err.Error() }
func (s *batchFailure) Unwrap() error { return s.err }

// without tells the failed members to be decided alone. It returns the others in two
// batches: the members in before were called without a failure.
func (s *batchFailure) without(batch []*item) (before, rest []*item) {
	for _, m := range batch {
		switch {
		case slices.Contains(s.failed, m):
			commitAlone([]*item{m})
			if s.split {
				before, rest = rest, nil
			}
		default:
			rest = append(rest, m)
		}
	}
	return before, rest
}
