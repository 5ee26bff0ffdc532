package saga

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
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
	mark := fmt.Sprintf("%s#%d", c.instance, c.underWay.number())
	if err := c.markTry(ctx, b, call, mark); err != nil {
		return err
	}
	if err := local.Expired(ctx); err != nil {
		// It was not made.
		return errors.Join(err, c.ended(ctx, b, call, mark))
	}
	_, err := c.outside(ctx, b, call, func() { c.tryEndedLate(b, call, mark) })
	if errors.Is(err, errAbandoned) || err != nil && ctx.Err() != nil {
		// It may arrive late: the mark stays.
		return err
	}
	if markErr := c.ended(ctx, b, call, mark); markErr != nil {
		c.logger.Warn("saga: noting the end of a Try failed; a Cancel waits until its time is over", slog.String("gid", call.GID),
			slog.String("branch", call.BranchID), slog.String("kind", call.Kind), slog.Any("error", markErr))
	}
	return err
}

// markTry marks a Try as under way, under a name that no other call has. If the
// COMMIT of the mark goes unanswered, it looks for the mark.
func (c caller) markTry(ctx context.Context, b *branch, call Call, mark string) error {
	for look := 1; ; look++ {
		verdict, err := c.barred(ctx, b, call, func(tx *gorm.DB) error {
			return barrier.Begin(ctx, tx, call.Key(), barrier.Try, mark, c.timeout+noticing)
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

// ended notes that a marked Try has ended.
func (c caller) ended(ctx context.Context, b *branch, call Call, mark string) (err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	for range maxLooks {
		err = local.Run(ctx, b.Database, func(tx *gorm.DB) error { return barrier.End(ctx, tx, call.Key(), mark) })
		if !errors.Is(err, local.ErrCommitUnknown) {
			break
		}
	}
	return err
}

// tryEndedLate is called when a Try has returned that was given up. If Cancel has
// been called meanwhile, the Try may have reserved after it: Cancel is called once
// more.
func (c caller) tryEndedLate(b *branch, call Call, mark string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*c.timeout)
	defer cancel()
	row, err := c.lookLocked(ctx, b, call)
	if err == nil && row != nil && row.State == barrier.StateCancelled {
		again := call
		again.Op = barrier.Cancel
		_, err = c.outside(ctx, b, again, nil)
	}
	if err = errors.Join(err, c.ended(ctx, b, call, mark)); err != nil {
		c.logger.Error("saga: a Try returned long after its time was over; if it has reserved something, its own side has to free it",
			slog.String("gid", call.GID), slog.String("branch", call.BranchID), slog.String("kind", call.Kind), slog.Any("error", err))
	}
}

// outsideLook is what the barrier said before the Outside part of a Confirm or
// Cancel, and what the part returned.
type outsideLook struct {
	due     bool
	receipt any
	again   bool   // how the Try ended is not known: Cancel has to come once more
	by      string // the instance that made that Try
}

// actOutside makes the Outside part of a Confirm or Cancel, if the barrier says
// that it is due. The barrier is read with a lock, in the database that takes
// writes; its row is written with the Inside part, afterwards.
func (c caller) actOutside(ctx context.Context, b *branch, call Call) (look outsideLook, err error) {
	row, err := c.lookLocked(ctx, b, call)
	if err != nil || row == nil || !row.Matches(call.request()) {
		return look, err // the barrier says more when its row is written
	}
	unclear := row.UnderWay != nil && row.UnderWay.Op == barrier.Try && call.Op == barrier.Cancel
	switch {
	case unclear && row.UnderWay.Left > 0 && row.State == barrier.StateTried:
		return look, &notYetError{wait: row.UnderWay.Left, why: fmt.Sprintf("its Try is under way since %s, made by %s: Cancel is called when it has ended, or at %s",
			row.UnderWay.Since.Format(time.RFC3339), row.UnderWay.By, row.UnderWay.Until.Format(time.RFC3339))}
	case unclear && row.UnderWay.Left > 0:
		return look, &notYetError{wait: row.UnderWay.Left, why: "how its Try ended is not known: Cancel is called once more, for a Try that arrives late"}
	case unclear && row.State == barrier.StateCancelled:
		if _, err := c.outside(ctx, b, call, nil); err != nil {
			return look, err
		}
		call.Op = barrier.Try
		return look, local.Run(ctx, b.Database, func(tx *gorm.DB) error { return barrier.End(ctx, tx, call.Key(), row.UnderWay.By) })
	case row.State != barrier.StateTried:
		return look, nil
	}
	look.due = true
	if look.again = unclear; unclear {
		look.by = row.UnderWay.By
	}
	look.receipt, err = c.outside(ctx, b, call, nil)
	return look, err
}

// lookLocked reads the barrier row of a call; nil if there is none.
func (c caller) lookLocked(ctx context.Context, b *branch, call Call) (row *barrier.Row, err error) {
	err = local.Run(ctx, b.Database, func(tx *gorm.DB) (err error) {
		row, err = barrier.LookLocked(ctx, tx, call.Key())
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
