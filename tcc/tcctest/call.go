package tcctest

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

const (
	try     = barrier.Try
	confirm = barrier.Confirm
	cancel  = barrier.Cancel
)

// errCrash is the end of the process, as the local transaction sees it.
var errCrash = errors.New("the process dies before the commit")

// how a call goes wrong on its way.
type how struct {
	crash     bool // the process dies after the work and before the commit
	rerun     bool // the local transaction is rolled back after the work, and run again
	statement int  // the n-th statement of the work fails; 0 is none
	unsent    bool // of an external Try: it is marked, and then never sent

	statements int // how many there were
}

// call makes one call of a branch the way that the orchestrator does.
func (e *exerciser) call(ctx context.Context, gid string, op barrier.Op, h *how) error {
	c := saga.Call{GID: gid, BranchID: "01", Kind: e.branch.Kind, Op: op, Attempt: 1, Payload: e.payload}
	act := e.branch.Outside[op]
	if act != nil && op == try {
		verdict, err := barrier.Do(ctx, e.branch.Database, request(c), func(*gorm.DB) error { return nil })
		switch {
		case err != nil:
			return err
		case verdict == barrier.Duplicate:
			return errors.New("the Try was begun before")
		case h.unsent:
			return errCrash
		}
		_, err = act(ctx, c)
		return err
	}
	if act != nil {
		due, err := e.isTried(ctx, c.Key())
		if err != nil {
			return err
		}
		if due {
			if c.Receipt, err = act(ctx, c); err != nil {
				return err
			}
		}
	}
	if h.rerun {
		if err := e.inside(ctx, c, &how{crash: true}); !errors.Is(err, errCrash) {
			return err
		}
	}
	return e.inside(ctx, c, h)
}

func (e *exerciser) inside(ctx context.Context, c saga.Call, h *how) error {
	_, err := barrier.Do(ctx, e.branch.Database, request(c), func(tx *gorm.DB) error {
		if e.branch.Inside != nil {
			if err := e.branch.Inside(ctx, h.watch(tx), c); err != nil {
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

func (e *exerciser) isTried(ctx context.Context, key barrier.Key) (bool, error) {
	rows, err := barrier.Look(ctx, e.branch.Database, key.GID)
	if err != nil {
		return false, err
	}
	for _, row := range rows {
		if row.Key == key {
			return row.State == barrier.StateTried, nil
		}
	}
	return false, nil
}

// request is the call as the barrier has to know it.
func request(c saga.Call) barrier.Request {
	return barrier.Request{Key: c.Key(), Op: c.Op, Kind: c.Kind, Input: c.Payload}
}
