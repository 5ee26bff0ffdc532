// Package lifetime has the contexts of work that goes on after its caller has gone, until
// the engine is stopped.
package lifetime

import (
	"context"
	"time"
)

// Lifetime is from Open until Stop has interrupted what was left. It is safe for
// concurrent use.
type Lifetime struct {
	work        context.Context
	halt        context.CancelFunc
	callTimeout time.Duration
}

// New returns a lifetime that begins now. It keeps the values of ctx, and not its end.
func New(ctx context.Context, callTimeout time.Duration) *Lifetime {
	work, halt := context.WithCancel(context.WithoutCancel(ctx))
	return &Lifetime{work, halt, callTimeout}
}

// Context ends with the lifetime.
func (l *Lifetime) Context() context.Context { return l.work }

// End ends the lifetime.
func (l *Lifetime) End() { l.halt() }

// Detach returns a context with the values of ctx that ends with the lifetime, or when
// cancel is called. The caller has to call cancel.
func (l *Lifetime) Detach(ctx context.Context) (detached context.Context, cancel func()) {
	detached, end := context.WithCancel(context.WithoutCancel(ctx))
	unlink := context.AfterFunc(l.work, end)
	return detached, func() { unlink(); end() }
}

// DetachCall is Detach with the time limit of a branch call.
func (l *Lifetime) DetachCall(ctx context.Context) (detached context.Context, cancel func()) {
	whole, end := l.Detach(ctx)
	detached, stop := context.WithTimeout(whole, l.callTimeout)
	return detached, func() { stop(); end() }
}
