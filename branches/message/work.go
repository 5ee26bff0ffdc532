package message

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
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
		batch := c.queue.take(c.most)
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

// process handles messages in one local transaction. One whose handler fails is left
// out, and the others go on. If nobody knows whose fault a failure is, each is handled
// alone.
func (c *Consumer) process(batch []*entry) {
	if batch[0].bury {
		c.bury(batch[0], errors.New(batch[0].reason))
		return
	}
	behind := map[string][]*entry{} // by key: one that failed, and those that wait for it
	delays := map[string]time.Duration{}
	for most := len(batch); len(batch) > 0; {
		some, rest := batch[:min(most, len(batch))], batch[min(most, len(batch)):]
		some, done, err := c.attempt(some)
		c.handled(some[:done])
		some = some[done:]
		batch = append(some[:len(some):len(some)], rest...)
		var alone *leftOut
		switch {
		case len(some) == 0:
		case c.ctx.Err() != nil:
			c.leave(batch)
			batch = nil
		case len(some) > 1 && !errors.As(err, &alone):
			most = 1
		default:
			failed := batch[0]
			batch = batch[1:]
			if delay, held := c.judge(failed, err); held {
				key := failed.m.Key
				same := func(e *entry) bool { return e.m.Key == key }
				behind[key], delays[key] = append([]*entry{failed}, filter(batch, same)...), delay
				batch = slices.DeleteFunc(batch, same)
			}
		}
	}
	for key, entries := range behind {
		if !c.queue.back(entries, delays[key]) {
			c.leave(entries)
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

func (c *Consumer) handled(batch []*entry) {
	c.state.count(tally{handled: uint64(len(batch))})
	for _, e := range batch {
		c.acknowledge(e)
		c.queue.done(e)
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
	longest := c.config.MaxBackoff
	if n < 32 && c.config.MinBackoff<<(n-1) > 0 {
		longest = min(longest, c.config.MinBackoff<<(n-1))
	}
	return longest/2 + rand.N(longest/2+1)
}

// attempt runs the handler for messages in one local transaction, again after each
// fault of the database. It returns the messages that were not settled meanwhile, how
// many of them are handled, and the failure of the next one.
func (c *Consumer) attempt(batch []*entry) (left []*entry, done int, failure error) {
	for mark := true; ; {
		done, failure, fault := c.transact(batch, mark)
		switch {
		case fault == nil:
			return batch, done, failure
		case c.ctx.Err() != nil:
			return batch, 0, c.ctx.Err()
		case errors.Is(fault, errMoved):
			// Perhaps only the next ones have changed: these go without them.
			mark = false
			var err error
			if batch, err = c.stillMine(batch); err != nil || len(batch) == 0 {
				return batch, 0, err
			}
		default:
			if err := c.waitForDatabase(fault); err != nil {
				return batch, 0, err
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
// marks the next messages as begun, if it is to. It returns how many messages are
// handled. A failure is the handler's for the one after them, a fault the database's.
func (c *Consumer) transact(batch []*entry, mark bool) (done int, failure, fault error) {
	if unmarked := c.queue.unmarked(batch); len(unmarked) > 0 {
		if err := c.inbox.begin(c.ctx, unmarked); err != nil {
			return 0, nil, err
		}
		c.queue.marked(unmarked, true)
	}
	var next []*entry
	if mark {
		next = c.queue.upcoming(c.most())
	}
	began := time.Now()
	c.runs(batch, true)
	var called time.Duration
	// A handler may end its goroutine.
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		failure = errGoexit
		done, failure, fault = c.transaction(batch, next, &called)
	}()
	<-ended
	c.runs(batch, false)
	c.state.took(time.Since(began), called, len(batch))
	c.queue.marked(next, done > 0)
	return done, failure, fault
}

var errGoexit = errors.New("the handler has ended its goroutine, with runtime.Goexit or testing's FailNow")

// transaction is the local transaction of transact; called is how long the handler was
// at work.
func (c *Consumer) transaction(batch, next []*entry, called *time.Duration) (done int, failure, fault error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.config.Timeout)
	defer cancel()
	messages := make([]Received, len(batch))
	for i, e := range batch {
		messages[i] = e.m
	}
	reached := false // the handler was called, in the last run
	var noting error // the inbox could not be told which messages are left out
	err := c.runner.Run(ctx, func(tx *gorm.DB) error {
		reached, done, failure, noting = false, 0, nil, nil
		// Two deliveries of one message at once meet on the row: the later one
		// waits, and finds the message handled.
		if err := c.inbox.handle(tx, batch, next); err != nil {
			return err
		}
		reached = true
		began := time.Now()
		failure = c.call(ctx, tx, messages)
		*called = time.Since(began)
		var at *leftOut
		switch {
		case failure == nil:
			done = len(batch)
		case errors.As(failure, &at) && at.after > 0:
			done = at.after
			noting = c.inbox.leave(tx, batch[done:])
			return noting
		}
		return failure
	})
	switch {
	case err == nil:
		return done, failure, nil
	case errors.Is(err, barrier.ErrDatabase), !reached, noting != nil:
		return 0, nil, err
	case (ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded)) && c.ctx.Err() == nil && c.databaseHangs():
		return 0, nil, fmt.Errorf("the time is over, and the database does not answer: %w", err)
	case failure != nil && done == 0:
		return 0, failure, nil
	default: // the time is over, or what the handler did is refused
		return 0, err, nil
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

func (c *Consumer) call(ctx context.Context, tx *gorm.DB, messages []Received) error {
	return c.config.protected(func() error { return c.handle(ctx, tx, messages) })
}

// protected turns a panic into an error.
func (c ConsumerConfig) protected(handle func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			c.Logger.Error("message: a handler panicked", slog.String("consumer", c.Name),
				slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
	}()
	return handle()
}

// leftOut is the failure of the handler for one message, after so many others whose
// work stays.
type leftOut struct {
	after int
	error
}

func (l *leftOut) Unwrap() error { return l.error }

const savepoint = "saga_message"

// inTurn calls a handler for one message after the other in one local transaction.
// The first that fails is undone, back to its savepoint, and is left out together with
// those behind it.
func (c ConsumerConfig) inTurn(handle Handler) BatchHandler {
	return func(ctx context.Context, tx *gorm.DB, messages []Received) error {
		for i, m := range messages {
			if i > 0 {
				if err := tx.Exec("SAVEPOINT " + savepoint).Error; err != nil {
					return err // because of what an earlier one did and did not say
				}
			}
			err := c.protected(func() error { return handle(c.extract(ctx, m), tx, m) })
			if err == nil {
				continue
			}
			if i > 0 && (barrier.Transient(err) || tx.Exec("ROLLBACK TO SAVEPOINT "+savepoint).Error != nil) {
				return err // all that was done is lost, or to be done again
			}
			return &leftOut{i, err}
		}
		return nil
	}
}

const (
	// together is for how long the handlers of messages work that share a local
	// transaction.
	together = 20 * time.Millisecond

	// mostTogether bounds it in messages.
	mostTogether = 32
)

// most is how many messages a local transaction handles.
func (c *Consumer) most() int {
	if c.config.Batch > 0 {
		return c.config.Batch
	}
	_, average := c.state.averages()
	if average <= 0 {
		return 1
	}
	return max(1, min(mostTogether, int(together/average)))
}
