// Package jitter returns random pauses between attempts, so that callers that failed at the
// same time do not retry at the same time.
package jitter

import (
	"context"
	"math/rand/v2"
	"time"
)

// UpTo returns a random pause that is positive and at most longest. The longest pause must
// be positive.
func UpTo(ctx context.Context, longest time.Duration) time.Duration {
	if draw, ok := ctx.Value(sourceKey{}).(Source); ok {
		return draw(longest)
	}
	return rand.N(longest) + 1
}

// Inherit returns ctx with the source of another context, if that has one.
func Inherit(ctx, from context.Context) context.Context {
	if draw, ok := from.Value(sourceKey{}).(Source); ok {
		return With(ctx, draw)
	}
	return ctx
}

// Source returns a pause that is positive and at most longest.
type Source func(longest time.Duration) time.Duration

type sourceKey struct{}

// With returns a context with which all pauses come from source. A simulation needs it to
// run the same way twice.
func With(ctx context.Context, source Source) context.Context {
	return context.WithValue(ctx, sourceKey{}, source)
}
