package remote_test

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// card is the payload of a branch without a database that a service hosts.
type card struct{ Cents int }

func (card) Branch() string { return "card.hold" }

// cards is the gateway of the service. A Try waits for the gate; a deaf one also when
// its context has ended, and of a stray one the request arrives then.
type cards struct {
	deaf, stray bool
	called      chan struct{}
	gate        chan struct{}
	freed       chan struct{}
	arrivals    sync.WaitGroup
	once        sync.Once

	mu    sync.Mutex
	calls []string
}

func newCards() *cards {
	return &cards{called: make(chan struct{}), gate: make(chan struct{}), freed: make(chan struct{})}
}

func (c *cards) effect(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, name)
	if name == "free" && slices.Index(c.calls, "free") == len(c.calls)-1 {
		close(c.freed)
	}
}

func (c *cards) so() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.calls, " ")
}

func (c *cards) Try(ctx context.Context, _ card) error {
	c.once.Do(func() { close(c.called) })
	if c.deaf {
		<-c.gate
		c.effect("held")
		return nil
	}
	select {
	case <-c.gate:
		c.effect("held")
		return nil
	case <-ctx.Done():
	}
	if c.stray {
		c.arrivals.Go(func() { <-c.gate; c.effect("held") })
	}
	return ctx.Err()
}

func (c *cards) Confirm(context.Context, card) error { c.effect("used"); return nil }
func (c *cards) Cancel(context.Context, card) error  { c.effect("free"); return nil }
