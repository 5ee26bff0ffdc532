package tcctest

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// errCrash is the end of the process, as the local transaction sees it.
var errCrash = errors.New("the process dies before the commit")

// call makes one call of a branch the way that the orchestrator does.
func (e *exerciser) call(ctx context.Context, gid string, op barrier.Op, h *how) error {
	if e.hung.Load() {
		return errHangs
	}
	c := saga.Call{GID: gid, BranchID: "01", Kind: e.branch.Name, Op: op, Attempt: 1, Payload: e.payload}
	act := e.branch.Effects[op]
	if act != nil && op == try {
		return e.outsideTry(ctx, c, h)
	}
	if act != nil {
		due, err := e.isTried(ctx, c)
		if err != nil {
			return err
		}
		if due {
			if c.Receipt, err = e.outside(ctx, c, h); err != nil {
				return err
			}
		}
	}
	if h.rerun {
		h.crash = true
		err := e.inside(ctx, c, h)
		if h.crash = false; !errors.Is(err, errCrash) {
			return err
		}
	}
	return e.inside(ctx, c, h)
}

// outsideTry marks an external Try in the barrier, and makes it.
func (e *exerciser) outsideTry(ctx context.Context, c saga.Call, h *how) error {
	duplicate, err := e.guarded(ctx, c, func(*gorm.DB) error { return nil })
	switch {
	case err != nil:
		return err
	case duplicate:
		return errors.New("the Try was begun before")
	case h.unsent:
		return errCrash
	}
	_, err = e.outside(ctx, c, h)
	return err
}

func (e *exerciser) outside(ctx context.Context, c saga.Call, h *how) (receipt any, err error) {
	err = e.visit(ctx, h, func(ctx context.Context) (err error) {
		receipt, err = e.branch.Effects[c.Op](ctx, c)
		return err
	})
	if err != nil {
		return nil, err // the receipt may be written yet, by a call that was given up
	}
	return receipt, nil
}

func (e *exerciser) inside(ctx context.Context, c saga.Call, h *how) error {
	_, err := e.guarded(ctx, c, func(tx *gorm.DB) error {
		if e.branch.Work != nil {
			err := e.visitInside(ctx, h, names[c.Op], tx, func(ctx context.Context, tx *gorm.DB) error {
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
