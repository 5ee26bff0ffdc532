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
	start := txlog.Start{GID: gid, Pattern: opening.Pattern, State: txlog.Trying, Deadline: timeout, Due: timeout}
	return awaitError(ctx, gid, func() error {
		defer leave()
		return o.begin(ctx, start)
	})
}

func (o *Orchestrator) begin(ctx context.Context, start txlog.Start) error {
	insert := func(tx *gorm.DB) error { return o.log.Insert(ctx, tx, start) }
	err := local.Run(ctx, o.db, insert)
	if errors.Is(err, local.ErrCommitUnknown) {
		// Waits for the unanswered COMMIT.
		err = local.Run(ctx, o.db, insert)
	}
	if errors.Is(err, txlog.ErrExists) {
		var record txlog.Record
		if record, err = o.readLocked(ctx, start.GID); err == nil && (record.Digest != "" || record.Pattern != start.Pattern) {
			return fmt.Errorf("begin: the gid %s: %w", start.GID, ErrMismatch)
		}
	}
	if err != nil {
		return fmt.Errorf("saga: begin %s: %w", start.GID, err)
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
	return awaitError(ctx, gid, func() error {
		defer leave()
		if err := o.try(ctx, &txn{gid: gid, caller: o.logID, steps: []*step{s}}, s); err != nil {
			return fmt.Errorf("try %s/%s: %w", gid, branchID, err)
		}
		return nil
	})
}

func (o *Orchestrator) try(ctx context.Context, t *txn, s *step) error {
	if err := o.refusePaused(t.steps); err != nil {
		return err
	}
	var err error
	for look := 1; ; look++ {
		err = o.tryOpen(ctx, t, s)
		if look == maxLooks || !errors.Is(err, local.ErrCommitUnknown) {
			break
		}
	}
	var failed *branchError
	switch {
	case errors.As(err, &failed):
		return fmt.Errorf("%s: %w", s.kind, failed.err)
	case errors.Is(err, txlog.ErrExists):
		return ErrMismatch
	case errors.Is(err, txlog.ErrFull):
		return invalid("%w", err)
	case errors.Is(err, txlog.ErrStale):
		return o.notOpen(ctx, t.gid, s)
	}
	return err
}

func (o *Orchestrator) tryOpen(ctx context.Context, t *txn, s *step) error {
	var joined txlog.Joined
	room := txlog.Room{Branches: MaxBranches, Bytes: o.config.MaxBytes}
	err := local.Run(ctx, o.db, func(tx *gorm.DB) (err error) {
		if err := o.holdWithin(ctx, tx, t.gid); err != nil {
			return err
		}
		if joined, err = o.log.Join(ctx, tx, s.row(t.gid), room); err != nil || !s.branch.tryFused() {
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
		if s.branch.Outside[barrier.Try] != nil {
			o.makeCancelDue(ctx, t.gid) // a Cancel may have waited for the end of the Try
		}
		return &branchError{id: s.id, kind: s.kind, err: causeOf(trying, err)}
	}
	return o.markTried(ctx, t, s)
}

// markTried notes that the Try of a branch elsewhere has succeeded, unless the
// transaction was decided to be cancelled meanwhile.
func (o *Orchestrator) markTried(ctx context.Context, t *txn, s *step) error {
	var late Outcome
	err := local.Run(ctx, o.db, func(tx *gorm.DB) error {
		record, err := o.log.GetLocked(ctx, tx, t.gid)
		if late = outcomeOf(record); err != nil || late.State == Cancelling || late.State == Cancelled {
			return err
		}
		return o.log.Tried(ctx, tx, t.gid, s.id)
	})
	if err == nil && (late.State == Cancelling || late.State == Cancelled) {
		o.makeCancelDue(ctx, t.gid)
		return fmt.Errorf("%w any more: it was decided while the Try was under way, whose reservation is given back: %w", ErrNotOpen, late.Err(nil))
	}
	return err
}

// notOpen says why a branch could not join a transaction; it returns nil if the
// branch was tried before the transaction was decided to be confirmed, so that a
// request that is repeated succeeds.
func (o *Orchestrator) notOpen(ctx context.Context, gid string, s *step) error {
	var record txlog.Record
	var named txlog.Branch
	err := local.Run(ctx, o.db, func(tx *gorm.DB) (err error) {
		if record, err = o.log.GetLocked(ctx, tx, gid); err != nil {
			return err
		}
		if !scopeOf(ctx).has(record.Pattern) {
			return txlog.ErrNotFound
		}
		named, _, err = o.log.Named(ctx, tx, gid, s.id)
		return err
	})
	state := State(record.State)
	switch {
	case errors.Is(err, txlog.ErrNotFound):
		return fmt.Errorf("%s: %w", gid, ErrNotFound)
	case err != nil:
		return err
	case named.ID != "" && (named.Kind != s.kind || named.Payload != string(s.payload)):
		return ErrMismatch
	case named.Tried && (state == Confirming || state == Confirmed):
		return nil
	case state == Cancelling || state == Cancelled:
		return fmt.Errorf("it is %s: %w: %w", state, ErrNotOpen, outcomeOf(record).Err(nil))
	case state.Decided():
		return fmt.Errorf("it is %s: %w", state, ErrNotOpen)
	default:
		return fmt.Errorf("its deadline has passed: %w", ErrNotOpen)
	}
}

// Confirm decides to confirm an open transaction, and drives it; see [Engine].
// After the deadline it is refused, even if nobody has cancelled yet.
func (o *Orchestrator) Confirm(ctx context.Context, gid string, options Options) (Outcome, error) {
	return o.confirmOpen(ctx, gid, byCaller, nil, options.ReturnDecided)
}

// Cancel decides to cancel a transaction that is undecided, and drives it; see
// [Engine]. The reason is for people; at most 1,000 characters of it are kept.
func (o *Orchestrator) Cancel(ctx context.Context, gid, why string) (Outcome, error) {
	if why == "" {
		why = "cancelled by the caller"
	}
	return o.cancelOpen(ctx, gid, byCaller, reason{text: why, code: CodeCancelled}, nil)
}

// confirmOpen and cancelOpen decide, for whom by says, and record the act of an
// operator, if it is one, with the decision.
func (o *Orchestrator) confirmOpen(ctx context.Context, gid, by string, act *txlog.Act, returnDecided bool) (Outcome, error) {
	outcome, err := o.decideOpen(ctx, txlog.Decision{GID: gid, State: txlog.Confirming, By: by}, act, returnDecided)
	if err != nil {
		return outcome, fmt.Errorf("confirm %s: %w", gid, err)
	}
	return outcome, outcome.Err(nil)
}

func (o *Orchestrator) cancelOpen(ctx context.Context, gid, by string, why reason, act *txlog.Act) (Outcome, error) {
	outcome, err := o.decideOpen(ctx, txlog.Decision{GID: gid, State: txlog.Cancelling, By: by, Reason: clip(why.text, maxReason), Code: why.code}, act, false)
	if err == nil && (outcome.State == Confirming || outcome.State == Confirmed) {
		err = ErrConfirmed
	}
	if err != nil {
		return outcome, fmt.Errorf("cancel %s: %w", gid, err)
	}
	return outcome, nil
}

// decideOpen makes a decision, unless one was made, and drives what it decided.
func (o *Orchestrator) decideOpen(ctx context.Context, d txlog.Decision, act *txlog.Act, returnDecided bool) (Outcome, error) {
	if err := barrier.ValidateGID(d.GID); err != nil {
		return Outcome{}, invalid("%w", err)
	}
	ctx, leave, err := o.admit(ctx)
	if err != nil {
		return Outcome{GID: d.GID}, err
	}
	return awaitOutcome(ctx, d.GID, func() (Outcome, error) {
		defer leave()
		d.Owner, d.Due = o.instance.ID, o.config.Lease
		decided, err := o.decideOnce(ctx, d, act)
		if err != nil {
			return Outcome{GID: d.GID}, err
		}
		outcome := outcomeOf(decided.record)
		if act != nil && !decided.made && (outcome.State == Cancelling || outcome.State == Cancelled) == (d.State == txlog.Cancelling) {
			return outcome, fmt.Errorf("it is %s already: %w", outcome.State, ErrRefused)
		}
		if decided.drive == nil {
			return outcome, nil
		}
		entry := o.inFlight.TakeOver(d.GID)
		if entry == nil {
			return outcome, nil // stopping; it becomes due again
		}
		return o.finish(ctx, decided.drive, entry, outcome, returnDecided || scopeOf(ctx).returnDecided), nil
	})
}

// madeDecision is what became of a decision of an open transaction.
type madeDecision struct {
	record txlog.Record
	made   bool // by this call, and not before
	drive  *txn // what this instance has to drive now; nil if it has not
}

// decideOnce makes the decision d, or finds the one that was made. A Confirm
// that comes after the deadline makes the decision to cancel.
func (o *Orchestrator) decideOnce(ctx context.Context, d txlog.Decision, act *txlog.Act) (decided madeDecision, err error) {
	for look := 1; ; look++ {
		decided, err = o.decideOrRead(ctx, d, act)
		if look == maxLooks || !errors.Is(err, local.ErrCommitUnknown) {
			break
		}
	}
	switch record := decided.record; {
	case errors.Is(err, txlog.ErrNotFound):
		return decided, ErrNotFound
	case errors.Is(err, ErrNotTried):
		return decided, err
	case err != nil:
		return decided, &UnknownError{GID: d.GID, Cause: err}
	case decided.made || State(record.State).Decided():
		return decided, nil
	case record.Digest != "":
		return decided, fmt.Errorf("it is being executed with a plan, which decides by itself: %w", ErrNotOpen)
	case d.State == txlog.Confirming && record.Expired:
		d.State, d.By, d.Reason, d.Code = txlog.Cancelling, byDeadline, "it was undecided at its deadline", CodeDeadline
		return o.decideOnce(ctx, d, nil)
	default:
		return decided, &UnknownError{GID: d.GID, Cause: txlog.ErrStale}
	}
}

// decideOrRead makes the decision and reads the row and the branches, locked, in
// one local transaction. A transaction with a plan is not confirmed from outside.
// One with a kind of branch that is unknown here is left to another instance.
func (o *Orchestrator) decideOrRead(ctx context.Context, d txlog.Decision, act *txlog.Act) (decided madeDecision, err error) {
	err = local.Run(ctx, o.db, func(tx *gorm.DB) error {
		decided = madeDecision{}
		record, err := o.log.GetLocked(ctx, tx, d.GID)
		if decided.record = record; err != nil {
			return err
		}
		if !scopeOf(ctx).has(record.Pattern) {
			return txlog.ErrNotFound
		}
		if State(record.State).Decided() || d.State == txlog.Confirming && (record.Digest != "" || record.Expired) {
			return nil
		}
		branches, err := o.log.LockedBranches(ctx, tx, d.GID)
		if err != nil {
			return err
		}
		for _, b := range branches[d.GID] {
			if d.State == txlog.Confirming && !b.Tried {
				return fmt.Errorf("branch %s, %s: %w", b.ID, b.Kind, ErrNotTried)
			}
			if !o.knows(b.Kind) {
				d.Owner, d.Due = "", 0
			}
		}
		switch err := o.log.Decide(ctx, tx, d); {
		case errors.Is(err, txlog.ErrStale):
			return nil
		case err != nil:
			return err
		}
		if act != nil {
			if err := o.log.Record(ctx, tx, *act); err != nil {
				return err
			}
		}
		if decided.record, err = o.log.GetLocked(ctx, tx, d.GID); err != nil {
			return err
		}
		decided.made = true
		if d.Owner != "" && !record.Paused() {
			decided.drive = o.assemble(txlog.Claimed{Record: decided.record, Branches: branches[d.GID]})
		}
		return nil
	})
	return decided, err
}

// Wait waits until a transaction has come to its end, Confirmed or Cancelled, and
// returns its outcome, with an error as [Orchestrator.Execute] has it. If ctx ends
// before, it returns what is known by then. An unknown gid matches [ErrNotFound].
func (o *Orchestrator) Wait(ctx context.Context, gid string) (Outcome, error) {
	if err := barrier.ValidateGID(gid); err != nil {
		return Outcome{}, invalid("wait: %w", err)
	}
	record, err := o.awaitState(ctx, gid, State.Finished)
	switch outcome := outcomeOf(record); {
	case errors.Is(err, txlog.ErrNotFound):
		return Outcome{GID: gid}, fmt.Errorf("wait for %s: %w", gid, ErrNotFound)
	case err != nil && !outcome.State.Decided():
		return Outcome{GID: gid}, &UnknownError{GID: gid, Cause: err}
	default:
		return outcome, outcome.Err(nil)
	}
}
