package embedded

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/commit"
	"github.com/tccsaga/tccsaga/saga/internal/decide"
	"github.com/tccsaga/tccsaga/saga/internal/follow"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/reason"
	"github.com/tccsaga/tccsaga/saga/internal/result"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// Confirm decides to confirm an open transaction, and drives it; see [saga.Engine]. After the
// deadline it decides to cancel, if nobody has decided before.
func (o *opened) Confirm(ctx context.Context, gid string, options saga.Options) (saga.Outcome, error) {
	if options.Timeout != 0 {
		return saga.Outcome{GID: gid}, txn.Wrap("confirm", gid, txn.Invalid("a Timeout is an option of Begin"))
	}
	if options.LocalWorkIn != "" {
		return saga.Outcome{GID: gid}, txn.Wrap("confirm", gid, txn.Invalid("LocalWorkIn is an option of Execute"))
	}
	if options.ParallelTrys {
		return saga.Outcome{GID: gid}, txn.Wrap("confirm", gid, txn.Invalid("ParallelTrys is an option of Execute"))
	}
	if len(options.Labels) > 0 {
		return saga.Outcome{GID: gid}, txn.Wrap("confirm", gid, txn.Invalid("Labels are an option of Begin"))
	}
	if options.TryAttempts != 0 {
		return saga.Outcome{GID: gid}, txn.Wrap("confirm", gid, txn.Invalid("TryAttempts is an option of Execute"))
	}
	ctx, ended := o.observe.Operation(ctx, "confirm", gid)
	outcome, err := o.confirm(ctx, gid, txlog.ByCaller, extras{returnDecided: options.ReturnDecided, work: options.LocalWork})
	ended(err)
	return outcome, txn.Wrap("confirm", gid, err)
}

// Cancel decides to cancel an undecided transaction, and drives it; see [saga.Engine]. The
// reason is for people. The log keeps at most 1,000 characters of it.
//
// If a branch decides the transaction, Cancel asks that branch first, and decides as it says.
// If the branch does not answer, the error is a [*saga.UnknownError], and nothing is decided.
func (o *opened) Cancel(ctx context.Context, gid, why string) (saga.Outcome, error) {
	if why == "" {
		why = "cancelled by the caller"
	}
	ctx, ended := o.observe.Operation(ctx, "cancel", gid)
	outcome, err := o.cancel(ctx, gid, txlog.ByCaller, reason.Reason{Text: why, Code: saga.CodeCancelled}, extras{})
	ended(err)
	return outcome, txn.Wrap("cancel", gid, err)
}

// extras go with a decision.
type extras struct {
	act           *txlog.Act       // of the operator who decides; recorded with the decision
	work          decide.LocalWork // runs in the local transaction that decides
	returnDecided bool
	results       []result.Result // of the branch that decides; stored with the decision
	parent        string          // of a nested transaction, if the parent decides it
	listed        time.Time       // when the list of the bulk action was made that the act is part of; else zero
	leave         bool            // engines drive the transaction when they find it; this call does not
}

// confirm and cancel decide. By is the value of DecidedBy.
func (o *opened) confirm(ctx context.Context, gid, by string, x extras) (saga.Outcome, error) {
	outcome, err := o.decide(ctx, txlog.Decision{GID: gid, State: txlog.Confirming, By: by}, x)
	if err != nil {
		return outcome, err
	}
	return outcome, outcome.Err(nil)
}

func (o *opened) cancel(ctx context.Context, gid, by string, why reason.Reason, x extras) (saga.Outcome, error) {
	outcome, err := o.decide(ctx, txlog.Decision{GID: gid, State: txlog.Cancelling, By: by, Reason: reason.Clip(why.Text), Code: why.Code}, x)
	if err == nil && (outcome.State == saga.Confirming || outcome.State == saga.Confirmed) {
		err = saga.ErrConfirmed
	}
	return outcome, err
}

// decide makes the decision d, if the transaction is undecided, and then drives the
// transaction.
func (o *opened) decide(ctx context.Context, d txlog.Decision, x extras) (saga.Outcome, error) {
	if err := barrier.ValidateGID(d.GID); err != nil {
		return saga.Outcome{}, txn.Invalid("%w", err)
	}
	ctx, leave, err := o.admission.enter(ctx, !o.passive)
	if err != nil {
		return saga.Outcome{GID: d.GID}, err
	}
	return awaitOutcome(ctx, d.GID, func() (saga.Outcome, error) {
		defer leave()
		o.inFlight.Settle(ctx, d.GID)
		d.Owner, d.Due = o.instance, o.lease
		decided, err := o.decideOnce(ctx, d, x)
		if err != nil {
			return saga.Outcome{GID: d.GID}, err
		}
		o.tellDecided(ctx, decided)
		outcome := follow.Outcome(decided.record)
		if x.act != nil && !decided.made && isCancelled(outcome.State) == (d.State == txlog.Cancelling) {
			return outcome, fmt.Errorf("it is %s already: %w", outcome.State, saga.ErrRefused)
		}
		if decided.drive == nil {
			return outcome, nil
		}
		entry := o.inFlight.TakeOver(d.GID)
		if entry == nil {
			return outcome, nil // the engine stops; the transaction becomes due again
		}
		return o.finisher.finish(unscoped(ctx), decided.drive, entry, outcome, x.returnDecided || scopeOf(ctx).returnDecided), nil
	})
}

// madeDecision is the result of a decision.
type madeDecision struct {
	record txlog.Record
	made   bool     // this call has made it
	lost   bool     // an earlier run has, whose COMMIT was not answered
	drive  *txn.Txn // the transaction, if this instance has to drive it now; else nil
	asking *txn.Txn // the transaction, if the branch that decides has to be asked first; else nil

	results []result.Result // of the branches
}

// tellDecided tells observers of a decision that this call has made.
func (o *opened) tellDecided(ctx context.Context, decided madeDecision) {
	if o.observe == nil || !decided.made && !decided.lost {
		return
	}
	r := decided.record
	o.observe.Decided(ctx, saga.Subject{GID: r.GID, Pattern: r.Pattern, Trace: r.Trace}, saga.State(r.State), r.DecidedBy, r.Code, time.Now().Add(-r.SinceBegin))
}

// decideOnce makes the decision d, or returns the one that was made before. After the deadline
// it decides to cancel instead of to confirm.
func (o *opened) decideOnce(ctx context.Context, d txlog.Decision, x extras) (decided madeDecision, err error) {
	for run, unanswered := 1, false; ; run++ {
		decided, err = o.decideOrRead(ctx, d, x)
		decided.lost = err == nil && unanswered && !decided.made && decided.record.State == d.State && decided.record.DecidedBy == d.By
		unanswered = unanswered || errors.Is(err, local.ErrCommitUnknown)
		if err == nil && decided.asking != nil {
			return o.decideByBranch(ctx, d, x, decided)
		}
		if run == txn.MaxRuns || !errors.Is(err, local.ErrCommitUnknown) && !errors.Is(err, txlog.ErrStale) {
			break
		}
	}
	var workFailed *call.WorkError
	switch record := decided.record; {
	case errors.As(err, &workFailed):
		return decided, workFailed
	case errors.Is(err, txlog.ErrNotFound):
		return decided, saga.ErrNotFound
	case errors.Is(err, saga.ErrNotTried), errors.Is(err, txlog.ErrActed), errors.As(err, new(*notTheDecider)):
		return decided, err
	case err != nil:
		return decided, &saga.UnknownError{GID: d.GID, Cause: err}
	case decided.made || saga.State(record.State).Decided():
		return decided, nil
	case record.Digest != "":
		return decided, fmt.Errorf("it is being executed with a plan, which decides by itself: %w", saga.ErrNotOpen)
	case d.State == txlog.Confirming && record.Expired:
		d.State, d.By, d.Reason, d.Code = txlog.Cancelling, txlog.ByDeadline, "it was undecided at its deadline", saga.CodeDeadline
		return o.decideOnce(ctx, d, extras{leave: x.leave})
	default:
		return decided, &saga.UnknownError{GID: d.GID, Cause: txlog.ErrStale}
	}
}

// notAsked is the error of a decision if the branch that decides does not answer.
type notAsked struct{ why error }

func (e *notAsked) Error() string { return e.why.Error() }
func (e *notAsked) Unwrap() error { return e.why }

// decideByBranch asks the branch that decides, and decides as it says.
func (o *opened) decideByBranch(ctx context.Context, d txlog.Decision, x extras, read madeDecision) (madeDecision, error) {
	s := read.asking.Deciding()
	if s.Branch == nil {
		return read, fmt.Errorf("branch %s decides, and has to be asked: %w: %q is not registered in this process", s.ID, saga.ErrUnknownKind, s.Kind)
	}
	question := read.asking.Call(s, barrier.Ask)
	question.Result = &s.Result
	committed, err := o.calls.Ask(ctx, s.Branch, question)
	if err != nil {
		return read, &saga.UnknownError{GID: d.GID, Cause: &notAsked{fmt.Errorf("asking branch %s, %s, which decides: %w", s.ID, s.Kind, err)}}
	}
	if committed {
		d.State, d.By, d.Reason, d.Code, x.act = txlog.Confirming, txlog.ByCaller, "", "", nil
		x.results = read.asking.Results([]*txn.Step{s})
	}
	d.ByBranch = true
	return o.decideOnce(ctx, d, x)
}

// decideOrRead locks the transaction, and makes the decision if the transaction is undecided.
// It does not confirm a transaction with a plan, which Execute decides, or one whose deadline
// has passed: the caller reads that in the record.
func (o *opened) decideOrRead(ctx context.Context, d txlog.Decision, x extras) (decided madeDecision, err error) {
	limit := scopeOf(ctx) // a shared local transaction has another context
	if x.work == nil && x.act == nil && len(x.results) == 0 && !d.ByBranch {
		err = o.commits.Write(ctx, commit.Write{GID: d.GID, Decide: func(ctx context.Context, tx *gorm.DB, t txlog.Claimed) (txlog.Decision, bool, error) {
			decided = madeDecision{record: t.Record}
			own, decides, whyNot := o.toDecide(ctx, tx, limit, d, x, t, &decided)
			if decides {
				decided.note(o.builder, own, t)
			}
			return own, decides, whyNot
		}})
		return decided, err
	}
	write := func(ctx context.Context, tx *gorm.DB) error {
		decided = madeDecision{}
		return o.decideAndMore(ctx, tx, limit, d, x, &decided)
	}
	if x.work == nil {
		err = o.commits.Write(ctx, commit.Write{GID: d.GID, More: write})
	} else { // code of the user holds up nobody else
		err = local.Run(ctx, o.db, func(tx *gorm.DB) error { return write(ctx, tx) })
	}
	return decided, err
}

// decideAndMore makes the decision in the local transaction tx, and writes what goes with it.
func (o *opened) decideAndMore(ctx context.Context, tx *gorm.DB, limit scope, d txlog.Decision, x extras, decided *madeDecision) error {
	read, err := o.log.LockAll(ctx, tx, d.GID)
	if err != nil {
		return err
	}
	t, there := read[d.GID]
	if decided.record = t.Record; !there {
		return txlog.ErrNotFound
	}
	d, decides, err := o.toDecide(ctx, tx, limit, d, x, t, decided)
	if err != nil || !decides {
		return err
	}
	if x.work != nil {
		if err = o.calls.LocalWork(ctx, o.db, tx, d.GID, x.work); err != nil {
			return err
		}
	}
	if err = result.Put(ctx, tx, x.results...); err != nil {
		return err
	}
	err = o.log.Decide(ctx, tx, d)
	switch {
	case errors.Is(err, txlog.ErrStale) && x.work == nil: // else the work is rolled back
		return nil
	case err != nil:
		return err
	}
	if x.act != nil {
		if err = o.log.Record(ctx, tx, *x.act); err != nil {
			return err
		}
	}
	decided.note(o.builder, d, t)
	return nil
}

// toDecide returns the decision d as it has to be written for a locked transaction. It returns
// false if there is nothing to decide: decided says why. If this instance does not know a kind of
// branch, the decision names no owner, and another instance drives the transaction.
func (o *opened) toDecide(ctx context.Context, tx *gorm.DB, limit scope, d txlog.Decision, x extras, t txlog.Claimed, decided *madeDecision) (txlog.Decision, bool, error) {
	if !limit.has(t.Pattern) {
		return d, false, txlog.ErrNotFound
	}
	if err := checkDecider(t.Record, d, x); err != nil {
		return d, false, err
	}
	if saga.State(t.State).Decided() || d.State == txlog.Confirming && !d.ByBranch && (t.Digest != "" || t.Expired) {
		return d, false, nil
	}
	if o.passive || x.leave {
		d.Owner, d.Due = "", 0
	}
	if txlog.Ordered(t.Branches) {
		results, err := o.log.Results(ctx, tx, d.GID)
		if err != nil {
			return d, false, err
		}
		t.Results = append(results[d.GID], x.results...)
	}
	decided.results = t.Results
	if !d.ByBranch && slices.ContainsFunc(t.Branches, func(b txlog.Branch) bool { return b.Role == txlog.RoleDecides }) {
		decided.asking = o.builder.Load(t)
		return d, false, nil
	}
	for _, b := range t.Branches {
		if d.State == txlog.Confirming && !b.Tried && !d.ByBranch {
			return d, false, fmt.Errorf("branch %s, %s: %w", b.ID, b.Kind, saga.ErrNotTried)
		}
		if !o.builder.Registry.Knows(b.Kind) {
			d.Owner, d.Due = "", 0
		}
	}
	return d, true, nil
}

// note notes that the decision d of the transaction t is written.
func (m *madeDecision) note(builder *txn.Builder, d txlog.Decision, t txlog.Claimed) {
	t.Record, t.Results = d.Of(t.Record), m.results
	m.record, m.made = t.Record, true
	if d.Owner != "" && !t.Paused() {
		m.drive = builder.Load(t)
	}
}

// Wait waits until a transaction is Confirmed or Cancelled, and returns its outcome, with an
// error as from [Engine.Execute]. If ctx ends before, it returns the outcome at that time. If
// no transaction has the gid, the error matches [saga.ErrNotFound].
func (o *opened) Wait(ctx context.Context, gid string) (saga.Outcome, error) {
	if err := barrier.ValidateGID(gid); err != nil {
		return saga.Outcome{}, txn.Wrap("wait", gid, txn.Invalid("%w", err))
	}
	record, err := o.reader.Await(ctx, gid, saga.State.Finished)
	switch outcome := follow.Outcome(record); {
	case errors.Is(err, txlog.ErrNotFound):
		return saga.Outcome{GID: gid}, txn.Wrap("wait", gid, saga.ErrNotFound)
	case err != nil && !outcome.State.Decided():
		return saga.Outcome{GID: gid}, &saga.UnknownError{GID: gid, Cause: err}
	default:
		return outcome, outcome.Err(nil)
	}
}
