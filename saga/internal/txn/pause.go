package txn

import (
	"context"
	"errors"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
)

// PauseAfter returns the pause after the n-th failed attempt of a call: what its error asks
// for, or a random time.
func PauseAfter(ctx context.Context, err error, shortest, longest time.Duration, n int) time.Duration {
	var retry *saga.RetryError
	if errors.As(err, &retry) && retry.After > 0 {
		return retry.After
	}
	return jitter.Backoff(ctx, shortest, longest, n)
}
