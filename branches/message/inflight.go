package message

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// inFlight has the messages that this process has received and not settled. It is safe for
// concurrent use.
type inFlight struct {
	ctx     context.Context // of the handlers
	config  ConsumerConfig
	broker  broker.Broker
	inbox   *inbox
	state   *state
	settled func(left int) // is called after a message is settled

	mu   sync.Mutex
	byID map[string]*entry
}

// register adds the messages of deliveries, and returns those that are new. A copy of a
// message that is in flight is settled together with it.
func (f *inFlight) register(deliveries []broker.Delivery) (entries []*entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range deliveries {
		e := newEntry(d, f.config)
		if known := f.byID[e.m.ID]; known != nil {
			known.deliveries = append(known.deliveries, d)
			continue
		}
		f.byID[e.m.ID] = e
		entries = append(entries, e)
	}
	return entries
}

// release removes a message, and returns its deliveries.
func (f *inFlight) release(e *entry) []broker.Delivery {
	f.mu.Lock()
	delete(f.byID, e.m.ID)
	deliveries, left := e.deliveries, len(f.byID)
	f.mu.Unlock()
	f.settled(left)
	return deliveries
}

func (f *inFlight) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.byID)
}

// unsettled is how many deliveries of a stream this process has.
func (f *inFlight) unsettled(stream string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.byID {
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

// acknowledge releases a message that is handled.
func (f *inFlight) acknowledge(e *entry) {
	for _, d := range f.release(e) {
		if err := d.Ack(); err != nil {
			f.state.warn("acknowledging a message, it will come again", e, err)
		}
		if at := d.Position(); at.Stream == f.config.DeadLetters {
			f.removeResent(at)
		}
	}
}

// removeResent removes a message that was sent again from the dead-letter stream.
func (f *inFlight) removeResent(at broker.Position) {
	ctx, cancel := context.WithTimeout(f.ctx, letterTimeout)
	defer cancel()
	if err := f.broker.Remove(ctx, at.Stream, at.Sequence); err != nil {
		f.state.log.Warn("message: removing a message that was sent again, it stays in the dead-letter stream",
			slog.Uint64("sequence", at.Sequence), slog.Any("error", err))
	}
}

// askAgain releases a message, and asks the broker to deliver it again after a delay.
func (f *inFlight) askAgain(e *entry, delay time.Duration) {
	for _, d := range f.release(e) {
		if err := d.Again(delay); err != nil {
			f.state.warn("asking for a message again", e, err)
		}
	}
}

// giveBack releases messages, and lets the broker deliver them again at once, to any
// process. None of their handlers has begun.
func (f *inFlight) giveBack(entries []*entry) {
	if len(entries) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(f.ctx), flushTimeout)
	defer cancel()
	if err := f.inbox.unbegin(ctx, entries); err != nil {
		f.state.log.Warn("message: giving messages back, some of them lose an attempt", slog.Any("error", err))
	}
	for _, e := range entries {
		f.askAgain(e, 0)
	}
}

// handlerGrace is how long a handler keeps its messages after its time is over.
const handlerGrace = 10 * time.Second

// kept returns the deliveries to keep alive: all except those of handlers that run for too
// long.
func (f *inFlight) kept() (all []broker.Delivery) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.byID {
		if e.running.IsZero() || time.Since(e.running) < f.config.Timeout+handlerGrace {
			all = append(all, e.deliveries...)
		}
	}
	return all
}

// setRunning notes whether the handlers of messages run.
func (f *inFlight) setRunning(entries []*entry, running bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range entries {
		e.running = time.Time{}
		if running {
			e.running = time.Now()
		}
	}
}
