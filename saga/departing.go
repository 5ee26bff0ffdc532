package saga

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// departing is one run of the local transaction that a batch shares. Nothing of it
// is kept outside if it fails.
type departing struct {
	o       *Orchestrator
	tx      *gorm.DB
	watch   *watch
	batch   []*departure
	refused map[*departure]*branchError
}

// write writes a batch: the log and the barrier, as if all went well, then every
// Try, and the Confirms. The Trys come late because of the locks that they take:
// another batch that needs the same ones, for an article that everybody wants,
// does its writing meanwhile.
func (r *departing) write(ctx context.Context) error {
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
		// Whoever fails may be confirmed later; that it is, its Trys decide.
		failures, err := r.call(ctx, going, position, barrier.Confirm)
		if err != nil {
			return err
		}
		if failures != nil {
			return stumbling(barrier.Confirm, going, failures)
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
func (r *departing) try(ctx context.Context) (going []*departure, err error) {
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
			if going, err = r.refuse(ctx, going, failures); err != nil {
				return nil, err
			}
		case undoes && len(going) == len(r.batch) && allRejected(failures):
			return r.tryRest(ctx, failures)
		default:
			// What their other branches have done has to be undone.
			return nil, stumbling(barrier.Try, going, failures)
		}
	}
	return going, nil
}

// tryRest undoes all Trys, and makes those of the members that were not rejected. If
// one of these fails now, the others may have been rejected because of it, and
// nothing of it counts.
func (r *departing) tryRest(ctx context.Context, failures []error) (going []*departure, err error) {
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
			return nil, stumbling(barrier.Try, going, failures)
		}
	}
	return r.refuse(ctx, r.batch, failures)
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

// oneByOne says whether the members of the batch are tried one after the other,
// each behind a savepoint: a branch has rejected lately that does not judge many at
// once.
func (r *departing) oneByOne() bool {
	return len(r.batch) > 1 && slices.ContainsFunc(r.batch[0].e.txn.steps, func(s *step) bool {
		return s.branch.Together == nil && s.branch.rejects.lately()
	})
}

// undoes says whether the Trys of the batch are made behind a savepoint: a branch
// has rejected lately that judges many at once, after others have done their part.
func (r *departing) undoes() bool {
	return len(r.batch) > 1 && slices.ContainsFunc(r.batch[0].e.txn.steps[1:], func(s *step) bool { return s.branch.rejects.lately() })
}

// tryOneByOne makes all Trys of a member, then those of the next one. A rejection
// undoes what the member has done, and no more.
func (r *departing) tryOneByOne(ctx context.Context) (going []*departure, err error) {
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
	return r.refuse(ctx, r.batch, failures)
}

// savepoint marks where the Trys of the n-th member begin. MySQL forgets one of
// the same name by itself.
func (r *departing) savepoint(n int) string {
	const mark = "SAVEPOINT tccsaga_member"
	if n == 0 || r.o.db.Name() == "mysql" {
		return mark
	}
	return "RELEASE " + mark + "; " + mark
}

func (r *departing) exec(ctx context.Context, statement string) error {
	if _, err := r.tx.Statement.ConnPool.ExecContext(ctx, statement); err != nil {
		return fmt.Errorf("a savepoint of a batch: %w", err)
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

// call makes the same call of one branch of each. The failures are in the order
// of the batch, and nil if there is none; the error is of the database, or a
// stumble.
func (r *departing) call(ctx context.Context, batch []*departure, position int, op barrier.Op) (failures []error, err error) {
	if len(batch) == 0 {
		return nil, nil
	}
	b := batch[0].e.txn.steps[position].branch
	calls := make([]JointCall, len(batch))
	for i, d := range batch {
		// The caller's end would break the connection under all of them.
		calls[i] = JointCall{Context: context.WithoutCancel(d.ctx), Call: d.e.txn.call(d.e.txn.steps[position], op)}
	}
	failures, err = r.o.jointly(ctx, r.tx, r.watch, b, calls)
	failure := func(d *departure, err error) error {
		var rejection *Rejection
		if errors.As(err, &rejection) {
			b.rejects.note()
		}
		return &branchError{index: position, id: d.e.txn.steps[position].id, kind: b.Kind, err: err}
	}
	var one *singleFailure
	if errors.As(err, &one) {
		d := batch[one.index]
		return nil, &stumble{op: op, who: []*departure{d}, split: true, err: failure(d, one.err)}
	}
	for i, err := range failures {
		if err != nil {
			failures[i] = failure(batch[i], err)
		}
	}
	return failures, err
}

// logConfirmed writes the transactions of a batch as decided, and as finished if
// their Confirms come with them.
func (r *departing) logConfirmed(ctx context.Context) error {
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
	return barrier.TryAll(ctx, r.tx, tried, confirmed)
}

// refuse writes those of a batch as cancelled whose Trys have failed and left
// nothing, and returns the others.
func (r *departing) refuse(ctx context.Context, batch []*departure, failures []error) (going []*departure, err error) {
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
	if err := barrier.Remove(ctx, r.tx, gids...); err != nil {
		return nil, err
	}
	return going, r.o.log.Insert(ctx, r.tx, starts...)
}
