package saga

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// errSlipped says that a Try came between two looks at the barrier.
var errSlipped = errors.New("a Try came in between")

// maxLooks bounds how often a call is begun anew because of errSlipped or
// because a COMMIT went unanswered. Once is the rule; the barrier makes any
// number safe.
const maxLooks = 3

// callApart makes one branch call with a local transaction of its own, in the
// branch's own database.
func (o *Orchestrator) callApart(ctx context.Context, b *branch, call Call) error {
	for look := 1; ; look++ {
		err := o.callOnce(ctx, b, call)
		again := errors.Is(err, errSlipped) || errors.Is(err, local.ErrCommitUnknown)
		if !again || look == maxLooks || ctx.Err() != nil {
			return err
		}
	}
}

func (o *Orchestrator) callOnce(ctx context.Context, b *branch, call Call) error {
	if b.Outside[call.Op] == nil {
		_, err := barrier.Do(ctx, b.Database, call.Key(), call.Op, func(tx *gorm.DB) error {
			return o.inside(ctx, tx, b, call)
		})
		return err
	}
	if call.Op == barrier.Try {
		return o.tryOutside(ctx, b, call)
	}
	due, receipt, err := o.actOutside(ctx, b, call, false)
	if err != nil {
		return err
	}
	call.Receipt = receipt
	_, err = barrier.Do(ctx, b.Database, call.Key(), call.Op, func(tx *gorm.DB) error {
		if !due {
			return errSlipped
		}
		return o.inside(ctx, tx, b, call)
	})
	return err
}

// tryOutside marks the Try durably and then makes it. If it was marked before,
// it may have been made before: whoever made it knows how it went, and nobody
// else may make it again.
func (o *Orchestrator) tryOutside(ctx context.Context, b *branch, call Call) error {
	verdict, err := barrier.Do(ctx, b.Database, call.Key(), barrier.Try, func(*gorm.DB) error { return nil })
	if err != nil {
		return err
	}
	if verdict == barrier.Duplicate {
		return errors.New("the Try was begun before and its outcome is unknown")
	}
	_, err = o.outside(ctx, b, call)
	return err
}

// actOutside makes the Outside part of a Confirm or Cancel, if the barrier says
// that it is due, which a fresh transaction is. The barrier is only looked at
// here; the row is written with the Inside part, afterwards.
func (o *Orchestrator) actOutside(ctx context.Context, b *branch, call Call, fresh bool) (due bool, receipt any, err error) {
	if fresh {
		receipt, err = o.deliverTogether(ctx, b, call)
		return true, receipt, err
	}
	rows, err := barrier.Look(ctx, b.Database, call.GID)
	if err != nil {
		return false, nil, err
	}
	for _, row := range rows {
		if row.Key == call.Key() && row.State == barrier.StateTried {
			receipt, err = o.outside(ctx, b, call)
			return true, receipt, err
		}
	}
	return false, nil, nil
}
