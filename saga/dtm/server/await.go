package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/tccsaga/tccsaga/saga"
)

// awaiter waits for the results of transactions.
type awaiter struct {
	waits   *semaphore.Weighted // of requests that wait
	longest time.Duration       // of a wait
}

// stateBefore returns the state of a transaction before a request that waits for its result.
func stateBefore(ctx context.Context, engine saga.Engine, in *request) *saga.Transaction {
	if in.waitResult {
		if found, err := engine.Lookup(ctx, in.gid); err == nil {
			return found
		}
	}
	return &saga.Transaction{Summary: saga.Summary{GID: in.gid, State: saga.Trying}}
}

// waiting calls a function that waits for a result. It limits how many do, and gives the
// place of the request to another one.
func (a *awaiter) waiting(in *request, state string, wait func() error) error {
	if !a.waits.TryAcquire(1) {
		return fmt.Errorf("%s is %s, but too many requests wait for a result: %w", in.gid, state, saga.ErrOngoing)
	}
	defer a.waits.Release(1)
	in.leave()
	return wait()
}

// settled returns a transaction when it has finished, when a call has failed since before,
// or after the longest wait.
func (a *awaiter) settled(ctx context.Context, engine saga.Engine, before *saga.Transaction) (*saga.Transaction, error) {
	waiting, cancel := context.WithTimeout(ctx, a.longest)
	defer cancel()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		found, err := engine.Lookup(waiting, before.GID)
		switch {
		case err != nil && waiting.Err() == nil && !errors.Is(err, context.DeadlineExceeded): // the deadline may pass before the timer of the context
			return nil, err
		case err != nil:
			return before, nil
		case found.State.Finished():
			return found, nil
		case found.State == saga.Cancelling && before.State == saga.Trying:
			before = found // the failure was the reason to cancel
		case found.Failures > before.Failures || !sleep(waiting, pause):
			return found, nil
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
