// Package jitter draws the random pauses between attempts, so that those who
// failed together do not come again together.
package jitter

import (
	"context"
	"math/rand/v2"
	"time"
)

// UpTo returns a random pause of more than nothing and at most longest, which
// is positive.
func UpTo(ctx context.Context, longest time.Duration) time.Duration {
	if draw, ok := ctx.Value(sourceKey{}).(Source); ok {
		return draw(longest)
	}
	return rand.N(longest) + 1
}

// Source draws a pause of more than nothing and at most longest.
type Source func(longest time.Duration) time.Duration

type sourceKey struct{}

// With returns a context under which all pauses come from source: a simulation
// that has to run the same way twice cannot do with random ones.
func With(ctx context.Context, source Source) context.Context {
	return context.WithValue(ctx, sourceKey{}, source)
}
