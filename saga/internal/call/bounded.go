package call

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// bounds limit the time of a branch call, and keep its panic from the engine.
type bounds struct {
	timeout time.Duration
	logger  *slog.Logger
}

// returnGrace is how long a branch call may take to return after its context has ended.
const returnGrace = time.Second

// errAbandoned is wrapped by the error of a call that did not return although its
// context had ended. The call goes on, and may still have its effect.
var errAbandoned = abandonedError{}

type abandonedError struct{}

func (abandonedError) Error() string {
	return "the call did not return when its context ended, and goes on"
}
func (abandonedError) Unanswered() {}

// errNoReturn is wrapped by the error of a call that panicked or ended its goroutine. It
// adds no text.
var errNoReturn = noReturnError{}

// errEnded is the error of a call that ended its goroutine.
var errEnded = fmt.Errorf("the call ended its goroutine and did not return%w", errNoReturn)

type noReturnError struct{}

func (noReturnError) Error() string { return "" }

// bounded calls f with a timeout and turns a panic into an error. It returns soon after
// the context has ended, even if f does not. In that case late, if it is not nil, is
// called when f returns.
func (b bounds) bounded(ctx context.Context, call saga.Call, f func(context.Context) error, late func()) error {
	ctx, cancel := withLimit(ctx, b.timeout, &limitError{call.Op, call.Kind, didNotReturn, b.timeout})
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		err := errEnded // f may end the goroutine
		defer func() { ended <- err }()
		err = b.protected(ctx, call, f)
	}()
	select {
	case err := <-ended:
		return withCause(ctx, err)
	case <-ctx.Done():
	}
	timer := time.NewTimer(returnGrace)
	defer timer.Stop()
	select {
	case err := <-ended:
		return withCause(ctx, err)
	case <-timer.C:
	}
	go b.awaitAbandoned(call, ended, late)
	return fmt.Errorf("%w (%w)", errAbandoned, context.Cause(ctx))
}

// withLimit is context.WithTimeoutCause, with one difference: if ctx ends at the same
// moment, the cause is that of ctx. With two timers it would be either one.
func withLimit(ctx context.Context, limit time.Duration, cause error) (context.Context, context.CancelFunc) {
	end := time.Now().Add(limit)
	if outer, ok := ctx.Deadline(); ok && !outer.After(end) {
		return context.WithCancel(ctx)
	}
	return context.WithDeadlineCause(ctx, end, cause)
}

// limitError is the cause of a context that ends a call. It is made for every call, so its text
// is not.
type limitError struct {
	op     barrier.Op
	kind   string
	didNot string
	limit  time.Duration
}

const (
	didNotReturn = "did not return"
	didNotEnd    = "did not come to its end"
)

func (e *limitError) Error() string {
	return fmt.Sprintf("%s of %s %s within %s", e.op, e.kind, e.didNot, e.limit)
}

// awaitAbandoned waits for the end of an abandoned call.
func (b bounds) awaitAbandoned(call saga.Call, ended <-chan error, late func()) {
	err := <-ended
	b.logger.Warn("saga: a branch call returned long after its context had ended", slog.String("gid", call.GID), slog.String("branch", call.BranchID),
		slog.String("kind", call.Kind), slog.String("operation", string(call.Op)), slog.Int("attempt", call.Attempt), slog.Any("error", err))
	if late != nil {
		late()
	}
}

// withCause adds the reason why ctx ended to an error.
func withCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil && !strings.Contains(err.Error(), cause.Error()) {
		return fmt.Errorf("%w (%w)", err, cause)
	}
	return err
}

// protected calls f. If f panics or ends its goroutine, it logs that and returns an error.
func (b bounds) protected(ctx context.Context, call saga.Call, f func(context.Context) error) (err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		p := recover()
		err = fmt.Errorf("panic: %v%w", p, errNoReturn) // without a panic, the goroutine ends, and nobody gets it
		b.logger.Error("saga: a branch panicked", slog.String("gid", call.GID), slog.String("branch", call.BranchID), slog.String("kind", call.Kind),
			slog.String("operation", string(call.Op)), slog.Int("attempt", call.Attempt), slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	}()
	err = f(ctx)
	returned = true
	return err
}
