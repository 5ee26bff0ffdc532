package saga

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// notYetError says that a call is not due yet. It is no failure.
type notYetError struct {
	wait time.Duration
	why  string
}

func (e *notYetError) Error() string { return e.why }

// Is matches [ErrOngoing], which the caller of a service is told.
func (e *notYetError) Is(target error) bool { return target == ErrOngoing }

// tryOutside marks the Try durably as under way, makes it, and notes its end. If
// it was marked before, it may have been made before: that call knows how it went,
// and the Try is not made again.
func (c caller) tryOutside(ctx context.Context, b *branch, call Call) error {
	// Counted from before the mark, the call ends before the mark says that it
	// is over.
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("Try of %s did not return within %s", call.Kind, c.timeout))
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
	_, err := c.outside(ctx, b, call, func() { c.tryEndedLate(ctx, b, call, mark) })
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
	var rejection *Rejection
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
func (c caller) newMark() string { return fmt.Sprintf("%s#%d", c.instance, c.underWay.number()) }

// markTry marks a Try as under way, under a name that no other call has. If the
// COMMIT of the mark goes unanswered, it looks for the mark.
func (c caller) markTry(ctx context.Context, b *branch, call Call, mark string) error {
	for look := 1; ; look++ {
		verdict, err := c.barred(ctx, b, call, func(tx *gorm.DB) error {
			return barrierrows.Mark(ctx, tx, call.Key(), barrier.Try, mark, c.timeout+noticing)
		})
		if errors.Is(err, local.ErrCommitUnknown) && look < maxLooks {
			continue
		}
		if err != nil || verdict != barrier.Duplicate {
			return err
		}
		row, err := c.lookLocked(ctx, b, call)
		if err != nil || row != nil && row.UnderWay != nil && row.UnderWay.By == mark {
			return err
		}
		return fmt.Errorf("the Try was begun before and its outcome is unknown: %w", ErrOngoing)
	}
}

// ended notes that a marked Try has returned, and whether it is known to have ended.
// If the branch is not tried any more, it notes nothing and returns false.
func (c caller) ended(ctx context.Context, b *branch, call Call, mark string, known bool) (noted bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	for range maxLooks {
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
func (c caller) tryEndedLate(ctx context.Context, b *branch, call Call, mark string) {
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
func (c caller) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.over:
		return false
	}
}

func (c caller) cancelLate(ctx context.Context, b *branch, call Call, mark string) error {
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
	if _, err := c.outside(ctx, b, again, nil); err != nil {
		return err
	}
	return c.end(ctx, b, call, mark)
}

// end notes that the call of a mark has ended.
func (c caller) end(ctx context.Context, b *branch, call Call, mark string) error {
	return local.Run(ctx, b.Database, func(tx *gorm.DB) error { return barrierrows.Unmark(ctx, tx, call.Key(), mark) })
}

// outsideLook is what the barrier said before the Outside part of a Confirm or
// Cancel, and what the part returned.
type outsideLook struct {
	due     bool
	receipt any
	again   bool   // how the Try ended is not known: Cancel has to come once more
	by      string // the mark of that Try, or else of this call
}

// actOutside makes the Outside part of a Confirm or Cancel, if the barrier says
// that it is due. The barrier is read with a lock, in the database that takes
// writes, and notes that the call is under way; the state is written with the Inside
// part, afterwards.
func (c caller) actOutside(ctx context.Context, b *branch, call Call) (look outsideLook, err error) {
	look.by = c.newMark()
	row, err := c.lookAndMark(ctx, b, call, look.by)
	if err != nil || row == nil || !row.Matches(c.request(call)) {
		return look, err // the barrier says more when its row is written
	}
	unclear := unclearTry(row, call.Op)
	switch {
	case unclear && row.UnderWay.Left > 0 && row.State == barrier.StateTried:
		// Its end makes the transaction due, but may have come just now.
		return look, &notYetError{wait: min(row.UnderWay.Left, noticing), why: fmt.Sprintf("its Try is under way since %s, made by %s: Cancel is called when it has ended, or at %s",
			row.UnderWay.Since.Format(time.RFC3339), row.UnderWay.By, row.UnderWay.Until.Format(time.RFC3339))}
	case unclear && row.UnderWay.Left > 0:
		return look, &notYetError{wait: row.UnderWay.Left, why: cancelledOnceMore}
	case unclear && row.State == barrier.StateCancelled:
		if _, err := c.outside(ctx, b, call, nil); err != nil {
			return look, err
		}
		return look, c.end(ctx, b, call, row.UnderWay.By)
	case row.State != barrier.StateTried:
		return look, nil
	}
	look.due = true
	if look.again = unclear; unclear {
		look.by = row.UnderWay.By
	}
	if look.receipt, err = c.outside(ctx, b, call, nil); err != nil && !unclear {
		c.failedOutside(ctx, b, call, look.by)
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
func (c caller) lookAndMark(ctx context.Context, b *branch, call Call, mark string) (row *barrier.Row, err error) {
	err = local.Run(ctx, b.Database, func(tx *gorm.DB) (err error) {
		row, err = barrierrows.LookLocked(ctx, tx, call.Key())
		if err != nil || row == nil || row.State != barrier.StateTried || !row.Matches(c.request(call)) || unclearTry(row, call.Op) {
			return err
		}
		return barrierrows.Mark(ctx, tx, call.Key(), call.Op, mark, c.timeout+noticing)
	})
	if errors.Is(err, local.ErrCommitUnknown) {
		err = nil // the look counts; the mark is for people
	}
	return row, err
}

// failedOutside notes that a Confirm or Cancel is not under way any more.
func (c caller) failedOutside(ctx context.Context, b *branch, call Call, mark string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	if err := c.end(ctx, b, call, mark); err != nil {
		c.logger.Warn("saga: noting that a failed call has ended", slog.String("gid", call.GID), slog.String("branch", call.BranchID), slog.Any("error", err))
	}
}

// lookLocked reads the barrier row of a call; nil if there is none.
func (c caller) lookLocked(ctx context.Context, b *branch, call Call) (row *barrier.Row, err error) {
	err = local.Run(ctx, b.Database, func(tx *gorm.DB) (err error) {
		row, err = barrierrows.LookLocked(ctx, tx, call.Key())
		return err
	})
	return row, err
}

// underWay are the calls that this process makes at this moment outside of the
// log's local transactions.
type underWay struct {
	last atomic.Int64

	mu    sync.Mutex
	calls map[barrier.Key]CallUnderWay
}

// number returns another number each time.
func (u *underWay) number() int64 { return u.last.Add(1) }

// CallUnderWay is a call of a branch that is under way.
type CallUnderWay struct {
	Op    barrier.Op `json:"op"`
	By    string     `json:"by"`             // the instance that makes it
	Since time.Time  `json:"since"`          // by the database's clock, or, if this process makes it, by its own
	Until time.Time  `json:"until,omitzero"` // when it is over at the latest, or was; zero if that is not recorded
}

// begin notes a call, until end is called.
func (u *underWay) begin(call Call) (end func()) {
	if u == nil {
		return func() {}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.calls == nil {
		u.calls = make(map[barrier.Key]CallUnderWay)
	}
	u.calls[call.Key()] = CallUnderWay{Op: call.Op, Since: time.Now()}
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.calls, call.Key())
	}
}

func (u *underWay) of(key barrier.Key) (CallUnderWay, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	call, known := u.calls[key]
	return call, known
}
