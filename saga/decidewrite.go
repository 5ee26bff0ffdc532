package saga

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// decideRun is one run of the local transaction of a decide batch. If it fails, nothing
// of it is kept outside.
type decideRun struct {
	o       *Orchestrator
	tx      *gorm.DB
	watch   *watch
	batch   []*decideItem
	refused map[*decideItem]*branchError
}

// write writes the log and the barrier as if every member succeeds, then makes every
// Try, then the Confirms. The Trys take the hot locks, so they come late: another batch
// that needs the same locks writes its log rows meanwhile.
func (r *decideRun) write(ctx context.Context) error {
	if err := r.logConfirmed(ctx); err != nil {
		return err
	}
	going, err := r.try(ctx)
	if err != nil {
		return err
	}
	for position, s := range r.batch[0].e.txn.steps {
		if !s.branch.confirmsInside() {
			continue
		}
		// The Trys decide. A member whose Confirm fails is confirmed later.
		failures, err := r.call(ctx, going, position, barrier.Confirm)
		if err != nil {
			return err
		}
		if failures != nil {
			return failureOf(barrier.Confirm, going, failures)
		}
	}
	for _, d := range going {
		if local.Expired(d.ctx) != nil {
			return errGone
		}
	}
	return nil
}

// try makes every Try, and returns those whose Trys have all succeeded.
func (r *decideRun) try(ctx context.Context) (going []*decideItem, err error) {
	if r.oneByOne() {
		return r.tryOneByOne(ctx)
	}
	undoes := r.undoes()
	if undoes {
		if err := r.exec(ctx, r.savepoint(0)); err != nil {
			return nil, err
		}
	}
	going = r.batch
	for position := range r.batch[0].e.txn.steps {
		failures, err := r.call(ctx, going, position, barrier.Try)
		switch {
		case err != nil:
			return nil, err
		case failures == nil:
		case position == 0:
			if going, err = r.recordCancelled(ctx, going, failures); err != nil {
				return nil, err
			}
		case undoes && len(going) == len(r.batch) && allRejected(failures):
			return r.tryRest(ctx, failures)
		default:
			// The effects of their other branches have to be undone.
			return nil, failureOf(barrier.Try, going, failures)
		}
	}
	return going, nil
}

// tryRest undoes all Trys and makes those of the members that were not rejected. If one
// of them fails now, the other rejections may depend on it, so the run fails.
func (r *decideRun) tryRest(ctx context.Context, failures []error) (going []*decideItem, err error) {
	if err := r.exec(ctx, "ROLLBACK TO SAVEPOINT tccsaga_member"); err != nil {
		return nil, err
	}
	for i, d := range r.batch {
		if failures[i] == nil {
			going = append(going, d)
		}
	}
	for position := range r.batch[0].e.txn.steps {
		failures, err := r.call(ctx, going, position, barrier.Try)
		if err != nil {
			return nil, err
		}
		if failures != nil {
			return nil, failureOf(barrier.Try, going, failures)
		}
	}
	return r.recordCancelled(ctx, r.batch, failures)
}

// allRejected says whether every failure is a clear no of a branch.
func allRejected(failures []error) bool {
	for _, err := range failures {
		var rejection *Rejection
		if err != nil && !errors.As(err, &rejection) {
			return false
		}
	}
	return true
}

// oneByOne reports whether the members are tried one after the other, each after a
// savepoint. So it is if a branch without Together has rejected recently.
func (r *decideRun) oneByOne() bool {
	return len(r.batch) > 1 && slices.ContainsFunc(r.batch[0].e.txn.steps, func(s *step) bool {
		return s.branch.Together == nil && s.branch.rejected.Recent()
	})
}

// undoes reports whether the Trys of the batch are made after a savepoint. So it is if
// a branch that is not the first one has rejected recently.
func (r *decideRun) undoes() bool {
	return len(r.batch) > 1 && slices.ContainsFunc(r.batch[0].e.txn.steps[1:], func(s *step) bool { return s.branch.rejected.Recent() })
}

// tryOneByOne makes all Trys of a member, then those of the next one. A rejection undoes
// the effects of its member only.
func (r *decideRun) tryOneByOne(ctx context.Context) (going []*decideItem, err error) {
	failures := make([]error, len(r.batch))
	began := time.Now()
	for i, d := range r.batch {
		if time.Since(began) > slowStart+time.Duration(i*len(d.e.txn.steps))*quickCall {
			return nil, errSlow
		}
		if err := r.exec(ctx, r.savepoint(i)); err != nil {
			return nil, err
		}
		for position := range d.e.txn.steps {
			_, err := r.call(ctx, r.batch[i:i+1], position, barrier.Try)
			var failed *branchError
			var rejection *Rejection
			switch {
			case err == nil:
				continue
			case !errors.As(err, &rejection) || !errors.As(err, &failed):
				return nil, err
			}
			failures[i] = failed
			if err := r.exec(ctx, "ROLLBACK TO SAVEPOINT tccsaga_member"); err != nil {
				return nil, err
			}
			break
		}
	}
	if errors.Join(failures...) == nil {
		return r.batch, nil
	}
	return r.recordCancelled(ctx, r.batch, failures)
}

// savepoint returns the statement that sets the savepoint of the n-th member. MySQL
// replaces a savepoint of the same name; the others do not.
func (r *decideRun) savepoint(n int) string {
	const mark = "SAVEPOINT tccsaga_member"
	if n == 0 || r.o.db.Name() == "mysql" {
		return mark
	}
	return "RELEASE " + mark + "; " + mark
}

func (r *decideRun) exec(ctx context.Context, statement string) error {
	if _, err := r.tx.Statement.ConnPool.ExecContext(ctx, statement); err != nil {
		return fmt.Errorf("a savepoint of a batch: %w", err)
	}
	return nil
}

func failureOf(op barrier.Op, batch []*decideItem, failures []error) *batchFailure {
	s := &batchFailure{op: op, err: errors.Join(failures...)}
	for i, d := range batch {
		if failures[i] != nil {
			s.failed = append(s.failed, d)
		}
	}
	return s
}

// call makes the same call of the branch at a position for each member. The failures
// are in the order of the batch, and nil if there is none. The error is of the
// database, or a batchFailure.
func (r *decideRun) call(ctx context.Context, batch []*decideItem, position int, op barrier.Op) (failures []error, err error) {
	if len(batch) == 0 {
		return nil, nil
	}
	b := batch[0].e.txn.steps[position].branch
	calls := make([]JointCall, len(batch))
	for i, d := range batch {
		// The end of one caller would break the connection of all members.
		calls[i] = JointCall{Context: context.WithoutCancel(d.ctx), Call: d.e.txn.call(d.e.txn.steps[position], op)}
	}
	failures, err = r.o.jointly(ctx, r.tx, r.watch, b, calls)
	failure := func(d *decideItem, err error) error {
		var rejection *Rejection
		if errors.As(err, &rejection) {
			b.rejected.Note()
		}
		return &branchError{index: position, id: d.e.txn.steps[position].id, kind: b.Kind, err: err}
	}
	var one *singleFailure
	if errors.As(err, &one) {
		d := batch[one.index]
		return nil, &batchFailure{op: op, failed: []*decideItem{d}, split: true, err: failure(d, one.err)}
	}
	for i, err := range failures {
		if err != nil {
			failures[i] = failure(batch[i], err)
		}
	}
	return failures, err
}

// logConfirmed writes the transactions of a batch as decided. It writes them as finished
// if all their Confirms are in the same commit.
func (r *decideRun) logConfirmed(ctx context.Context) error {
	starts := make([]txlog.Start, len(r.batch))
	var tried, confirmed []barrier.Request
	for i, d := range r.batch {
		start := d.e.start
		start.DecidedBy, start.Due, start.State = byCaller, r.o.config.Lease, txlog.Confirmed
		for _, s := range d.e.txn.steps {
			request := d.e.txn.call(s, barrier.Try).request()
			if s.branch.confirmsInside() {
				confirmed = append(confirmed, request)
			} else {
				tried, start.State = append(tried, request), txlog.Confirming
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
	if err := r.o.log.Insert(ctx, r.tx, starts...); err != nil {
		return err
	}
	return barrierrows.TryAll(ctx, r.tx, tried, confirmed)
}

// recordCancelled records the members whose Trys have failed and left no effect as
// cancelled, and returns the others.
func (r *decideRun) recordCancelled(ctx context.Context, batch []*decideItem, failures []error) (going []*decideItem, err error) {
	var gids []string
	var starts []txlog.Start
	for i, d := range batch {
		if failures[i] == nil {
			going = append(going, d)
			continue
		}
		var failed *branchError
		errors.As(failures[i], &failed)
		r.refused[d] = failed
		start, why := d.e.start, reasonOf(failed)
		start.DecidedBy, start.State, start.Reason, start.Code, start.BranchID = byCaller, txlog.Cancelled, why.text, why.code, why.branchID
		gids, starts = append(gids, start.GID), append(starts, start)
	}
	if err := r.o.log.Withdraw(ctx, r.tx, gids); err != nil {
		return nil, err
	}
	if err := barrierrows.Remove(ctx, r.tx, gids...); err != nil {
		return nil, err
	}
	return going, r.o.log.Insert(ctx, r.tx, starts...)
}
