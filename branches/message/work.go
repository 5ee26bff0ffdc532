package message

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// worker handles messages from the queue. Several goroutines run it.
type worker struct {
	ctx      context.Context // of the handlers
	config   ConsumerConfig
	handle   BatchHandler
	runner   *barrier.Transactions
	inbox    *inbox
	queue    *queue
	inflight *inFlight
	claimer  *claimer
	sizes    sizes
	outage   *outage
	letters  *letterWriter
	state    *state
}

// run handles messages until the queue is closed.
func (w *worker) run() {
	for {
		batch := w.queue.take(w.sizes.batch)
		if batch == nil {
			return
		}
		if w.ctx.Err() != nil {
			w.giveBack(batch)
			continue
		}
		w.process(batch)
	}
}

// giveBack gives messages that a worker has back to the broker.
func (w *worker) giveBack(entries []*entry) {
	w.inflight.giveBack(entries)
	for _, e := range entries {
		w.queue.done(e)
	}
}

// process handles messages in one local transaction. A message whose handler fails is left
// out, and the others go on. If it is not known which handler caused a failure, each
// message is handled alone.
func (w *worker) process(batch []*entry) {
	if batch[0].dead {
		w.handleDead(batch[0])
		return
	}
	behind := map[string][]*entry{} // by key: a failed message, and those that wait for it
	delays := map[string]time.Duration{}
	for most := len(batch); len(batch) > 0; {
		some, rest := batch[:min(most, len(batch))], batch[min(most, len(batch)):]
		some, done, err := w.attempt(some)
		w.handled(some[:done])
		some = some[done:]
		batch = append(some[:len(some):len(some)], rest...)
		var known *handlerError
		switch {
		case len(some) == 0:
		case w.ctx.Err() != nil:
			w.giveBack(batch)
			batch = nil
		case len(some) > 1 && !errors.As(err, &known):
			most = 1
		default:
			failed := batch[0]
			batch = batch[1:]
			if delay, held := w.failed(failed, err); held {
				key := failed.m.Key
				same := func(e *entry) bool { return e.m.Key == key }
				behind[key], delays[key] = append([]*entry{failed}, filter(batch, same)...), delay
				batch = slices.DeleteFunc(batch, same)
			}
		}
	}
	for key, entries := range behind {
		if !w.queue.putBack(entries, delays[key]) {
			w.giveBack(entries)
		}
	}
}

func filter(entries []*entry, keep func(*entry) bool) (kept []*entry) {
	for _, e := range entries {
		if keep(e) {
			kept = append(kept, e)
		}
	}
	return kept
}

func (w *worker) handled(batch []*entry) {
	w.state.count(tally{handled: uint64(len(batch))})
	for _, e := range batch {
		w.inflight.acknowledge(e)
		w.queue.done(e)
	}
}

// attempt runs the handler for messages in one local transaction, and again after each
// fault of the database. It returns the messages that are still unsettled, how many of
// them are handled, and the failure of the next one.
func (w *worker) attempt(batch []*entry) (left []*entry, done int, failure error) {
	for mark := true; ; {
		done, failure, fault := w.transact(batch, mark)
		switch {
		case fault == nil:
			return batch, done, failure
		case w.ctx.Err() != nil:
			return batch, 0, w.ctx.Err()
		case errors.Is(fault, errRowsChanged):
			// Perhaps only the rows of the next messages have changed: do not mark them.
			mark = false
			var err error
			if batch, err = w.reclaim(batch); err != nil || len(batch) == 0 {
				return batch, 0, err
			}
		default:
			if err := w.outage.wait(fault); err != nil {
				return batch, 0, err
			}
		}
	}
}

// reclaim looks messages up in the inbox again, and settles those that another process
// has handled.
func (w *worker) reclaim(batch []*entry) ([]*entry, error) {
	rest, err := w.claimer.claim(batch)
	if err != nil {
		return batch, err
	}
	left := map[*entry]bool{}
	for _, e := range rest {
		left[e] = true
	}
	for _, e := range batch {
		if !left[e] {
			w.queue.done(e)
		}
	}
	for i, e := range rest {
		if e.dead { // another process has used up its attempts
			w.handleDead(e)
			return append(rest[:i:i], rest[i+1:]...), nil
		}
	}
	return rest, nil
}
