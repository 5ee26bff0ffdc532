package call

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// NotYetError says that a call is not due yet. It is no failure.
type NotYetError struct {
	Wait time.Duration
	Why  string
}

func (e *NotYetError) Error() string { return e.Why }

// Is matches [saga.ErrOngoing]: a remote service returns it to the engine that calls.
func (e *NotYetError) Is(target error) bool { return target == saga.ErrOngoing }

const cancelledOnceMore = "how its Try ended is not known: Cancel is called once more, for a Try that arrives late"

// EffectResult is the result of a Confirm's or Cancel's effect.
type EffectResult struct {
	Due         bool // the barrier said that the call was due, so that the effect ran
	Receipt     any
	CancelAgain bool   // the end of the Try is not known: Cancel is due once more later
	Mark        string // in the barrier row: of that Try, or else of this call
}

// endExternal makes a Confirm or Cancel that has an effect: first the effect, then the new
// state of the barrier row with the Work.
func (c *Caller) endExternal(ctx context.Context, b *txn.Branch, call saga.Call) (barrier.Verdict, error) {
	result, err := c.RunEffect(ctx, b, call)
	if err != nil {
		return "", err
	}
	call.Receipt = result.Receipt
	verdict, err := c.withBarrier(ctx, b, call, func(tx *gorm.DB) error {
		if !result.Due {
			return ErrRaced
		}
		if noteErr := c.NoteEffect(ctx, tx, call, result); noteErr != nil {
			return noteErr
		}
		if result.CancelAgain {
			if keepErr := c.keepInput(ctx, tx, call); keepErr != nil {
				return keepErr
			}
		}
		return c.CallWork(ctx, tx, b, call)
	})
	if err == nil && result.CancelAgain {
		return verdict, &NotYetError{Wait: c.timeout, Why: cancelledOnceMore}
	}
	return verdict, err
}

// NoteEffect updates the mark in the barrier row after an effect, in the local transaction
// that writes the new state. The mark goes, or it stays for a Try that may arrive late.
func (c *Caller) NoteEffect(ctx context.Context, tx *gorm.DB, call saga.Call, result EffectResult) error {
	if result.CancelAgain {
		return barrierrows.Mark(ctx, tx, call.Key(), barrier.Try, result.Mark, c.timeout)
	}
	return barrierrows.Unmark(ctx, tx, call.Key(), result.Mark)
}

// RunEffect makes the effect of a Confirm or Cancel, if the barrier says that it is due. It
// reads the barrier row with a lock, in the database that takes writes, and marks the call
// as under way. The caller writes the new state afterwards, with the Work.
func (c *Caller) RunEffect(ctx context.Context, b *txn.Branch, call saga.Call) (result EffectResult, err error) {
	result.Mark = c.newMark()
	row, call, err := c.readAndMark(ctx, b, call, result.Mark)
	if err != nil || row == nil || !row.Matches(c.Request(call)) {
		return result, err // barrier.Call returns the verdict when the row is written
	}
	unclear := unclearTry(row, call.Op)
	switch {
	case unclear && row.UnderWay.Left > 0:
		return result, c.notYet(row)
	case unclear && row.State == barrier.StateCancelled:
		if _, err = c.CallEffect(ctx, b, call, nil); err != nil {
			return result, err
		}
		return result, c.unmark(ctx, b, call, row.UnderWay.By)
	case row.State != barrier.StateTried:
		return result, nil
	}
	result.Due = true
	if result.CancelAgain = unclear; unclear {
		result.Mark = row.UnderWay.By
	}
	if result.Receipt, err = c.CallEffect(ctx, b, call, nil); err != nil && !unclear {
		c.unmarkFailed(ctx, b, call, result.Mark)
	}
	return result, err
}

// newMark returns a name for a call that no other call has.
func (c *Caller) newMark() string { return fmt.Sprintf("%s#%d", c.instance, c.UnderWay.number()) }

// unclearTry reports whether a Cancel finds a Try whose end is not recorded.
func unclearTry(row *barrier.Row, op barrier.Op) bool {
	return row.UnderWay != nil && row.UnderWay.Op == barrier.Try && op == barrier.Cancel
}

// notYet says why a Cancel has to wait for a Try, and for how long.
func (c *Caller) notYet(row *barrier.Row) *NotYetError {
	if row.State != barrier.StateTried {
		return &NotYetError{Wait: row.UnderWay.Left, Why: cancelledOnceMore}
	}
	// When the Try ends, it makes the transaction due. But the Try may have ended just now,
	// before this wait is written, and then nothing ends the wait early. So it is short.
	return &NotYetError{Wait: min(row.UnderWay.Left, returnGrace), Why: fmt.Sprintf("its Try is under way since %s, made by %s: Cancel is called when it has ended, or at %s",
		row.UnderWay.Since.Format(time.RFC3339), row.UnderWay.By, row.UnderWay.Until.Format(time.RFC3339))}
}

// readAndMark reads the barrier row of a Confirm or Cancel, and marks the call as under way
// if it is due. It does not replace the mark of a Try. It returns the call with the result of the Try.
func (c *Caller) readAndMark(ctx context.Context, b *txn.Branch, call saga.Call, mark string) (row *barrier.Row, with saga.Call, err error) {
	err = local.Run(ctx, b.Database, func(tx *gorm.DB) (err error) {
		if row, err = barrierrows.LookLocked(ctx, tx, call.Key()); err != nil {
			return err
		}
		with, err = withOwnResult(ctx, tx, b, call)
		if err != nil || row == nil || row.State != barrier.StateTried || !row.Matches(c.Request(call)) || unclearTry(row, call.Op) {
			return err
		}
		return barrierrows.Mark(ctx, tx, call.Key(), call.Op, mark, c.timeout+returnGrace)
	})
	if errors.Is(err, local.ErrCommitUnknown) {
		err = nil // the row was read; the mark is only shown to operators
	}
	return row, with, err
}

// unmark removes the mark of a call that has ended.
func (c *Caller) unmark(ctx context.Context, b *txn.Branch, call saga.Call, mark string) error {
	return local.Run(ctx, b.Database, func(tx *gorm.DB) error { return barrierrows.Unmark(ctx, tx, call.Key(), mark) })
}

// unmarkFailed removes the mark of a Confirm or Cancel that has failed.
func (c *Caller) unmarkFailed(ctx context.Context, b *txn.Branch, call saga.Call, mark string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	if err := c.unmark(ctx, b, call, mark); err != nil {
		c.logger.Warn("saga: recording the end of a failed call failed", slog.String("gid", call.GID), slog.String("branch", call.BranchID),
			slog.String("kind", call.Kind), slog.String("operation", string(call.Op)), slog.Int("attempt", call.Attempt), slog.Any("error", err))
	}
}

// CallEffect calls an effect of a branch, bounded in time. If the effect does not return
// in time, late is called when it returns.
func (c *Caller) CallEffect(ctx context.Context, b *txn.Branch, call saga.Call, late func()) (receipt any, err error) {
	got := make(chan any, 1)
	err = c.bounded(ctx, call, func(ctx context.Context) error {
		returned, effectErr := b.Effect(call.Op)(ctx, call)
		got <- returned
		return effectErr
	}, late)
	if err == nil {
		receipt = <-got
	}
	return receipt, err
}

// CallEffectBatch makes the effects of calls of the same operation at once, bounded in
// time.
func (c *Caller) CallEffectBatch(ctx context.Context, b *txn.Branch, calls []saga.BatchCall) (receipts []any, failures []error, err error) {
	type results struct {
		receipts []any
		failures []error
	}
	got := make(chan results, 1)
	err = c.bounded(ctx, calls[0].Call, func(ctx context.Context) error {
		receipts, failures := b.EffectBatches[calls[0].Op](ctx, calls)
		if len(receipts) != len(calls) || failures != nil && len(failures) != len(calls) {
			return fmt.Errorf("%s: %d calls were made in one batch, and %d receipts and %d failures came back", b.Kind, len(calls), len(receipts), len(failures))
		}
		got <- results{receipts, failures}
		return nil
	}, nil)
	if err != nil {
		return nil, nil, err
	}
	r := <-got
	return r.receipts, r.failures, nil
}
