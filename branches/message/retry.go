package message

import (
	"context"
	"errors"
	"time"
)

// Permanent returns an error with which a handler says that it can never handle the
// message: the message becomes a dead letter at once. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

func isPermanent(err error) bool {
	var p permanent
	return errors.As(err, &p)
}

// failed counts an attempt, and retries the message later or makes it a dead letter. If
// held is true, the message has a key and stays in this process for a delay, with the
// messages of its key waiting behind it.
func (w *worker) failed(e *entry, failure error) (delay time.Duration, held bool) {
	w.state.warn("handling a message", e, failure)
	reason, attempts := oneLine(failure.Error()), e.attempts+1
	if isPermanent(failure) {
		attempts = max(attempts, w.config.Attempts)
	}
	if err := w.inbox.fail(w.ctx, e, reason, attempts); err != nil {
		// The database is away. This may be why the handler has failed, so it
		// counts as no attempt.
		if w.outage.wait(err) != nil {
			w.giveBack([]*entry{e})
			return 0, false
		}
		e.begun = false
		return w.retryAfter(e, 0)
	}
	w.state.count(tally{failures: 1})
	e.attempts++
	e.begun, e.alone, e.reason = false, true, reason
	if e.attempts >= w.config.Attempts || isPermanent(failure) {
		return w.putAside(e, failure)
	}
	e.m.Attempt = e.attempts + 1
	return w.retryAfter(e, w.config.backoff(e.attempts))
}

// retryAfter keeps a message with a key in this process for a delay. It lets the broker
// deliver a message without a key again.
func (w *worker) retryAfter(e *entry, delay time.Duration) (time.Duration, bool) {
	if e.m.Key != "" {
		return delay, true
	}
	w.inflight.askAgain(e, delay)
	w.queue.done(e)
	return 0, false
}

// handleDead makes a message with no attempts left a dead letter.
func (w *worker) handleDead(e *entry) {
	if delay, held := w.putAside(e, errors.New(e.reason)); held {
		w.queue.putBack([]*entry{e}, delay)
	}
}

// letterTimeout bounds writing or removing a dead letter.
const letterTimeout = 10 * time.Second

// putAside writes the dead letter of a message. If this fails, it is tried again later,
// without the handler.
func (w *worker) putAside(e *entry, reason error) (delay time.Duration, held bool) {
	ctx, cancel := context.WithTimeout(w.ctx, letterTimeout)
	defer cancel()
	if err := w.letters.write(ctx, e, reason); err != nil {
		w.state.warn("writing a dead letter, which is tried again", e, err)
		e.dead, e.alone, e.reason = true, true, oneLine(reason.Error())
		e.letterFailures++
		return w.retryAfter(e, w.config.backoff(max(e.letterFailures, 3)))
	}
	w.state.count(tally{buried: 1})
	for {
		err := w.inbox.setDead(w.ctx, e)
		if err == nil {
			break
		}
		if w.outage.wait(err) != nil {
			w.giveBack([]*entry{e}) // the letter exists, and a repetition is dropped
			return 0, false
		}
	}
	w.inflight.acknowledge(e)
	w.queue.done(e)
	return 0, false
}
