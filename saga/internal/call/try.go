package call

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// tryEffect makes the Trys of branches that act on something other than a database.
type tryEffect struct{ *Caller }

// run marks a Try durably as under way, makes it, and records its end. If it was
// marked before, an earlier call may have made it. The result of that call is not known
// here, and the Try is not made again.
func (t tryEffect) run(ctx context.Context, b *txn.Branch, call saga.Call) (barrier.Verdict, error) {
	// The time begins before the mark is written, so the call ends before the end that the
	// mark names.
	ctx, cancel := withLimit(ctx, t.timeout, &limitError{call.Op, call.Kind, didNotReturn, t.timeout})
	defer cancel()
	mark := t.newMark()
	verdict, err := t.mark(ctx, b, call, mark)
	if err != nil {
		return verdict, err
	}
	if err = local.Expired(ctx); err != nil { // the Try is not made
		_, markErr := t.unmark(ctx, b, call, mark, true)
		return verdict, errors.Join(err, markErr)
	}
	_, err = t.CallEffect(ctx, b, call, func() { t.cancelLate(ctx, b, call, mark) })
	if err == nil && call.Result != nil {
		err = CheckResult(*call.Result)
	}
	if errors.Is(err, errAbandoned) {
		return verdict, err // it goes on, and its mark stays
	}
	if err != nil && call.Result != nil {
		*call.Result = nil
	}
	noted, markErr := t.unmark(ctx, b, call, mark, !mayArrive(ctx, err))
	switch {
	case markErr != nil:
		t.logger.Warn("saga: recording the end of a Try failed; a Cancel waits until the time of the Try is over", slog.String("gid", call.GID),
			slog.String("branch", call.BranchID), slog.String("kind", call.Kind), slog.String("operation", string(call.Op)), slog.Int("attempt", call.Attempt), slog.Any("error", markErr))
	case !noted:
		// The time of the Try was over, as after a pause of the process, and Cancel was
		// called.
		t.cancelLate(ctx, b, call, mark)
	}
	return verdict, err
}

// mayArrive reports whether a call that has returned err may still have its effect later.
// It may if the request was given up or its connection broke: the request can be on its
// way.
func mayArrive(ctx context.Context, err error) bool {
	var rejection *saga.Rejection
	var network net.Error
	switch {
	case err == nil || errors.As(err, &rejection):
		return false
	case ctx.Err() != nil || errors.Is(err, errNoReturn):
		return true
	default:
		return errors.Is(err, context.Canceled) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	}
}

// mark marks a Try as under way. If the COMMIT of the mark is not answered, it looks
// for the mark in the barrier row.
func (t tryEffect) mark(ctx context.Context, b *txn.Branch, call saga.Call, mark string) (barrier.Verdict, error) {
	for run := 1; ; run++ {
		verdict, err := t.withBarrier(ctx, b, call, func(tx *gorm.DB) error {
			return barrierrows.Mark(ctx, tx, call.Key(), barrier.Try, mark, t.timeout+returnGrace)
		})
		if errors.Is(err, local.ErrCommitUnknown) && run < txn.MaxRuns {
			continue
		}
		if err != nil || verdict != barrier.Duplicate {
			return verdict, err
		}
		row, err := t.ReadLocked(ctx, b, call)
		switch {
		case err != nil || row != nil && row.UnderWay != nil && row.UnderWay.By == mark:
			return barrier.Run, err
		case b.Action && row != nil:
			return barrier.Duplicate, t.markAgain(ctx, b, call, mark)
		}
		return barrier.Duplicate, fmt.Errorf("the Try was begun before and its outcome is unknown: %w", saga.ErrOngoing)
	}
}

// markAgain marks a repeated Try of an action as under way. The external system knows the
// repeated request by its idempotency key. The Try waits for an earlier one that is under way.
func (t tryEffect) markAgain(ctx context.Context, b *txn.Branch, call saga.Call, mark string) error {
	return local.Run(ctx, b.Database, func(tx *gorm.DB) error {
		row, err := barrierrows.LookLocked(ctx, tx, call.Key())
		switch {
		case err != nil:
			return err
		case row == nil || row.State != barrier.StateTried:
			return barrier.ErrSuspended
		case row.UnderWay != nil && row.UnderWay.Left > 0:
			return &NotYetError{Wait: row.UnderWay.Left, Why: "an earlier Try is under way, made by " + row.UnderWay.By}
		}
		return barrierrows.Mark(ctx, tx, call.Key(), barrier.Try, mark, t.timeout+returnGrace)
	})
}

// unmark records that a marked Try has returned. Known says that it has no effect after
// that. If the branch is no longer tried, unmark records nothing and returns false.
func (t tryEffect) unmark(ctx context.Context, b *txn.Branch, call saga.Call, mark string, known bool) (noted bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.timeout)
	defer cancel()
	for range txn.MaxRuns {
		err = local.Run(ctx, b.Database, func(tx *gorm.DB) (err error) {
			if noted, err = barrierrows.UnmarkTry(ctx, tx, call.Key(), mark, known); err != nil {
				return err
			}
			if err = keepResult(ctx, tx, call); err != nil {
				return err
			}
			return recallResult(ctx, tx, call) // a repeated Try may return another one, and the first one counts
		})
		if !errors.Is(err, local.ErrCommitUnknown) {
			break
		}
	}
	return noted, err
}
