package saga

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// Begin opens a transaction whose decision comes later; see [Engine]. It
// belongs to no process: any instance may add branches and decide, and at the
// deadline whichever is there cancels it.
func (o *Orchestrator) Begin(ctx context.Context, opening Opening) error {
	gid := opening.GID
	if err := barrier.ValidateGID(gid); err != nil {
		return invalid("begin: %w", err)
	}
	if err := checkPattern(opening.Pattern); err != nil {
		return invalid("begin %s: %w", gid, err)
	}
	timeout, err := opening.timeout(o.config.OpenTimeout)
	if err != nil {
		return invalid("begin %s: %w", gid, err)
	}
	ctx, leave, err := o.admit(ctx)
	if err != nil {
		return fmt.Errorf("begin %s: %w", gid, err)
	}
	defer leave()
	start := txlog.Start{GID: gid, Pattern: opening.Pattern, State: txlog.Trying, Deadline: timeout, Due: timeout}
	err = local.Run(ctx, o.db, func(tx *gorm.DB) error { return o.log.Insert(ctx, tx, start) })
	if errors.Is(err, local.ErrCommitUnknown) {
		// Waits for the unanswered COMMIT.
		err = local.Run(ctx, o.db, func(tx *gorm.DB) error { return o.log.Insert(ctx, tx, start) })
	}
	if errors.Is(err, txlog.ErrExists) {
		record, err := o.log.Get(ctx, gid)
		switch {
		case err != nil:
			return fmt.Errorf("saga: begin %s: %w", gid, err)
		case record.Digest != "" || record.Pattern != opening.Pattern:
			return fmt.Errorf("begin: the gid %s: %w", gid, ErrMismatch)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("saga: begin %s: %w", gid, err)
	}
	return nil
}

// Try adds a branch to an open transaction and tries it; see [Engine]. The name
// of the branch is in the log before, or with, whatever its Try does.
//
// After an error other than [ErrInvalid] a branch that lives elsewhere may have
// reserved something. It is named in the log, so that cancelling gives back
// what there is; do not confirm.
func (o *Orchestrator) Try(ctx context.Context, gid, branchID string, request Step) error {
	s, err := o.newStep(gid, branchID, request)
	if err != nil {
		return fmt.Errorf("try %s/%s: %w", gid, branchID, err)
	}
	ctx, leave, err := o.admit(ctx)
	if err != nil {
		return fmt.Errorf("try %s/%s: %w", gid, branchID, err)
	}
	defer leave()
	t := &txn{gid: gid, steps: []*step{s}}
	if err := o.refusePaused(t.steps); err != nil {
		return fmt.Errorf("try %s/%s: %w", gid, branchID, err)
	}
	for look := 1; ; look++ {
		err = o.tryOpen(ctx, t, s)
		if look == maxLooks || !errors.Is(err, local.ErrCommitUnknown) {
			break
		}
	}
	var failed *branchError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &failed):
		return fmt.Errorf("try %s/%s, %s: %w", gid, branchID, s.kind, failed.err)
	case errors.Is(err, txlog.ErrExists):
		return fmt.Errorf("try %s/%s: %w", gid, branchID, ErrMismatch)
	case errors.Is(err, txlog.ErrStale):
		return fmt.Errorf("try %s/%s: %w", gid, branchID, o.whyNotOpen(ctx, gid))
	default:
		return fmt.Errorf("try %s/%s: %w", gid, branchID, err)
	}
}

func (o *Orchestrator) tryOpen(ctx context.Context, t *txn, s *step) error {
	var joined txlog.Joined
	err := local.Run(ctx, o.db, func(tx *gorm.DB) (err error) {
		if err := o.holdWithin(ctx, tx, t.gid); err != nil {
			return err
		}
		if joined, err = o.log.Join(ctx, tx, s.row(t.gid)); err != nil || !s.branch.tryFused() {
			return err
		}
		if err := o.tryAll(ctx, tx, t, t.steps); err != nil {
			return err
		}
		return o.log.Tried(ctx, tx, t.gid, s.id)
	})
	if err != nil || s.branch.tryFused() || joined.Tried {
		return err
	}
	trying, cancel := context.WithTimeoutCause(ctx, joined.Left, errDeadline)
	defer cancel()
	if err := o.callApart(trying, s.branch, t.call(s, barrier.Try)); err != nil {
		return &branchError{kind: s.kind, err: causeOf(trying, err)}
	}
	return local.Run(ctx, o.db, func(tx *gorm.DB) error { return o.log.Tried(ctx, tx, t.gid, s.id) })
}

func (o *Orchestrator) whyNotOpen(ctx context.Context, gid string) error {
	record, err := o.log.Get(ctx, gid)
	switch {
	case errors.Is(err, txlog.ErrNotFound):
		return fmt.Errorf("%s: %w", gid, ErrNotFound)
	case err != nil:
		return err
	case State(record.State).Decided():
		return fmt.Errorf("it is %s: %w", record.State, ErrNotOpen)
	default:
		return fmt.Errorf("its deadline has passed: %w", ErrNotOpen)
	}
}

// Confirm decides to confirm an open transaction, and drives it; see [Engine].
// After the deadline it is refused, even if nobody has cancelled yet.
func (o *Orchestrator) Confirm(ctx context.Context, gid string) (Outcome, error) {
	return o.confirmOpen(ctx, gid, byCaller, nil)
}

// Cancel decides to cancel a transaction that is undecided, and drives it; see
// [Engine]. The reason is for people; at most 1,000 characters of it are kept.
func (o *Orchestrator) Cancel(ctx context.Context, gid, reason string) (Outcome, error) {
	if reason == "" {
		reason = "cancelled by the caller"
	}
	return o.cancelOpen(ctx, gid, byCaller, reason, nil)
}

// confirmOpen and cancelOpen decide, for whom by says, and record the act of an
// operator, if it is one, with the decision.
func (o *Orchestrator) confirmOpen(ctx context.Context, gid, by string, act *txlog.Act) (Outcome, error) {
	outcome, err := o.decideOpen(ctx, txlog.Decision{GID: gid, State: txlog.Confirming, By: by}, act)
	if err != nil {
		return outcome, fmt.Errorf("confirm %s: %w", gid, err)
	}
	return outcome, outcome.Err(nil)
}

func (o *Orchestrator) cancelOpen(ctx context.Context, gid, by, reason string, act *txlog.Act) (Outcome, error) {
	outcome, err := o.decideOpen(ctx, txlog.Decision{GID: gid, State: txlog.Cancelling, By: by, Reason: clip(reason, maxReason)}, act)
	if err == nil && (outcome.State == Confirming || outcome.State == Confirmed) {
		err = ErrConfirmed
	}
	if err != nil {
		return outcome, fmt.Errorf("cancel %s: %w", gid, err)
	}
	return outcome, nil
}

// decideOpen makes a decision, unless one was made, and drives what it decided.
func (o *Orchestrator) decideOpen(ctx context.Context, d txlog.Decision, act *txlog.Act) (Outcome, error) {
	if err := barrier.ValidateGID(d.GID); err != nil {
		return Outcome{}, invalid("%w", err)
	}
	ctx, leave, err := o.admit(ctx)
	if err != nil {
		return Outcome{GID: d.GID}, err
	}
	defer leave()
	d.Owner, d.Due = o.instance.ID, o.config.Lease
	record, decided, err := o.decideOnce(ctx, d, act)
	if err != nil {
		return Outcome{GID: d.GID}, err
	}
	outcome := Outcome{GID: d.GID, State: State(record.State), Reason: record.Reason}
	if !decided || record.Paused() {
		return outcome, nil
	}
	txns, err := o.load(ctx, []txlog.Record{record})
	if err != nil {
		return outcome, nil // decided; it becomes due again
	}
	flight := o.flights.takeOver(d.GID)
	if flight == nil {
		return outcome, nil // stopping; it becomes due again
	}
	return o.finish(ctx, txns[0], flight, record.Reason, scopeOf(ctx).returnDecided), nil
}

// decideOnce makes the decision d, or finds the one that was made. A Confirm
// that comes after the deadline makes the decision to cancel.
func (o *Orchestrator) decideOnce(ctx context.Context, d txlog.Decision, act *txlog.Act) (record txlog.Record, decided bool, err error) {
	for look := 1; ; look++ {
		record, decided, err = o.decideOrRead(ctx, d, act)
		if look == maxLooks || !errors.Is(err, local.ErrCommitUnknown) {
			break
		}
	}
	switch {
	case errors.Is(err, txlog.ErrNotFound):
		return record, false, ErrNotFound
	case errors.Is(err, ErrNotTried):
		return record, false, err
	case err != nil:
		return record, false, &UnknownError{GID: d.GID, Cause: err}
	case decided || State(record.State).Decided():
		return record, decided, nil
	case record.Digest != "":
		return record, false, fmt.Errorf("it is being executed with a plan, which decides by itself: %w", ErrNotOpen)
	case d.State == txlog.Confirming && record.Expired:
		d.State, d.By, d.Reason = txlog.Cancelling, byDeadline, "it was undecided at its deadline"
		return o.decideOnce(ctx, d, nil)
	default:
		return record, false, &UnknownError{GID: d.GID, Cause: txlog.ErrStale}
	}
}

// decideOrRead makes the decision and reads the row, locked, in one local
// transaction. A transaction with a plan is not confirmed from outside.
func (o *Orchestrator) decideOrRead(ctx context.Context, d txlog.Decision, act *txlog.Act) (record txlog.Record, decided bool, err error) {
	err = local.Run(ctx, o.db, func(tx *gorm.DB) error {
		decided = false
		if record, err = o.log.GetLocked(ctx, tx, d.GID); err != nil {
			return err
		}
		if !scopeOf(ctx).has(record.Pattern) {
			return txlog.ErrNotFound
		}
		if State(record.State).Decided() || d.State == txlog.Confirming && (record.Digest != "" || record.Expired) {
			return nil
		}
		if d.State == txlog.Confirming {
			untried, err := o.log.Untried(ctx, tx, d.GID)
			if err != nil {
				return err
			}
			if len(untried) > 0 {
				return fmt.Errorf("branch %s, %s: %w", untried[0].ID, untried[0].Kind, ErrNotTried)
			}
		}
		switch err := o.log.Decide(ctx, tx, d); {
		case errors.Is(err, txlog.ErrStale):
			return nil
		case err != nil:
			return err
		}
		decided = true
		if act != nil {
			if err := o.log.Record(ctx, tx, *act); err != nil {
				return err
			}
		}
		record, err = o.log.GetLocked(ctx, tx, d.GID)
		return err
	})
	return record, decided, err
}
