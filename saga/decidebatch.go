package saga

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// decideItem is a member of a decide batch: a plan all of whose branches are resident
// and quick. It needs one commit, which holds every Try, the decision, and every
// Confirm that acts on nothing but the database. Plans with the same kinds of branches
// share the commit.
//
// A failed member is decided again alone, so its error rests on committed data. There
// are two exceptions: a rejection by a branch that judges many members at once, and a
// batch of one.
type decideItem struct {
	ctx  context.Context
	e    *execution
	done chan struct{}

	// How it went, when done is closed.
	err     error        // why it failed; a branchError if it was a Try
	refused *branchError // the Try that failed; the log has it as the reason of the cancel
	alone   bool         // it has to be decided in a local transaction of its own
}

// decideInBatch decides a plan in a shared commit if it can, and alone otherwise.
func (e *execution) decideInBatch(ctx context.Context) error {
	o, t := e.o, e.txn
	key, shared := o.batchKey(t.steps)
	if !shared {
		return e.decideAlone(ctx)
	}
	d := &decideItem{ctx: ctx, e: e, done: make(chan struct{})}
	o.decisions.Add(key, d)
	<-d.done
	switch {
	case d.alone:
		return e.decideAlone(ctx)
	case d.err != nil:
		return e.refuse(ctx, d.err)
	case d.refused != nil:
		t.state, e.reason = Cancelled, reasonOf(d.refused)
		return d.refused.err
	}
	t.state, t.fresh = Confirmed, true
	for _, s := range t.steps {
		if s.done = s.branch.confirmsInside(); s.done {
			s.branch.breaker.Success()
		} else {
			t.state = Confirming
		}
	}
	return nil
}

const (
	// maxWorkers is how many batches with the same key are written at once: while one
	// waits for the database, the other one uses the time.
	maxWorkers = 2

	// Larger transactions do not share commits: they gain little, and the other
	// members would wait for them.
	sharedBranches = 8
	sharedBytes    = 16 << 10
)

// batchKey returns the key of the batches that transactions with these steps share. It
// returns false if they do not share commits now.
func (o *Orchestrator) batchKey(steps []*step) (key string, shared bool) {
	if len(steps) > sharedBranches || o.config.MaxBatch == 1 {
		return "", false
	}
	var b strings.Builder
	bytes := 0
	for _, s := range steps {
		if bytes += len(s.payload); bytes > sharedBytes {
			return "", false
		}
		if s.branch.backoff.Active() {
			return "", false
		}
		b.WriteString(s.id)
		b.WriteByte(' ')
		b.WriteString(s.kind)
		b.WriteByte('\n')
	}
	return b.String(), true
}

// decideBatch decides the members of a batch.
func (o *Orchestrator) decideBatch(batch []*decideItem) {
	sortByInput(batch)
	o.tryBatch(batch)
}

// sortByInput sorts a batch by the payload of the first branch. Members with the same
// payload mostly lock the same rows. So parallel batches lock rows in the same order,
// and wait instead of deadlocking.
func sortByInput(batch []*decideItem) {
	slices.SortFunc(batch, func(a, b *decideItem) int {
		return bytes.Compare(a.e.txn.steps[0].payload, b.e.txn.steps[0].payload)
	})
}

// tryBatch writes a batch in one commit and tells its members the result. If some
// members fail, it writes the others again without them. Members whose callers have
// gone are dropped first.
func (o *Orchestrator) tryBatch(batch []*decideItem) {
	if batch = present(batch); len(batch) == 0 {
		return
	}
	if len(batch) == 1 {
		o.tryMember(batch)
		return
	}
	ctx, cancel := o.detachFor(o.work)
	defer cancel()
	refused, err := o.writeDecisions(ctx, batch)
	var failure *batchFailure
	switch {
	case err == nil:
		for _, d := range batch {
			d.refused = refused[d]
			close(d.done)
		}
	case errors.Is(err, errGone):
		o.tryBatch(batch)
	case errors.As(err, &failure):
		before, rest := failure.without(batch)
		o.tryBatch(before)
		o.tryBatch(rest)
	case errors.Is(err, txlog.ErrExists):
		o.tryBatch(o.withoutUsed(batch))
	default:
		// Each member finds out alone whether it is at fault. If the COMMIT was made
		// and not answered, each finds its own transaction in the log.
		commitAlone(batch)
	}
}

// writeDecisions writes a batch in one local transaction. It returns the members that
// are recorded as cancelled, each with its first failing Try.
func (o *Orchestrator) writeDecisions(ctx context.Context, batch []*decideItem) (refused map[*decideItem]*branchError, err error) {
	err = o.share(ctx, len(batch), batch[0].e.txn.steps, func(ctx context.Context, tx *gorm.DB, w *watch) error {
		run := &decideRun{o: o, tx: tx, watch: w, batch: batch, refused: map[*decideItem]*branchError{}}
		if err := run.write(ctx); err != nil {
			return err
		}
		refused = run.refused // of the last run
		return nil
	})
	return refused, err
}

// tryMember is tryBatch for a batch of one.
func (o *Orchestrator) tryMember(batch []*decideItem) {
	d := batch[0]
	refused, err := o.writeDecisions(d.ctx, batch)
	var failure *batchFailure
	var failed *branchError
	switch {
	case err == nil:
		d.refused = refused[d]
	case errors.Is(err, local.ErrCommitUnknown), errors.Is(err, barrierrows.ErrNotAll), errors.Is(err, local.ErrCommitRefused), local.Aborted(err):
		d.alone = true // which shows the cause
	case errors.As(err, &failure) && failure.op == barrier.Confirm && errors.As(err, &failed):
		d.e.txn.steps[failed.index].early = failed.err
		d.alone = true
	case errors.Is(err, errGone):
		d.err = local.Expired(d.ctx)
	default:
		d.err = err
	}
	close(d.done)
}

// commitAlone tells members to be decided alone.
func commitAlone(batch []*decideItem) {
	for _, d := range batch {
		d.alone = true
		close(d.done)
	}
}

// errGone says that a caller has gone, and the batch is written without its member.
var errGone = errors.New("a caller has gone")

// present returns the members whose callers are still there. It tells the others that
// nothing was written.
func present(batch []*decideItem) []*decideItem {
	kept := batch[:0]
	for _, d := range batch {
		if d.err = local.Expired(d.ctx); d.err != nil {
			close(d.done)
		} else {
			kept = append(kept, d)
		}
	}
	return kept
}

// withoutUsed returns the members whose gids are not in use; the others are decided
// alone. If no gid is in use, another transaction is about to commit one of them, and
// all members are decided alone.
func (o *Orchestrator) withoutUsed(batch []*decideItem) (rest []*decideItem) {
	gids := make([]string, len(batch))
	for i, d := range batch {
		gids[i] = d.e.txn.gid
	}
	ctx, cancel := o.detachFor(o.work)
	defer cancel()
	var inUse map[string]bool
	err := local.Run(ctx, o.db, func(tx *gorm.DB) (err error) {
		inUse, err = o.log.InUse(ctx, tx, gids)
		return err
	})
	if err != nil || len(inUse) == 0 {
		commitAlone(batch)
		return nil
	}
	for _, d := range batch {
		if inUse[d.e.txn.gid] {
			commitAlone([]*decideItem{d})
		} else {
			rest = append(rest, d)
		}
	}
	return rest
}

// batchFailure is the failure of some members, which have to be decided alone.
type batchFailure struct {
	op     barrier.Op
	failed []*decideItem
	split  bool // the members after the failed one have not been called
	err    error
}

func (s *batchFailure) Error() string { return s.err.Error() }
func (s *batchFailure) Unwrap() error { return s.err }

// without tells the failed members to be decided alone. It returns the others in two
// batches: the members in before were called without a failure.
func (s *batchFailure) without(batch []*decideItem) (before, rest []*decideItem) {
	for _, d := range batch {
		switch {
		case slices.Contains(s.failed, d):
			commitAlone([]*decideItem{d})
			if s.split {
				before, rest = rest, nil
			}
		default:
			rest = append(rest, d)
		}
	}
	return before, rest
}
