package otelsaga

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// cached keeps the state of a source for a time, or the error of reading it. It is safe for
// concurrent use.
type cached[T any] struct {
	read           func(context.Context) (T, error)
	every, timeout time.Duration

	mu    sync.Mutex
	until time.Time
	state T
	err   error
	done  chan struct{} // closed when the read that is under way has ended; nil if there is none
}

// get returns the state. It waits for a read, its own or one that is under way, for at most the
// timeout. A read that does not end in time goes on, and there is never a second one beside it.
func (c *cached[T]) get(ctx context.Context) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("it was not read within %s", c.timeout))
	defer cancel()
	c.mu.Lock()
	if c.done == nil && time.Now().Before(c.until) {
		defer c.mu.Unlock()
		return c.state, c.err
	}
	if c.done == nil {
		c.done = make(chan struct{})
		go c.refresh(context.WithoutCancel(ctx))
	}
	done := c.done
	c.mu.Unlock()
	select {
	case <-done:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.state, c.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

func (c *cached[T]) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	state, err := c.protected(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state, c.err, c.until = state, err, time.Now().Add(c.every)
	close(c.done)
	c.done = nil
}

// protected reads the source. A panic is an error.
func (c *cached[T]) protected(ctx context.Context) (state T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return c.read(ctx)
}
