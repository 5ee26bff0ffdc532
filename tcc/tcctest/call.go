package tcctest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// errCrash rolls a local transaction back, as a crash of the process does.
var errCrash = errors.New("the process dies before the commit")

// engine makes calls of one branch as the engine of package embedded does.
type engine struct {
	branch  kind
	payload []byte
	limit   time.Duration
	hung    atomic.Bool // a call did not return
	sights  sights
}

// call makes one call of the branch.
func (e *engine) call(ctx context.Context, gid string, op barrier.Op, h *how) error {
	if e.hung.Load() {
		return errHangs
	}
	c := saga.Call{GID: gid, BranchID: "01", Kind: e.branch.Name, Op: op, Attempt: 1, Payload: e.payload}
	act := e.branch.Effects[op]
	if act != nil && op == try {
		return e.tryExternal(ctx, c, h)
	}
	if act != nil {
		due, err := e.isTried(ctx, c)
		if err != nil {
			return err
		}
		if due {
			if c.Receipt, err = e.effect(ctx, c, h); err != nil {
				return err
			}
		}
	}
	if h.rerun {
		h.crash = true
		err := e.inTx(ctx, c, h)
		if h.crash = false; !errors.Is(err, errCrash) {
			return err
		}
	}
	return e.inTx(ctx, c, h)
}

// tryExternal writes the barrier row of an external Try, and then calls it.
func (e *engine) tryExternal(ctx context.Context, c saga.Call, h *how) error {
	duplicate, err := e.behindBarrier(ctx, c, func(*gorm.DB) error { return nil })
	switch {
	case err != nil:
		return err
	case duplicate:
		return errors.New("the Try was begun before")
	case h.unsent:
		return errCrash
	}
	_, err = e.effect(ctx, c, h)
	return err
}

func (e *engine) effect(ctx context.Context, c saga.Call, h *how) (receipt any, err error) {
	err = e.run(ctx, h, func(ctx context.Context) (err error) {
		receipt, err = e.branch.Effects[c.Op](ctx, c)
		return err
	})
	if err != nil {
		return nil, err // a call that was given up may still write the receipt
	}
	return receipt, nil
}

func (e *engine) inTx(ctx context.Context, c saga.Call, h *how) error {
	_, err := e.behindBarrier(ctx, c, func(tx *gorm.DB) error {
		if e.branch.Work != nil {
			err := e.runInTx(ctx, h, names[c.Op], tx, func(ctx context.Context, tx *gorm.DB) error {
				return e.branch.Work(ctx, tx, c)
			})
			if err != nil {
				return err
			}
		}
		if h.crash {
			return errCrash
		}
		return nil
	})
	return err
}
