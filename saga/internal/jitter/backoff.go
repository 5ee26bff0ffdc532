package jitter

import (
	"context"
	"time"
)

// Backoff returns the pause after the n-th failed attempt, from 1: a random time. Its limit is
// shortest after the first attempt, doubles with each further one, and is at most longest.
func Backoff(ctx context.Context, shortest, longest time.Duration, n int) time.Duration {
	limit := longest
	if n < 32 && shortest<<(n-1) < limit && shortest<<(n-1) > 0 {
		limit = shortest << (n - 1)
	}
	return UpTo(ctx, limit)
}
