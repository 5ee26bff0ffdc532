package saga

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// departure is an execution of a plan all of whose branches are resident and
// quick. It needs one commit: every Try, the decision and every Confirm that
// acts on nothing but the database. Departures whose plans have the same kinds
// of branches share it.
//
// A shared commit is for what goes well. Whoever meets with a failure there,
// other than the clear verdict of a branch that judges all of them at once, is
// told nothing of it: it is decided again in a local transaction of its own, so
// that what it is told is its own doing, and rests on what is committed. Who is
// the only one in its batch is told right away.
type departure struct {
	ctx  context.Context
	e    *execution
	done chan struct{}

	// How it went, when done is closed.
	err     error        // why it failed; a branchError if it was a Try
	refused *branchError // likewise, and it is in the log as the reason of the cancel
	alone   bool         // it has to be decided in a local transaction of its own
}

// depart decides a plan together with others, if that goes well, and else by
// itself.
func (e *execution) depart(ctx context.Context) error {
	o, t := e.o, e.txn
	key, company := o.companyOf(t.steps)
	if !company {
		return e.decideAlone(ctx)
	}
	d := &departure{ctx: ctx, e: e, done: make(chan struct{})}
	o.departures.add(key, d)
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
			s.branch.valve.success()
		} else {
			t.state = Confirming
		}
	}
	return nil
}

const (
	// hands is how many batches of a group are at work at once: while one waits
	// for the database, the other one uses the time.
	hands = 2

	// Larger transactions do not share commits: they would gain little, and
	// make the others wait.
	sharedBranches = 8
	sharedBytes    = 16 << 10
)

// companyOf says with whom transactions with these steps share commits, by a
// key; false says that they would not do well together.
func (o *Orchestrator) companyOf(steps []*step) (key string, company bool) {
	if len(steps) > sharedBranches || o.config.MaxBatch == 1 {
		return "", false
	}
	var b strings.Builder
	bytes := 0
	for _, s := range steps {
		if bytes += len(s.payload); bytes > sharedBytes {
			return "", false
		}
		if s.branch.pace.stalling() {
			return "", false
		}
		b.WriteString(s.id)
		b.WriteByte(' ')
		b.WriteString(s.kind)
		b.WriteByte('\n')
	}
	return b.String(), true
}

// departTogether writes a batch.
func (o *Orchestrator) departTogether(batch []*departure) {
	inOrder(batch)
	o.tryTogether(batch)
}

// inOrder sorts a batch by what its first branches are called with. Those that
// touch the same rows mostly have the same input, so that batches at work at
// once lock rows in the same order, and wait for each other rather than
// deadlock.
func inOrder(batch []*departure) {
	slices.SortFunc(batch, func(a, b *departure) int {
		return bytes.Compare(a.e.txn.steps[0].payload, b.e.txn.steps[0].payload)
	})
}

// tryTogether writes those of a batch who are still there, and tells them how
// it went. Without those who cannot go with the others, these are written
// again.
func (o *Orchestrator) tryTogether(batch []*departure) {
	if batch = present(batch); len(batch) == 0 {
		return
	}
	if len(batch) == 1 {
		o.tryOne(batch)
		return
	}
	ctx, cancel := o.detachFor(o.work)
	defer cancel()
	refused, err := o.shareDepartures(ctx, batch)
	var stumbled *stumble
	switch {
	case err == nil:
		for _, d := range batch {
			d.refused = refused[d]
			close(d.done)
		}
	case errors.Is(err, errGone):
		o.tryTogether(batch)
	case errors.As(err, &stumbled):
		before, rest := stumbled.without(batch)
		o.tryTogether(before)
		o.tryTogether(rest)
	case errors.Is(err, txlog.ErrExists):
		o.tryTogether(o.withoutStarted(batch))
	default:
		// Whoever is at fault finds out, and if the COMMIT was made and only
		// not answered, everybody does.
		goAlone(batch)
	}
}

// shareDepartures writes a batch in one local transaction. The refused are those
// whose first failing Try is in the log as the reason of their cancel.
func (o *Orchestrator) shareDepartures(ctx context.Context, batch []*departure) (refused map[*departure]*branchError, err error) {
	err = o.share(ctx, len(batch), batch[0].e.txn.steps, func(ctx context.Context, tx *gorm.DB, w *watch) error {
		run := &departing{o: o, tx: tx, watch: w, batch: batch, refused: map[*departure]*branchError{}}
		if err := run.write(ctx); err != nil {
			return err
		}
		refused = run.refused // of the last run
		return nil
	})
	return refused, err
}

// tryOne is tryTogether for a batch of one, who has nobody to be considerate of.
func (o *Orchestrator) tryOne(batch []*departure) {
	d := batch[0]
	refused, err := o.shareDepartures(d.ctx, batch)
	var stumbled *stumble
	var failed *branchError
	switch {
	case err == nil:
		d.refused = refused[d]
	case errors.Is(err, local.ErrCommitUnknown), errors.Is(err, barrier.ErrNotAll), errors.Is(err, local.ErrCommitRefused), local.Aborted(err):
		d.alone = true // and then it is clear what it was
	case errors.As(err, &stumbled) && stumbled.op == barrier.Confirm && errors.As(err, &failed):
		d.e.txn.steps[failed.index].early = failed.err
		d.alone = true
	case errors.Is(err, errGone):
		d.err = local.Expired(d.ctx)
	default:
		d.err = err
	}
	close(d.done)
}

// goAlone sends departures on their own ways.
func goAlone(batch []*departure) {
	for _, d := range batch {
		d.alone = true
		close(d.done)
	}
}

// errGone is why a batch is written again without those who have gone.
var errGone = errors.New("a caller has gone")

// present drops those whose callers have gone before anything was written.
func present(batch []*departure) []*departure {
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

// withoutStarted sends those whose gids are in use on their own way, and
// returns the others. If there is none, somebody is just about to use one, and
// all go alone.
func (o *Orchestrator) withoutStarted(batch []*departure) (rest []*departure) {
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
		goAlone(batch)
		return nil
	}
	for _, d := range batch {
		if inUse[d.e.txn.gid] {
			goAlone([]*departure{d})
		} else {
			rest = append(rest, d)
		}
	}
	return rest
}

// stumble is the failure of some of a batch, who have to go alone.
type stumble struct {
	op    barrier.Op
	who   []*departure
	split bool // those after the one who stumbled have not been called
	err   error
}

func (s *stumble) Error() string { return s.err.Error() }
func (s *stumble) Unwrap() error { return s.err }

// without sends those who stumbled on their own way. The others are returned in
// two batches: before is expected to go well.
func (s *stumble) without(batch []*departure) (before, rest []*departure) {
	for _, d := range batch {
		switch {
		case slices.Contains(s.who, d):
			goAlone([]*departure{d})
			if s.split {
				before, rest = rest, nil
			}
		default:
			rest = append(rest, d)
		}
	}
	return before, rest
}
