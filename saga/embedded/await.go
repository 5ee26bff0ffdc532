package embedded

import (
	"context"
	"time"

	"github.com/tccsaga/tccsaga/saga"
)

// answerGrace is how long a user's call waits for a certain answer after its context has
// ended.
const answerGrace = time.Second

// await runs work and returns its results. If work has not ended soon after the end of ctx,
// await returns false, and work continues. So a caller does not wait for another caller's
// slow call, or for a branch that ignores its context.
func await[T any](ctx context.Context, work func() (T, error)) (result T, err error, answered bool) {
	if ctx.Done() == nil {
		result, err = work()
		return result, err, true
	}
	type answer struct {
		result T
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		r, e := work()
		answers <- answer{r, e}
	}()
	select {
	case a := <-answers:
		return a.result, a.err, true
	case <-ctx.Done():
	}
	timer := time.NewTimer(answerGrace)
	defer timer.Stop()
	select {
	case a := <-answers:
		return a.result, a.err, true
	case <-timer.C:
		return result, nil, false
	}
}

// awaitOutcome is await for calls that return an outcome.
func awaitOutcome(ctx context.Context, gid string, work func() (saga.Outcome, error)) (saga.Outcome, error) {
	outcome, err, answered := await(ctx, work)
	if !answered {
		return saga.Outcome{GID: gid}, &saga.UnknownError{GID: gid, Cause: context.Cause(ctx)}
	}
	return outcome, err
}

// awaitError is await for calls that return only an error.
func awaitError(ctx context.Context, gid string, work func() error) error {
	_, err, answered := await(ctx, func() (struct{}, error) { return struct{}{}, work() })
	if !answered {
		return &saga.UnknownError{GID: gid, Cause: context.Cause(ctx)}
	}
	return err
}
