package call

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// Config of a [Caller].
type Config struct {
	Timeout  time.Duration // of one call
	Logger   *slog.Logger
	Instance string          // that the barrier names for calls that are under way
	Prefix   string          // of the names of callers in the barrier rows
	Over     <-chan struct{} // closed when nothing is called any more; nil is never
}

// Caller calls branches, each within a time limit, and by themselves: not in a commit
// with the log. It is safe for concurrent use.
type Caller struct {
	bounds
	instance string
	prefix   string
	over     <-chan struct{}

	// UnderWay are the calls of this process that go on at this moment.
	UnderWay UnderWay
}

// New returns a Caller.
func New(c Config) *Caller {
	return &Caller{bounds: bounds{timeout: c.Timeout, logger: c.Logger}, instance: c.Instance, prefix: c.Prefix, over: c.Over}
}

// Instance is the instance that makes the calls.
func (c *Caller) Instance() string { return c.instance }

// ErrRaced says that a Try came between two looks at the barrier.
var ErrRaced = errors.New("a Try came in between")

// Request is the call as the barrier has to know it.
func Request(call saga.Call) barrier.Request {
	return barrier.Request{Key: call.Key(), Op: call.Op, Caller: call.Caller, Kind: call.Kind, Input: call.Payload}
}

// Request is the call as the barrier has to know it, made by this caller.
func (c *Caller) Request(call saga.Call) barrier.Request {
	request := Request(call)
	request.Caller = c.prefix + request.Caller
	return request
}

// Apart makes one branch call, with a local transaction of its own in the
// branch's own database, if it has one.
func (c *Caller) Apart(ctx context.Context, b *txn.Branch, call saga.Call) error {
	defer c.UnderWay.Begin(call)()
	if b.Remote != nil {
		return c.bounded(ctx, call, func(ctx context.Context) error { return b.Remote.Call(ctx, call) }, nil)
	}
	// All of it, also where the database does not answer.
	limit := c.timeout
	if b.Effects[call.Op] != nil {
		limit *= 2 // the call, and the local transactions before and after it
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s of %s did not come to its end within %s", call.Op, call.Kind, limit))
	defer cancel()
	for look := 1; ; look++ {
		err := c.callOnce(ctx, b, call)
		again := errors.Is(err, ErrRaced) || errors.Is(err, local.ErrCommitUnknown)
		if !again || look == txn.MaxLooks || ctx.Err() != nil {
			return err
		}
	}
}

func (c *Caller) callOnce(ctx context.Context, b *txn.Branch, call saga.Call) error {
	if b.Effects[call.Op] == nil {
		_, err := c.barred(ctx, b, call, func(tx *gorm.DB) error { return c.InTransaction(ctx, tx, b, call) })
		return err
	}
	if call.Op == barrier.Try {
		return c.tryExternal(ctx, b, call)
	}
	look, err := c.ActExternal(ctx, b, call)
	if err != nil {
		return err
	}
	call.Receipt = look.Receipt
	_, err = c.barred(ctx, b, call, func(tx *gorm.DB) error {
		if !look.Due {
			return ErrRaced
		}
		if err := c.NoteExternal(ctx, tx, call, look); err != nil {
			return err
		}
		return c.InTransaction(ctx, tx, b, call)
	})
	if err == nil && look.Again {
		return &NotYetError{Wait: c.timeout, Why: cancelledOnceMore}
	}
	return err
}

// NoteExternal notes, with the new state of the branch, what is under way after its
// effect: nothing, or a Try that may arrive late, for another time.
func (c *Caller) NoteExternal(ctx context.Context, tx *gorm.DB, call saga.Call, look Look) error {
	if look.Again {
		return barrierrows.Mark(ctx, tx, call.Key(), barrier.Try, look.By, c.timeout)
	}
	return barrierrows.Unmark(ctx, tx, call.Key(), look.By)
}

// barred runs one branch call in a local transaction of its own: barrier first,
// then work if the verdict is Run. A call that is turned away is counted.
func (c *Caller) barred(ctx context.Context, b *txn.Branch, call saga.Call, work func(tx *gorm.DB) error) (verdict barrier.Verdict, err error) {
	var refused error
	err = local.Run(ctx, b.Database, func(tx *gorm.DB) (err error) {
		verdict, err = barrier.Call(ctx, tx, c.Request(call))
		if refused = nil; errors.Is(err, barrier.ErrSuspended) || errors.Is(err, barrier.ErrConflict) {
			refused = err
			return nil
		}
		if err != nil || verdict != barrier.Run {
			return err
		}
		return work(tx)
	})
	return verdict, errors.Join(err, refused)
}

// LocalWork calls work of the user in the local transaction tx of the framework, bounded in
// time, with a session of db. Its error is a [*WorkError].
func (c *Caller) LocalWork(ctx context.Context, db, tx *gorm.DB, gid string, work func(context.Context, *gorm.DB) error) error {
	err := c.bounded(ctx, saga.Call{GID: gid, Kind: "local work", Op: opWork}, func(ctx context.Context) error {
		return work(ctx, local.Guest(ctx, db, tx))
	}, nil)
	if err != nil {
		return &WorkError{err}
	}
	return nil
}

// opWork names local work in errors.
const opWork barrier.Op = "run"

// WorkError is the error of local work.
type WorkError struct{ Err error }

func (e *WorkError) Error() string { return "local work: " + e.Err.Error() }
func (e *WorkError) Unwrap() error { return e.Err }

// InTransaction calls the Work of a branch, bounded in time, in the local
// transaction tx of the framework.
func (c *Caller) InTransaction(ctx context.Context, tx *gorm.DB, b *txn.Branch, call saga.Call) error {
	if b.Work == nil {
		return nil
	}
	return c.bounded(ctx, call, func(ctx context.Context) error { return b.RunWork(ctx, tx, call) }, nil)
}

// inBatch is InTransaction for a call of a batch, whose watch bounds it.
func (c *Caller) inBatch(ctx context.Context, tx *gorm.DB, b *txn.Branch, call saga.Call) error {
	if b.Work == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return withCause(ctx, c.protected(ctx, call, func(ctx context.Context) error { return b.RunWork(ctx, tx, call) }))
}

// External calls an effect of a branch, bounded in time. If the call does
// not return in time, late is called when it does at last.
func (c *Caller) External(ctx context.Context, b *txn.Branch, call saga.Call, late func()) (receipt any, err error) {
	got := make(chan any, 1)
	err = c.bounded(ctx, call, func(ctx context.Context) error {
		receipt, err := b.Effects[call.Op](ctx, call)
		got <- receipt
		return err
	}, late)
	if err == nil {
		receipt = <-got
	}
	return receipt, err
}
