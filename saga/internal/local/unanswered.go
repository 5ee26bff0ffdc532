package local

import "context"

// unansweredKey is the key of a context's value of WithUnanswered.
type unansweredKey struct{}

// WithUnanswered returns a context with which every local transaction calls f if its COMMIT is
// not answered. F gets the context of the local transaction, and has to be quick.
func WithUnanswered(ctx context.Context, f func(context.Context)) context.Context {
	return context.WithValue(ctx, unansweredKey{}, f)
}

// tellUnanswered calls what WithUnanswered was given.
func tellUnanswered(ctx context.Context) {
	if f, ok := ctx.Value(unansweredKey{}).(func(context.Context)); ok {
		f(ctx)
	}
}
