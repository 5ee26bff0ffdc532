package message

import (
	"context"
	"log/slog"
	"time"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// register notes what came, and returns the messages that this process does not
// have yet. A copy of one that it has is settled together with it.
func (c *Consumer) register(deliveries []broker.Delivery) (entries []*entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range deliveries {
		e := newEntry(d, c.config)
		if known := c.inflight[e.m.ID]; known != nil {
			known.deliveries = append(known.deliveries, d)
			continue
		}
		c.inflight[e.m.ID] = e
		entries = append(entries, e)
	}
	return entries
}

// forget says that this process has a message no longer, and returns its
// deliveries.
func (c *Consumer) forget(e *entry) []broker.Delivery {
	c.mu.Lock()
	delete(c.inflight, e.m.ID)
	deliveries := e.deliveries
	room := len(c.inflight) <= enough(c.window())
	c.mu.Unlock()
	if room {
		c.signal()
	}
	return deliveries
}

// has is how many deliveries of a stream this process has.
func (c *Consumer) has(stream string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.inflight {
		seen := map[uint64]bool{}
		for _, d := range e.deliveries {
			if at := d.Position(); at.Stream == stream && !seen[at.Sequence] {
				seen[at.Sequence] = true
				n++
			}
		}
	}
	return n
}

// acknowledge says that a message is handled, and forgets it.
func (c *Consumer) acknowledge(e *entry) {
	for _, d := range c.forget(e) {
		if err := d.Ack(); err != nil {
			c.warn("acknowledging a message, which will come again", e, err)
		}
		if at := d.Position(); at.Stream == c.config.DeadLetters {
			c.remove(at)
		}
	}
}

// remove removes a message that was sent again from the stream of the dead letters.
func (c *Consumer) remove(at broker.Position) {
	ctx, cancel := context.WithTimeout(c.ctx, settleTimeout)
	defer cancel()
	if err := c.broker.Remove(ctx, at.Stream, at.Sequence); err != nil {
		c.config.Logger.Warn("message: removing a message that was sent again, which stays in the stream of the dead letters",
			slog.String("consumer", c.config.Name), slog.Uint64("sequence", at.Sequence), slog.Any("error", err))
	}
}

// askAgain lets a message come again after a while, and forgets it.
func (c *Consumer) askAgain(e *entry, delay time.Duration) {
	for _, d := range c.forget(e) {
		if err := d.Again(delay); err != nil {
			c.warn("asking for a message again", e, err)
		}
	}
}

// giveBack lets messages come again at once, to any process. None of their handlers
// has begun.
func (c *Consumer) giveBack(entries []*entry) {
	if len(entries) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), flushTimeout)
	defer cancel()
	if err := c.inbox.rest(ctx, entries); err != nil {
		c.config.Logger.Warn("message: giving messages back, some of which lose an attempt by it", slog.String("consumer", c.config.Name), slog.Any("error", err))
	}
	for _, e := range entries {
		c.askAgain(e, 0)
	}
}

// keepAlive tells the broker that messages are at work or wait here.
func (c *Consumer) keepAlive(ctx context.Context) {
	for {
		if rest(ctx, c.ackWait()/3) != nil {
			return
		}
		for _, d := range c.kept() {
			// If it does not arrive, another delivery comes, and the inbox
			// knows the message.
			_ = d.Extend()
		}
	}
}

// ackWait is the shortest AckWait of the subscriptions.
func (c *Consumer) ackWait() time.Duration {
	shortest := 30 * time.Second
	for _, in := range c.intakes {
		if s := in.current(); s != nil {
			shortest = min(shortest, s.AckWait())
		}
	}
	return max(shortest, 30*time.Millisecond)
}

// grace is how long a handler keeps its messages after its time is over.
const grace = 10 * time.Second

// kept returns the deliveries that are kept alive: all but those of handlers that
// have gone on for too long.
func (c *Consumer) kept() (all []broker.Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.inflight {
		if e.running.IsZero() || time.Since(e.running) < c.config.Timeout+grace {
			all = append(all, e.deliveries...)
		}
	}
	return all
}

// runs notes that the handlers of messages run, or do not.
func (c *Consumer) runs(entries []*entry, running bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range entries {
		e.running = time.Time{}
		if running {
			e.running = time.Now()
		}
	}
}
