package message

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// Permanent returns an error that says that a handler can never handle its message:
// it becomes a dead letter at once. It is nil if err is.
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

// work handles what is queued until the queue is closed.
func (c *Consumer) work() {
	for {
		batch := c.queue.take(c.config.Batch)
		if batch == nil {
			return
		}
		if c.ctx.Err() != nil {
			c.leave(batch)
			continue
		}
		c.process(batch)
	}
}

// leave gives messages back that a worker has.
func (c *Consumer) leave(entries []*entry) {
	c.giveBack(entries)
	for _, e := range entries {
		c.queue.done(e)
	}
}

// process handles messages in one local transaction. If that fails, each is handled
// alone, so that only those at fault fail.
func (c *Consumer) process(batch []*entry) {
	if batch[0].bury {
		c.bury(batch[0], errors.New(batch[0].reason))
		return
	}
	batch, err := c.attempt(batch)
	switch {
	case len(batch) == 0:
	case err == nil:
		c.handled(batch)
	case c.ctx.Err() != nil:
		c.leave(batch)
	case len(batch) == 1:
		c.failed(batch[0], err)
	default:
		c.oneByOne(batch)
	}
}

// oneByOne handles the messages of a batch that has failed. Those behind one of
// their key that fails again wait for it.
func (c *Consumer) oneByOne(batch []*entry) {
	behind := map[string][]*entry{} // by key, that of the failed one first
	delays := map[string]time.Duration{}
	for _, e := range batch {
		if key := e.m.Key; key != "" && behind[key] != nil {
			behind[key] = append(behind[key], e)
			continue
		}
		rest, err := c.attempt([]*entry{e})
		switch {
		case len(rest) == 0:
		case err == nil:
			c.handled(rest)
		case c.ctx.Err() != nil:
			c.leave(rest)
		default:
			if delay, held := c.judge(e, err); held {
				behind[e.m.Key], delays[e.m.Key] = []*entry{e}, delay
			}
		}
	}
	for key, entries := range behind {
		c.queue.back(entries, delays[key])
	}
}

func (c *Consumer) handled(batch []*entry) {
	c.state.count(tally{handled: uint64(len(batch))})
	for _, e := range batch {
		c.acknowledge(e)
		c.queue.done(e)
	}
}

// failed decides what becomes of a message whose handler has failed.
func (c *Consumer) failed(e *entry, failure error) {
	if delay, held := c.judge(e, failure); held {
		c.queue.back([]*entry{e}, delay)
	}
}

// judge counts a failure and lets the message come again, or puts it aside. If the
// message has a key, it is held here for a while instead, and those of its key wait
// behind it.
func (c *Consumer) judge(e *entry, failure error) (delay time.Duration, held bool) {
	c.warn("handling a message", e, failure)
	reason, after := oneLine(failure.Error()), e.attempts+1
	if isPermanent(failure) {
		after = max(after, c.config.Attempts)
	}
	if err := c.inbox.fail(c.ctx, e, reason, after); err != nil {
		// The database is away, which may be why the handler has failed: no
		// attempt.
		if c.waitForDatabase(err) != nil {
			c.leave([]*entry{e})
			return 0, false
		}
		e.begun = false
		return c.after(e, 0)
	}
	c.state.count(tally{failures: 1})
	e.attempts++
	e.begun, e.alone, e.reason = false, true, reason
	if e.attempts >= c.config.Attempts || isPermanent(failure) {
		return c.putAside(e, failure)
	}
	e.m.Attempt = e.attempts + 1
	return c.after(e, c.pause(e.attempts))
}

// after lets a message come again after a delay: here if it has a key.
func (c *Consumer) after(e *entry, delay time.Duration) (time.Duration, bool) {
	if e.m.Key != "" {
		return delay, true
	}
	c.askAgain(e, delay)
	c.queue.done(e)
	return 0, false
}

// pause before the attempt after the n-th: doubled each time and capped, with
// the last half of it random.
func (c *Consumer) pause(n int) time.Duration {
	longest := c.config.MaxRetry
	if n < 32 && c.config.FirstRetry<<(n-1) > 0 {
		longest = min(longest, c.config.FirstRetry<<(n-1))
	}
	return longest/2 + rand.N(longest/2+1)
}

// attempt runs the handler for messages in one local transaction, again after each
// fault of the database. It returns the messages that were not settled meanwhile,
// and the failure of the handler.
func (c *Consumer) attempt(batch []*entry) ([]*entry, error) {
	for mark := true; ; {
		failure, fault := c.transact(batch, mark)
		switch {
		case fault == nil:
			return batch, failure
		case c.ctx.Err() != nil:
			return batch, c.ctx.Err()
		case errors.Is(fault, errMoved):
			// Perhaps only the next ones have changed: these go without them.
			mark = false
			var err error
			if batch, err = c.stillMine(batch); err != nil || len(batch) == 0 {
				return batch, err
			}
		default:
			if err := c.waitForDatabase(fault); err != nil {
				return batch, err
			}
		}
	}
}

// stillMine looks the messages up in the inbox again, and settles those that
// another process has handled.
func (c *Consumer) stillMine(batch []*entry) ([]*entry, error) {
	rest, err := c.claim(batch)
	if err != nil {
		return batch, err
	}
	left := map[*entry]bool{}
	for _, e := range rest {
		left[e] = true
	}
	for _, e := range batch {
		if !left[e] {
			c.queue.done(e)
		}
	}
	for i, e := range rest {
		if e.bury { // its attempts are used up elsewhere
			c.bury(e, errors.New(e.reason))
			return append(rest[:i:i], rest[i+1:]...), nil
		}
	}
	return rest, nil
}

// transact runs the handler and writes the inbox in one local transaction, which also
// marks the next messages as begun, if it is to. A failure is the handler's, a fault
// the database's.
func (c *Consumer) transact(batch []*entry, mark bool) (failure, fault error) {
	if unmarked := c.queue.unmarked(batch); len(unmarked) > 0 {
		if err := c.inbox.begin(c.ctx, unmarked); err != nil {
			return nil, err
		}
		c.queue.marked(unmarked, true)
	}
	var next []*entry
	if mark {
		next = c.queue.upcoming(c.config.Batch)
	}
	began := time.Now()
	c.runs(batch, true)
	// A handler may end its goroutine.
	done := make(chan struct{})
	go func() {
		defer close(done)
		failure, fault = errGoexit, nil
		failure, fault = c.transaction(batch, next)
	}()
	<-done
	c.runs(batch, false)
	c.state.took(time.Since(began), len(batch))
	c.queue.marked(next, failure == nil && fault == nil)
	return failure, fault
}

var errGoexit = errors.New("the handler has ended its goroutine, with runtime.Goexit or testing's FailNow")

func (c *Consumer) transaction(batch, next []*entry) (failure, fault error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.config.Timeout)
	defer cancel()
	messages := make([]Received, len(batch))
	for i, e := range batch {
		messages[i] = e.m
	}
	reached := false // the handler was called, in the last run
	err := c.runner.Run(ctx, func(tx *gorm.DB) error {
		reached, failure = false, nil
		// Two deliveries of one message at once meet on the row: the later one
		// waits, and finds the message handled.
		if err := c.inbox.handle(tx, batch, next); err != nil {
			return err
		}
		reached = true
		failure = c.call(ctx, tx, messages)
		return failure
	})
	switch {
	case err == nil:
		return nil, nil
	case errors.Is(err, barrier.ErrDatabase) || !reached:
		return nil, err
	case (ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded)) && c.ctx.Err() == nil && c.databaseHangs():
		return nil, fmt.Errorf("the time is over, and the database does not answer: %w", err)
	case failure != nil:
		return failure, nil
	default: // the time is over, or what the handler did is refused
		return err, nil
	}
}

// hanging is how long a database has to say that it is there, after a handler whose
// time was over.
const hanging = 2 * time.Second

// databaseHangs says whether the database does not answer, so that the handler is not
// to blame for the time.
func (c *Consumer) databaseHangs() bool {
	ctx, cancel := context.WithTimeout(c.ctx, hanging)
	defer cancel()
	return c.inbox.ask(ctx) != nil
}

func (c *Consumer) call(ctx context.Context, tx *gorm.DB, messages []Received) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			c.config.Logger.Error("message: a handler panicked", slog.String("consumer", c.config.Name),
				slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
	}()
	return c.handle(ctx, tx, messages)
}
