package saga

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// caller calls branches, each within a time limit, and by themselves: not in a
// commit with the log.
type caller struct {
	timeout  time.Duration
	logger   *slog.Logger
	instance string          // that the barrier names for calls that are under way
	prefix   string          // of the names of callers in the barrier rows
	underWay *underWay       // calls of this process
	over     <-chan struct{} // closed when nothing is called any more; nil is never
}

// errRaced says that a Try came between two looks at the barrier.
var errRaced = errors.New("a Try came in between")

// maxLooks bounds how often a call is begun anew because of errRaced or
// because a COMMIT went unanswered. Once is the rule; the barrier makes any
// number safe.
const maxLooks = 3

// request is the call as the barrier has to know it.
func (c Call) request() barrier.Request {
	return barrier.Request{Key: c.Key(), Op: c.Op, Caller: c.Caller, Kind: c.Kind, Input: c.Payload}
}

// request is the call as the barrier has to know it, made by this caller.
func (c caller) request(call Call) barrier.Request {
	request := call.request()
	request.Caller = c.prefix + request.Caller
	return request
}

// callApart makes one branch call, with a local transaction of its own in the
// branch's own database, if it has one.
func (c caller) callApart(ctx context.Context, b *branch, call Call) error {
	defer c.underWay.begin(call)()
	if b.Remote != nil {
		return c.bounded(ctx, call, func(ctx context.Context) error { return b.Remote.Call(ctx, call) }, nil)
	}
	// All of it, also where the database does not answer.
	limit := c.timeout
	if b.Outside[call.Op] != nil {
		limit *= 2 // the call, and the local transactions before and after it
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s of %s did not come to its end within %s", call.Op, call.Kind, limit))
	defer cancel()
	for look := 1; ; look++ {
		err := c.callOnce(ctx, b, call)
		again := errors.Is(err, errRaced) || errors.Is(err, local.ErrCommitUnknown)
		if !again || look == maxLooks || ctx.Err() != nil {
			return err
		}
	}
}

func (c caller) callOnce(ctx context.Context, b *branch, call Call) error {
	if b.Outside[call.Op] == nil {
		_, err := c.barred(ctx, b, call, func(tx *gorm.DB) error { return c.inside(ctx, tx, b, call) })
		return err
	}
	if call.Op == barrier.Try {
		return c.tryOutside(ctx, b, call)
	}
	look, err := c.actOutside(ctx, b, call)
	if err != nil {
		return err
	}
	call.Receipt = look.receipt
	_, err = c.barred(ctx, b, call, func(tx *gorm.DB) error {
		if !look.due {
			return errRaced
		}
		if err := c.noteOutside(ctx, tx, call, look); err != nil {
			return err
		}
		return c.inside(ctx, tx, b, call)
	})
	if err == nil && look.again {
		return &notYetError{wait: c.timeout, why: cancelledOnceMore}
	}
	return err
}

// noteOutside notes, with the new state of the branch, what is under way after its
// Outside part: nothing, or a Try that may arrive late, for another time.
func (c caller) noteOutside(ctx context.Context, tx *gorm.DB, call Call, look outsideLook) error {
	if look.again {
		return barrierrows.Mark(ctx, tx, call.Key(), barrier.Try, look.by, c.timeout)
	}
	return barrierrows.Unmark(ctx, tx, call.Key(), look.by)
}

// barred runs one branch call in a local transaction of its own: barrier first,
// then work if the verdict is Run. A call that is turned away is counted.
func (c caller) barred(ctx context.Context, b *branch, call Call, work func(tx *gorm.DB) error) (verdict barrier.Verdict, err error) {
	var refused error
	err = local.Run(ctx, b.Database, func(tx *gorm.DB) (err error) {
		verdict, err = barrier.Call(ctx, tx, c.request(call))
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

// inside calls the Inside part of a branch, bounded in time, in the local
// transaction tx of the framework.
func (c caller) inside(ctx context.Context, tx *gorm.DB, b *branch, call Call) error {
	if b.Inside == nil {
		return nil
	}
	return c.bounded(ctx, call, func(ctx context.Context) error { return b.work(ctx, tx, call) }, nil)
}

// insideBatch is inside for a call of a batch, whose watch bounds it.
func (c caller) insideBatch(ctx context.Context, tx *gorm.DB, b *branch, call Call) error {
	if b.Inside == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return withCause(ctx, c.protected(ctx, call, func(ctx context.Context) error { return b.work(ctx, tx, call) }))
}

// outside calls an Outside part of a branch, bounded in time. If the call does
// not return in time, late is called when it does at last.
func (c caller) outside(ctx context.Context, b *branch, call Call, late func()) (receipt any, err error) {
	got := make(chan any, 1)
	err = c.bounded(ctx, call, func(ctx context.Context) error {
		receipt, err := b.Outside[call.Op](ctx, call)
		got <- receipt
		return err
	}, late)
	if err == nil {
		receipt = <-got
	}
	return receipt, err
}

// noticing is how long a branch call gets to notice that its context has ended.
const noticing = time.Second

// errAbandoned is wrapped by the error of a call that did not return although its
// context had ended: it may still have its effect.
var errAbandoned = errors.New("the call did not return when its context ended, and goes on")

// errNoReturn is wrapped, without a text of its own, by the error of a call that
// panicked or ended its goroutine.
var errNoReturn = silent{}

// errEnded is of a call that ended its goroutine.
var errEnded = fmt.Errorf("the call ended its goroutine and did not return%w", errNoReturn)

type silent struct{}

func (silent) Error() string { return "" }

// bounded calls f with a timeout and turns a panic into an error. It returns soon
// after the context has ended, whether f does or not; late, if it is not nil, is
// then called when f returns.
func (c caller) bounded(ctx context.Context, call Call, f func(context.Context) error, late func()) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout,
		fmt.Errorf("%s of %s did not return within %s", call.Op, call.Kind, c.timeout))
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		err := errEnded // f may end the goroutine
		defer func() { ended <- err }()
		err = c.protected(ctx, call, f)
	}()
	select {
	case err := <-ended:
		return withCause(ctx, err)
	case <-ctx.Done():
	}
	timer := time.NewTimer(noticing)
	defer timer.Stop()
	select {
	case err := <-ended:
		return withCause(ctx, err)
	case <-timer.C:
	}
	go func() {
		err := <-ended
		c.logger.Warn("saga: a branch call returned long after its context had ended", slog.String("gid", call.GID), slog.String("branch", call.BranchID),
			slog.String("kind", call.Kind), slog.String("operation", string(call.Op)), slog.Any("error", err))
		if late != nil {
			late()
		}
	}()
	return fmt.Errorf("%w (%w)", errAbandoned, context.Cause(ctx))
}

func withCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil && !strings.Contains(err.Error(), cause.Error()) {
		return fmt.Errorf("%w (%w)", err, cause)
	}
	return err
}

// protected calls f and turns a panic, and the end of its goroutine, into an error.
func (c caller) protected(ctx context.Context, call Call, f func(context.Context) error) (err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		p := recover()
		if err = fmt.Errorf("panic: %v%w", p, errNoReturn); p == nil {
			err = errEnded
		}
		c.logger.Error("saga: a branch panicked", "gid", call.GID, "branch", call.BranchID,
			"kind", call.Kind, "operation", string(call.Op), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	}()
	err = f(ctx)
	returned = true
	return err
}
