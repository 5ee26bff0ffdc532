package tcctest

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
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
	results sync.Map    // of the Trys of actions, by gid
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
		keep := e.withResult(&c)
		if receipt, err = e.branch.Effects[c.Op](ctx, c); err == nil {
			keep()
		}
		return err
	})
	if err != nil {
		return nil, err // a call that was given up may still write the receipt
	}
	return receipt, nil
}

func (e *engine) inTx(ctx context.Context, c saga.Call, h *how) error {
	_, err := e.behindBarrier(ctx, c, func(tx *gorm.DB) error {
		if e.branch.Work != nil && !(e.branch.Action && c.Op == confirm) {
			keep := e.withResult(&c)
			err := e.runInTx(ctx, h, names[c.Op], tx, func(ctx context.Context, tx *gorm.DB) error {
				return e.branch.Work(ctx, tx, c)
			})
			if err != nil {
				return err
			}
			keep()
		}
		if h.crash {
			return errCrash
		}
		return nil
	})
	return err
}

// withResult gives a call of an action the result of its Do, or a place for it, which keep
// keeps.
func (e *engine) withResult(c *saga.Call) (keep func()) {
	if c.Op != try {
		if result, found := e.results.Load(c.GID); found {
			c.Results = map[string]json.RawMessage{c.BranchID: result.(json.RawMessage)}
		}
		return func() {}
	}
	result := new(json.RawMessage)
	c.Result = result
	return func() {
		if *result != nil {
			e.results.Store(c.GID, *result)
		}
	}
}
