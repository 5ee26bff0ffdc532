package call

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
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

// Is matches [saga.ErrOngoing], which the caller of a service is told.
func (e *NotYetError) Is(target error) bool { return target == saga.ErrOngoing }

// tryExternal marks the Try durably as under way, makes it, and notes its end. If
// it was marked before, it may have been made before: that call knows how it went,
// and the Try is not made again.
func (c *Caller) tryExternal(ctx context.Context, b *txn.Branch, call saga.Call) error {
	// Counted from before the mark, the call ends before the mark says that it
	// is over.
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("%s of %s did not return within %s", call.Op, call.Kind, c.timeout))
	defer cancel()
	mark := c.newMark()
	if err := c.markTry(ctx, b, call, mark); err != nil {
		return err
	}
	if err := local.Expired(ctx); err != nil {
		// It was not made.
		_, markErr := c.ended(ctx, b, call, mark, true)
		return errors.Join(err, markErr)
	}
	_, err := c.External(ctx, b, call, func() { c.tryEndedLate(ctx, b, call, mark) })
	if errors.Is(err, errAbandoned) {
		return err // it goes on, and its mark stays
	}
	noted, markErr := c.ended(ctx, b, call, mark, !mayArrive(ctx, err))
	switch {
	case markErr != nil:
		c.logger.Warn("saga: noting the end of a Try failed; a Cancel waits until its time is over", slog.String("gid", call.GID),
			slog.String("branch", call.BranchID), slog.String("kind", call.Kind), slog.Any("error", markErr))
	case !noted:
		// Its time was over, as after a pause of the process, and Cancel has come.
		c.tryEndedLate(ctx, b, call, mark)
	}
	return err
}

// mayArrive says whether a call that has returned err may still have its effect: its
// request was given up, or its connection broke, and it may be on its way.
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

// newMark names a call, as no other call is named.
func (c *Caller) newMark() string { return fmt.Sprintf("%s#%d", c.instance, c.UnderWay.number()) }

// markTry marks a Try as under way, under a name that no other call has. If the
// COMMIT of the mark goes unanswered, it looks for the mark.
func (c *Caller) markTry(ctx context.Context, b *txn.Branch, call saga.Call, mark string) error {
	for look := 1; ; look++ {
		verdict, err := c.barred(ctx, b, call, func(tx *gorm.DB) error {
			return barrierrows.Mark(ctx, tx, call.Key(), barrier.Try, mark, c.timeout+noticing)
		})
		if errors.Is(err, local.ErrCommitUnknown) && look < txn.MaxLooks {
			continue
		}
		if err != nil || verdict != barrier.Duplicate {
			return err
		}
		row, err := c.LookLocked(ctx, b, call)
		if err != nil || row != nil && row.UnderWay != nil && row.UnderWay.By == mark {
			return err
		}
		return fmt.Errorf("the Try was begun before and its outcome is unknown: %w", saga.ErrOngoing)
	}
}

// ended notes that a marked Try has returned, and whether it is known to have ended.
// If the branch is not tried any more, it notes nothing and returns false.
func (c *Caller) ended(ctx context.Context, b *txn.Branch, call saga.Call, mark string, known bool) (noted bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	for range txn.MaxLooks {
		err = local.Run(ctx, b.Database, func(tx *gorm.DB) (err error) {
			noted, err = barrierrows.UnmarkTry(ctx, tx, call.Key(), mark, known)
			return err
		})
		if !errors.Is(err, local.ErrCommitUnknown) {
			break
		}
	}
	return noted, err
}

// Repetitions of a Cancel that follows a late Try.
const (
	lateCancels    = 10
	lateCancelWait = 100 * time.Millisecond // doubled each time
)

// tryEndedLate is called when a Try has returned after its time was over. If Cancel
// has been called meanwhile, the Try may have reserved after it: Cancel is called
// once more, until it succeeds.
func (c *Caller) tryEndedLate(ctx context.Context, b *txn.Branch, call saga.Call, mark string) {
	var err error
	for n := range lateCancels {
		if n > 0 && !c.pause(lateCancelWait<<(n-1)) {
			break
		}
		if err = c.cancelLate(ctx, b, call, mark); err == nil {
			return
		}
	}
	c.logger.Error("saga: a Try returned long after its time was over; if it has reserved something, its own side has to free it",
		slog.String("gid", call.GID), slog.String("branch", call.BranchID), slog.String("kind", call.Kind), slog.Any("error", err))
}

// pause waits; false says that nothing is called any more.
func (c *Caller) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.over:
		return false
	}
}

func (c *Caller) cancelLate(ctx context.Context, b *txn.Branch, call saga.Call, mark string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*c.timeout)
	defer cancel()
	var row *barrier.Row
	err := local.Run(ctx, b.Database, func(tx *gorm.DB) (err error) {
		if row, err = barrierrows.LookLocked(ctx, tx, call.Key()); err != nil || row == nil || row.State == barrier.StateCancelled {
			return err
		}
		// A Cancel is still to come, and comes after this. With the look, so that none
		// is noted in between, whose mark for another Cancel has to stay.
		return barrierrows.Unmark(ctx, tx, call.Key(), mark)
	})
	// Without a row, its transaction is finished, and was removed.
	if err != nil || row != nil && row.State != barrier.StateCancelled {
		return err
	}
	again := call
	again.Op = barrier.Cancel
	if _, err := c.External(ctx, b, again, nil); err != nil {
		return err
	}
	return c.end(ctx, b, call, mark)
}

// end notes that the call of a mark has ended.
func (c *Caller) end(ctx context.Context, b *txn.Branch, call saga.Call, mark string) error {
	return local.Run(ctx, b.Database, func(tx *gorm.DB) error { return barrierrows.Unmark(ctx, tx, call.Key(), mark) })
}

// Look is what the barrier said before the effect of a Confirm or
// Cancel, and what the part returned.
type Look struct {
	Due     bool
	Receipt any
	Again   bool   // how the Try ended is not known: Cancel has to come once more
	By      string // the mark of that Try, or else of this call
}

// ActExternal makes the effect of a Confirm or Cancel, if the barrier says
// that it is due. The barrier is read with a lock, in the database that takes
// writes, and notes that the call is under way; the state is written with the Work,
// afterwards.
func (c *Caller) ActExternal(ctx context.Context, b *txn.Branch, call saga.Call) (look Look, err error) {
	look.By = c.newMark()
	row, err := c.lookAndMark(ctx, b, call, look.By)
	if err != nil || row == nil || !row.Matches(c.Request(call)) {
		return look, err // the barrier says more when its row is written
	}
	unclear := unclearTry(row, call.Op)
	switch {
	case unclear && row.UnderWay.Left > 0 && row.State == barrier.StateTried:
		// Its end makes the transaction due, but may have come just now.
		return look, &NotYetError{Wait: min(row.UnderWay.Left, noticing), Why: fmt.Sprintf("its Try is under way since %s, made by %s: Cancel is called when it has ended, or at %s",
			row.UnderWay.Since.Format(time.RFC3339), row.UnderWay.By, row.UnderWay.Until.Format(time.RFC3339))}
	case unclear && row.UnderWay.Left > 0:
		return look, &NotYetError{Wait: row.UnderWay.Left, Why: cancelledOnceMore}
	case unclear && row.State == barrier.StateCancelled:
		if _, err := c.External(ctx, b, call, nil); err != nil {
			return look, err
		}
		return look, c.end(ctx, b, call, row.UnderWay.By)
	case row.State != barrier.StateTried:
		return look, nil
	}
	look.Due = true
	if look.Again = unclear; unclear {
		look.By = row.UnderWay.By
	}
	if look.Receipt, err = c.External(ctx, b, call, nil); err != nil && !unclear {
		c.failedExternal(ctx, b, call, look.By)
	}
	return look, err
}

const cancelledOnceMore = "how its Try ended is not known: Cancel is called once more, for a Try that arrives late"

// unclearTry says whether a Cancel meets a Try of which nobody has noted the end.
func unclearTry(row *barrier.Row, op barrier.Op) bool {
	return row.UnderWay != nil && row.UnderWay.Op == barrier.Try && op == barrier.Cancel
}

// lookAndMark reads the barrier row of a call, and notes the call as under way if it
// is due. The mark of a Try stays.
func (c *Caller) lookAndMark(ctx context.Context, b *txn.Branch, call saga.Call, mark string) (row *barrier.Row, err error) {
	err = local.Run(ctx, b.Database, func(tx *gorm.DB) (err error) {
		row, err = barrierrows.LookLocked(ctx, tx, call.Key())
		if err != nil || row == nil || row.State != barrier.StateTried || !row.Matches(c.Request(call)) || unclearTry(row, call.Op) {
			return err
		}
		return barrierrows.Mark(ctx, tx, call.Key(), call.Op, mark, c.timeout+noticing)
	})
	if errors.Is(err, local.ErrCommitUnknown) {
		err = nil // the look counts; the mark is for people
	}
	return row, err
}

// failedExternal notes that a Confirm or Cancel is not under way any more.
func (c *Caller) failedExternal(ctx context.Context, b *txn.Branch, call saga.Call, mark string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	if err := c.end(ctx, b, call, mark); err != nil {
		c.logger.Warn("saga: noting that a failed call has ended", slog.String("gid", call.GID), slog.String("branch", call.BranchID), slog.Any("error", err))
	}
}

// LookLocked reads the barrier row of a call; nil if there is none.
func (c *Caller) LookLocked(ctx context.Context, b *txn.Branch, call saga.Call) (row *barrier.Row, err error) {
	err = local.Run(ctx, b.Database, func(tx *gorm.DB) (err error) {
		row, err = barrierrows.LookLocked(ctx, tx, call.Key())
		return err
	})
	return row, err
}

// EffectBatch makes the effects of calls of the same operation at once, bounded in time.
func (c *Caller) EffectBatch(ctx context.Context, b *txn.Branch, calls []saga.BatchCall) (receipts []any, failures []error, err error) {
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
