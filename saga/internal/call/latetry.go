package call

import (
	"context"
	"log/slog"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// Attempts of the Cancel that follows a late Try.
const (
	lateCancels    = 10
	lateCancelWait = 100 * time.Millisecond // doubled each time
)

// cancelLate is called when a Try has returned after its time was over. If Cancel was
// called meanwhile, the Try may have reserved something after it. Cancel is then called
// once more, until it succeeds.
func (t tryEffect) cancelLate(ctx context.Context, b *txn.Branch, call saga.Call, mark string) {
	var err error
	for n := range lateCancels {
		if n > 0 && !t.pause(lateCancelWait<<(n-1)) {
			break
		}
		if err = t.cancelLateOnce(ctx, b, call, mark); err == nil {
			return
		}
	}
	t.logger.Error("saga: a Try returned long after its time was over, and its Cancel failed: release its reservation by hand, if there is one",
		slog.String("gid", call.GID), slog.String("branch", call.BranchID), slog.String("kind", call.Kind),
		slog.String("operation", string(barrier.Cancel)), slog.Int("attempt", call.Attempt), slog.Any("error", err))
}

// pause waits. It returns false if no further call may begin.
func (t tryEffect) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.stopped:
		return false
	}
}

func (t tryEffect) cancelLateOnce(ctx context.Context, b *txn.Branch, call saga.Call, mark string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*t.timeout)
	defer cancel()
	cancelled, err := t.readCancelled(ctx, b, call, mark)
	if err != nil || !cancelled {
		return err
	}
	again := call
	again.Op = barrier.Cancel
	if _, err := t.CallEffect(ctx, b, again, nil); err != nil {
		return err
	}
	return t.Caller.unmark(ctx, b, call, mark)
}

// readCancelled reports whether the branch is cancelled. If it is not, a Cancel can only
// come after this read, and the mark is removed.
func (t tryEffect) readCancelled(ctx context.Context, b *txn.Branch, call saga.Call, mark string) (bool, error) {
	cancelled := false
	err := local.Run(ctx, b.Database, func(tx *gorm.DB) error {
		row, err := barrierrows.LookLocked(ctx, tx, call.Key())
		// Without a row, the transaction is finished and was removed.
		cancelled = row == nil || row.State == barrier.StateCancelled
		if err != nil || cancelled {
			return err
		}
		// In the same local transaction as the read: a Cancel in between would leave its
		// own mark for a second Cancel, which has to stay.
		return barrierrows.Unmark(ctx, tx, call.Key(), mark)
	})
	return cancelled, err
}
