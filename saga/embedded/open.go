package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/commit"
	"github.com/tccsaga/tccsaga/saga/internal/decide"
	"github.com/tccsaga/tccsaga/saga/internal/follow"
	"github.com/tccsaga/tccsaga/saga/internal/inflight"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/observe"
	"github.com/tccsaga/tccsaga/saga/internal/pause"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// opened has the methods for transactions whose branches are added one by one.
type opened struct {
	admission *admission
	builder   *txn.Builder
	paused    *pause.Kinds
	decider   *decide.Decider
	calls     *call.Caller
	tries     *call.LogTries
	db        *gorm.DB
	log       *txlog.Log
	commits   *commit.Writer
	reader    *follow.Reader
	inFlight  *inflight.Registry
	finisher  *finisher
	instance  string
	lease     time.Duration
	timeout   time.Duration // unless the opening says otherwise
	passive   bool          // it decides, and leaves the rest to running engines
	observe   *observe.Notifier
}

// Begin opens a transaction that is decided later; see [saga.Engine]. It belongs to no
// process: any instance may add branches and decide, and at the deadline any instance
// cancels it.
func (o *opened) Begin(ctx context.Context, opening saga.Opening) error {
	ctx, ended := o.observe.Operation(ctx, "begin", opening.GID)
	err := o.start(ctx, opening)
	ended(err)
	return txn.Wrap("begin", opening.GID, err)
}

func (o *opened) start(ctx context.Context, opening saga.Opening) error {
	gid := opening.GID
	if err := barrier.ValidateGID(gid); err != nil {
		return txn.Invalid("%w", err)
	}
	if err := txn.CheckPattern(opening.Pattern); err != nil {
		return txn.Invalid("%w", err)
	}
	if err := checkParent(&opening); err != nil {
		return txn.Invalid("%w", err)
	}
	labels, err := txn.Labels(opening.Labels)
	if err != nil {
		return txn.Invalid("%w", err)
	}
	timeout, err := timeoutOf(opening.Timeout, o.timeout)
	if err != nil {
		return txn.Invalid("%w", err)
	}
	ctx, leave, err := o.admission.enter(ctx, true)
	if err != nil {
		return err
	}
	start := txlog.Start{GID: gid, Pattern: opening.Pattern, State: txlog.Trying, Deadline: timeout, Due: timeout, Labels: labels, Trace: o.observe.Inject(ctx)}
	return awaitError(ctx, gid, func() error {
		defer leave()
		return o.begin(ctx, start, opening.Parent)
	})
}

func (o *opened) begin(ctx context.Context, start txlog.Start, parent string) error {
	write := commit.Write{GID: start.GID, Begin: &start}
	if parent != "" {
		write = commit.Write{GID: start.GID, More: func(ctx context.Context, tx *gorm.DB) error { return insertNested(ctx, tx, o.log, start, parent) }}
	}
	err := o.commits.Write(ctx, write)
	if errors.Is(err, local.ErrCommitUnknown) {
		// The second run waits for the unanswered COMMIT.
		err = o.commits.Write(ctx, write)
	}
	if errors.Is(err, txlog.ErrExists) {
		var record txlog.Record
		if record, err = o.reader.Locked(ctx, start.GID); err == nil && (record.Digest != start.Digest || record.Pattern != start.Pattern || record.Parent != parent) {
			return fmt.Errorf("the gid is %w", saga.ErrMismatch)
		}
	}
	return err
}

// Try adds a branch to an open transaction and tries it; see [saga.Engine]. The log names the
// branch before its Try is called, or in the same commit.
//
// After an error other than [saga.ErrInvalid], a branch in another database or service may
// have reserved something. The log names the branch, so a cancel releases the reservation.
// Do not confirm.
func (o *opened) Try(ctx context.Context, gid, branchID string, step saga.Step) error {
	ctx, ended := o.observe.Operation(ctx, "try", gid)
	err := o.add(ctx, gid, branchID, step)
	ended(err)
	return txn.Wrap("try", gid+"/"+branchID, err)
}

func (o *opened) add(ctx context.Context, gid, branchID string, step saga.Step) error {
	s, err := o.builder.Step(gid, branchID, step)
	if err != nil {
		return err
	}
	if s.Branch.Action || step.Parallel || step.AfterDecision || step.Decides {
		return txn.Invalid("%s: an open transaction has only branches with Try, Confirm and Cancel, one after the other: use a plan for actions and for an order", s.Kind)
	}
	ctx, leave, err := o.admission.enter(ctx, true)
	if err != nil {
		return err
	}
	return awaitError(ctx, gid, func() error {
		defer leave()
		return o.try(ctx, &txn.Txn{GID: gid, Caller: o.builder.Caller, Steps: []*txn.Step{s}}, s)
	})
}

func (o *opened) try(ctx context.Context, t *txn.Txn, s *txn.Step) error {
	if err := o.paused.Refuse(t.Steps); err != nil {
		return err
	}
	var err error
	for run := 1; ; run++ {
		err = o.tryOpen(ctx, t, s)
		if run == txn.MaxRuns || !errors.Is(err, local.ErrCommitUnknown) {
			break
		}
	}
	var failed *txn.BranchError
	switch {
	case errors.As(err, &failed):
		return fmt.Errorf("%s: %w", s.Kind, failed.Err)
	case errors.Is(err, txlog.ErrExists):
		return saga.ErrMismatch
	case errors.Is(err, txlog.ErrFull):
		return txn.Invalid("%w", err)
	case errors.Is(err, txlog.ErrStale):
		return o.notOpen(ctx, t.GID, s)
	}
	return err
}

// tryOpen adds the branch to the log and tries it: in the same local transaction if it is
// resident, and in a call of its own otherwise.
func (o *opened) tryOpen(ctx context.Context, t *txn.Txn, s *txn.Step) error {
	if s.Branch.TriesInLog() {
		return o.tryInLog(ctx, t, s)
	}
	var joined txlog.Joined
	limit := scopeOf(ctx) // a shared local transaction has another context
	err := o.commits.Write(ctx, commit.Write{GID: t.GID, More: func(ctx context.Context, tx *gorm.DB) (err error) {
		joined, err = o.join(ctx, tx, limit, t, s)
		return err
	}})
	if err != nil || joined.Tried {
		return err
	}
	trying, cancel := context.WithTimeoutCause(ctx, joined.Left, txn.ErrDeadline)
	defer cancel()
	if err := o.calls.Call(unscoped(trying), s.Branch, t.Call(s, barrier.Try)); err != nil {
		if s.Branch.Effects[barrier.Try] != nil {
			o.decider.MakeCancelDue(ctx, t.GID) // a Cancel may have waited for the end of the Try
		}
		return &txn.BranchError{ID: s.ID, Kind: s.Kind, Err: txn.CauseOf(trying, err)}
	}
	return o.markTried(ctx, t, s)
}

// tryInLog adds a resident branch and tries it, in a local transaction that others share if
// possible.
func (o *opened) tryInLog(ctx context.Context, t *txn.Txn, s *txn.Step) error {
	if alone, err := o.tries.Try(ctx, s.Branch, t.Call(s, barrier.Try)); !alone {
		return err
	}
	return local.Run(ctx, o.db, func(tx *gorm.DB) error {
		if _, err := o.join(ctx, tx, scopeOf(ctx), t, s); err != nil {
			return err
		}
		if err := o.decider.TryAll(ctx, tx, t, t.Steps); err != nil {
			return err
		}
		return o.log.Tried(ctx, tx, t.GID, s.ID)
	})
}

// join adds a branch to an open transaction in the log.
func (o *opened) join(ctx context.Context, tx *gorm.DB, limit scope, t *txn.Txn, s *txn.Step) (txlog.Joined, error) {
	if err := o.checkScope(ctx, tx, limit, t.GID); err != nil {
		return txlog.Joined{}, err
	}
	return o.log.Join(ctx, tx, s.Row(t.GID), roomOf(o.builder))
}

// roomOf returns the room of an open transaction.
func roomOf(b *txn.Builder) txlog.Room {
	return txlog.Room{Branches: saga.MaxBranches, Bytes: b.MaxBytes}
}

// markTried marks a branch that was called alone as tried with success. If the transaction
// was decided to be cancelled meanwhile, it returns an error.
func (o *opened) markTried(ctx context.Context, t *txn.Txn, s *txn.Step) error {
	var outcome saga.Outcome
	err := o.commits.Write(ctx, commit.Write{GID: t.GID, More: func(ctx context.Context, tx *gorm.DB) error {
		record, err := o.log.GetLocked(ctx, tx, t.GID)
		if outcome = follow.Outcome(record); err != nil || isCancelled(outcome.State) {
			return err
		}
		return o.log.Tried(ctx, tx, t.GID, s.ID)
	}})
	if err == nil && isCancelled(outcome.State) {
		o.decider.MakeCancelDue(ctx, t.GID)
		return fmt.Errorf("%w: it was decided while the Try was under way, and its reservation is released: %w", saga.ErrNotOpen, outcome.Err(nil))
	}
	return err
}

// isCancelled reports whether a transaction is cancelled or is decided to be.
func isCancelled(state saga.State) bool {
	return state == saga.Cancelling || state == saga.Cancelled
}

// notOpen returns why a branch could not join a transaction. It returns nil if the branch was
// tried before the transaction was decided to be confirmed, or was prepared: then the request is a repeated
// one, and succeeds.
func (o *opened) notOpen(ctx context.Context, gid string, s *txn.Step) error {
	var record txlog.Record
	var named txlog.Branch
	err := local.Run(ctx, o.db, func(tx *gorm.DB) (err error) {
		if record, err = o.log.GetLocked(ctx, tx, gid); err != nil {
			return err
		}
		if !scopeOf(ctx).has(record.Pattern) {
			return txlog.ErrNotFound
		}
		named, _, err = o.log.Named(ctx, tx, gid, s.ID)
		return err
	})
	state := saga.State(record.State)
	switch {
	case errors.Is(err, txlog.ErrNotFound):
		return saga.ErrNotFound
	case err != nil:
		return err
	case named.ID != "" && (named.Kind != s.Kind || named.Payload != string(s.Payload)):
		return saga.ErrMismatch
	case named.Tried && (state == saga.Confirming || state == saga.Confirmed):
		return nil
	case named.Tried && record.Waits():
		return nil
	case isCancelled(state):
		return fmt.Errorf("it is %s: %w: %w", state, saga.ErrNotOpen, follow.Outcome(record).Err(nil))
	case state.Decided():
		return fmt.Errorf("it is %s: %w", state, saga.ErrNotOpen)
	case record.Waits():
		return fmt.Errorf("it is prepared: %w", saga.ErrNotOpen)
	default:
		return fmt.Errorf("its deadline has passed: %w", saga.ErrNotOpen)
	}
}

// checkScope returns ErrNotFound if a transaction is outside of a scope.
func (o *opened) checkScope(ctx context.Context, tx *gorm.DB, limit scope, gid string) error {
	if !limit.only {
		return nil
	}
	record, err := o.log.GetLocked(ctx, tx, gid)
	if err == nil && !limit.has(record.Pattern) || errors.Is(err, txlog.ErrNotFound) {
		return saga.ErrNotFound
	}
	return err
}
