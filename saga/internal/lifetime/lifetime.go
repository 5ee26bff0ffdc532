// Package lifetime makes contexts for work that continues after its caller has gone, until
// the engine is stopped.
package lifetime

import (
	"context"
	"time"
)

// Lifetime begins with Open and ends when Stop interrupts the remaining work. It is safe
// for concurrent use.
type Lifetime struct {
	work        context.Context
	end         context.CancelFunc
	callTimeout time.Duration
}

// New returns a lifetime that begins now. It has the values of ctx, but not its end.
func New(ctx context.Context, callTimeout time.Duration) *Lifetime {
	work, end := context.WithCancel(context.WithoutCancel(ctx))
	return &Lifetime{work, end, callTimeout}
}

// Context returns a context that ends with the lifetime.
func (l *Lifetime) Context() context.Context { return l.work }

// End ends the lifetime.
func (l *Lifetime) End() { l.end() }

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
