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
	err     error // why it failed; a branchError if it was a Try
	refused error // likewise, and it is in the log as the reason of the cancel
	alone   bool  // it has to be decided in a local transaction of its own
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
		return errors.Unwrap(d.refused)
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
	err := o.share(ctx, len(batch), batch[0].e.txn.steps, func(tx *gorm.DB) error { return o.writeDepartures(ctx, tx, batch) })
	var stumbled *stumble
	switch {
	case err == nil:
		for _, d := range batch {
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

// tryOne is tryTogether for a batch of one, who has nobody to be considerate of.
func (o *Orchestrator) tryOne(batch []*departure) {
	d := batch[0]
	err := o.share(d.ctx, 1, d.e.txn.steps, func(tx *gorm.DB) error { return o.writeDepartures(d.ctx, tx, batch) })
	var stumbled *stumble
	var failed *branchError
	switch {
	case errors.Is(err, local.ErrCommitUnknown), errors.Is(err, barrier.ErrNotAll), errors.Is(err, local.ErrCommitRefused), local.Poisoned(err):
		d.alone = true // and then it is clear what it was
	case errors.As(err, &stumbled) && stumbled.op == barrier.Confirm && errors.As(err, &failed):
		d.e.txn.steps[failed.index].early = failed.err
		d.alone = true
	case errors.Is(err, errGone):
		d.err = local.Over(d.ctx)
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
		if d.err = local.Over(d.ctx); d.err != nil {
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
	inUse, err := o.log.InUse(ctx, gids)
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

// writeDepartures writes a batch in the local transaction tx: the log and the
// barrier, as if all went well, then every Try, and the Confirms. The Trys come
// late because of the locks that they take: another batch that needs the same
// ones, for an article that everybody wants, does its writing meanwhile.
func (o *Orchestrator) writeDepartures(ctx context.Context, tx *gorm.DB, batch []*departure) error {
	if err := o.logConfirmed(ctx, tx, batch); err != nil {
		return err
	}
	going := batch
	for position := range batch[0].e.txn.steps {
		failures, err := o.callTogether(ctx, tx, going, position, barrier.Try)
		if err != nil {
			return err
		}
		if failures == nil {
			continue
		}
		if position > 0 {
			// What their other branches have done has to be undone.
			return stumbling(barrier.Try, going, failures)
		}
		if going, err = o.refuse(ctx, tx, going, failures); err != nil {
			return err
		}
	}
	for position, s := range batch[0].e.txn.steps {
		if !s.branch.confirmsInside() {
			continue
		}
		// Whoever fails may be confirmed later; that it is, its Trys decide.
		failures, err := o.callTogether(ctx, tx, going, position, barrier.Confirm)
		if err != nil {
			return err
		}
		if failures != nil {
			return stumbling(barrier.Confirm, going, failures)
		}
	}
	for _, d := range going {
		if local.Over(d.ctx) != nil {
			return errGone
		}
	}
	return nil
}

func stumbling(op barrier.Op, batch []*departure, failures []error) *stumble {
	s := &stumble{op: op, err: errors.Join(failures...)}
	for i, d := range batch {
		if failures[i] != nil {
			s.who = append(s.who, d)
		}
	}
	return s
}

// callTogether makes the same call of one branch of each. The failures are in
// the order of the batch, and nil if there is none; the error is of the
// database, or a stumble.
func (o *Orchestrator) callTogether(ctx context.Context, tx *gorm.DB, batch []*departure, position int, op barrier.Op) (failures []error, err error) {
	if len(batch) == 0 {
		return nil, nil
	}
	b := batch[0].e.txn.steps[position].branch
	calls := make([]JointCall, len(batch))
	for i, d := range batch {
		calls[i] = JointCall{Context: d.ctx, Call: d.e.txn.call(d.e.txn.steps[position], op)}
		if len(batch) > 1 {
			// The caller's end would break the connection under all of them.
			calls[i].Context = context.WithoutCancel(d.ctx)
		}
	}
	failures, err = o.jointly(ctx, tx, b, calls)
	var one *singleFailure
	if errors.As(err, &one) {
		failure := &branchError{index: position, kind: b.Kind, err: one.err}
		return nil, &stumble{op: op, who: []*departure{batch[one.index]}, split: true, err: failure}
	}
	for i, failure := range failures {
		if failure != nil {
			failures[i] = &branchError{index: position, kind: b.Kind, err: failure}
		}
	}
	return failures, err
}

// logConfirmed writes the transactions of a batch as decided, and as finished if
// their Confirms come with them.
func (o *Orchestrator) logConfirmed(ctx context.Context, tx *gorm.DB, batch []*departure) error {
	starts := make([]txlog.Start, len(batch))
	var tried, confirmed []barrier.Key
	for i, d := range batch {
		d.refused = nil // of an earlier run
		start := d.e.start
		start.DecidedBy, start.Due, start.State = byCaller, o.config.Lease, txlog.Confirmed
		for _, s := range d.e.txn.steps {
			key := barrier.Key{GID: d.e.txn.gid, BranchID: s.id}
			if s.branch.confirmsInside() {
				confirmed = append(confirmed, key)
			} else {
				tried, start.State = append(tried, key), txlog.Confirming
			}
		}
		if start.State == txlog.Confirming {
			start.Branches = slices.Clone(start.Branches)
			for n, s := range d.e.txn.steps {
				start.Branches[n].Done = s.branch.confirmsInside()
			}
		}
		starts[i] = start
	}
	if err := o.log.Insert(ctx, tx, starts...); err != nil {
		return err
	}
	return barrier.TryAll(ctx, tx, tried, confirmed)
}

// refuse writes those of a batch as cancelled whose first Try failed, and
// returns the others.
func (o *Orchestrator) refuse(ctx context.Context, tx *gorm.DB, batch []*departure, failures []error) (going []*departure, err error) {
	var gids []string
	var starts []txlog.Start
	for i, d := range batch {
		if d.refused = failures[i]; d.refused == nil {
			going = append(going, d)
			continue
		}
		start := d.e.start
		start.DecidedBy, start.State, start.Reason = byCaller, txlog.Cancelled, reasonOf(d.refused)
		gids, starts = append(gids, start.GID), append(starts, start)
	}
	if err := o.log.Remove(ctx, tx, gids); err != nil {
		return nil, err
	}
	if err := barrier.Remove(ctx, tx, gids...); err != nil {
		return nil, err
	}
	return going, o.log.Insert(ctx, tx, starts...)
}
