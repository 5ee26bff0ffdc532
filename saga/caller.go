package saga

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// caller calls branches, each within a time limit, and by themselves: not in a
// commit with the log.
type caller struct {
	timeout time.Duration
	logger  *slog.Logger
}

// errSlipped says that a Try came between two looks at the barrier.
var errSlipped = errors.New("a Try came in between")

// maxLooks bounds how often a call is begun anew because of errSlipped or
// because a COMMIT went unanswered. Once is the rule; the barrier makes any
// number safe.
const maxLooks = 3

// callApart makes one branch call, with a local transaction of its own in the
// branch's own database, if it has one.
func (c caller) callApart(ctx context.Context, b *branch, call Call) error {
	if b.Remote != nil {
		return c.bounded(ctx, call, func(ctx context.Context) error { return b.Remote.Call(ctx, call) })
	}
	for look := 1; ; look++ {
		err := c.callOnce(ctx, b, call)
		again := errors.Is(err, errSlipped) || errors.Is(err, local.ErrCommitUnknown)
		if !again || look == maxLooks || ctx.Err() != nil {
			return err
		}
	}
}

func (c caller) callOnce(ctx context.Context, b *branch, call Call) error {
	if b.Outside[call.Op] == nil {
		_, err := barrier.Do(ctx, b.Database, call.Key(), call.Op, func(tx *gorm.DB) error {
			return c.inside(ctx, tx, b, call)
		})
		return err
	}
	if call.Op == barrier.Try {
		return c.tryOutside(ctx, b, call)
	}
	due, receipt, err := c.actOutside(ctx, b, call)
	if err != nil {
		return err
	}
	call.Receipt = receipt
	_, err = barrier.Do(ctx, b.Database, call.Key(), call.Op, func(tx *gorm.DB) error {
		if !due {
			return errSlipped
		}
		return c.inside(ctx, tx, b, call)
	})
	return err
}

// tryOutside marks the Try durably and then makes it. If it was marked before,
// it may have been made before: whoever made it knows how it went, and nobody
// else may make it again.
func (c caller) tryOutside(ctx context.Context, b *branch, call Call) error {
	verdict, err := barrier.Do(ctx, b.Database, call.Key(), barrier.Try, func(*gorm.DB) error { return nil })
	if err != nil {
		return err
	}
	if verdict == barrier.Duplicate {
		return fmt.Errorf("the Try was begun before and its outcome is unknown: %w", ErrOngoing)
	}
	_, err = c.outside(ctx, b, call)
	return err
}

// actOutside makes the Outside part of a Confirm or Cancel, if the barrier says
// that it is due. The barrier is only looked at here; the row is written with
// the Inside part, afterwards.
func (c caller) actOutside(ctx context.Context, b *branch, call Call) (due bool, receipt any, err error) {
	rows, err := barrier.Look(ctx, b.Database, call.GID)
	if err != nil {
		return false, nil, err
	}
	for _, row := range rows {
		if row.Key == call.Key() && row.State == barrier.StateTried {
			receipt, err = c.outside(ctx, b, call)
			return true, receipt, err
		}
	}
	return false, nil, nil
}

// inside calls the Inside part of a branch, bounded in time.
func (c caller) inside(ctx context.Context, tx *gorm.DB, b *branch, call Call) error {
	if b.Inside == nil {
		return nil
	}
	return c.bounded(ctx, call, func(ctx context.Context) error { return b.Inside(ctx, tx.WithContext(ctx), call) })
}

// outside calls an Outside part of a branch, bounded in time.
func (c caller) outside(ctx context.Context, b *branch, call Call) (receipt any, err error) {
	err = c.bounded(ctx, call, func(ctx context.Context) (err error) {
		receipt, err = b.Outside[call.Op](ctx, call)
		return err
	})
	return receipt, err
}

// bounded calls f with a timeout and turns a panic into an error.
func (c caller) bounded(ctx context.Context, call Call, f func(context.Context) error) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout,
		fmt.Errorf("%s of %s did not return within %s", call.Op, call.Kind, c.timeout))
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			c.logger.Error("saga: a branch panicked", "gid", call.GID, "branch", call.BranchID,
				"kind", call.Kind, "operation", string(call.Op), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	err = f(ctx)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
	}
	return err
}
