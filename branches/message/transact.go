package message

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// transact runs the handler and writes the inbox in one local transaction. With mark, the
// transaction also marks the next messages as begun. It returns how many messages are
// handled. A failure is an error of the handler for the message after them. A fault is an
// error of the database.
func (w *worker) transact(batch []*entry, mark bool) (done int, failure, fault error) {
	if unmarked := w.queue.unmarked(batch); len(unmarked) > 0 {
		if err := w.inbox.begin(w.ctx, unmarked); err != nil {
			return 0, nil, err
		}
		w.queue.marked(unmarked, true)
	}
	var next []*entry
	if mark {
		next = w.queue.upcoming(w.sizes.batch())
	}
	began := time.Now()
	w.inflight.setRunning(batch, true)
	var called time.Duration
	ended := make(chan struct{})
	go func() { // a handler may end its goroutine
		defer close(ended)
		failure = errGoexit
		done, failure, fault = w.transaction(batch, next, &called)
	}()
	<-ended
	w.inflight.setRunning(batch, false)
	w.state.addDuration(time.Since(began), called, len(batch))
	w.queue.marked(next, done > 0)
	return done, failure, fault
}

var errGoexit = errors.New("the handler has ended its goroutine, with runtime.Goexit or testing's FailNow")

// transaction is the local transaction of transact. called is set to how long the handler
// ran.
func (w *worker) transaction(batch, next []*entry, called *time.Duration) (done int, failure, fault error) {
	ctx, cancel := context.WithTimeout(w.ctx, w.config.Timeout)
	defer cancel()
	messages := make([]Received, len(batch))
	for i, e := range batch {
		messages[i] = e.m
	}
	reached := false // the last run has called the handler
	var noting error // of writing to the inbox which messages are left out
	err := w.runner.Run(ctx, func(tx *gorm.DB) error {
		reached, done, failure, noting = false, 0, nil, nil
		// If two deliveries of a message are handled at once, the later one waits
		// for the row, and then finds the message handled.
		if err := w.inbox.handle(tx, batch, next); err != nil {
			return err
		}
		reached = true
		began := time.Now()
		failure = w.config.protected(func() error { return w.handle(ctx, tx, messages) })
		*called = time.Since(began)
		var known *handlerError
		switch {
		case failure == nil:
			done = len(batch)
		case errors.As(failure, &known) && known.after > 0:
			done = known.after
			noting = w.inbox.unhandle(tx, batch[done:])
			return noting
		}
		return failure
	})
	switch {
	case err == nil:
		return done, failure, nil
	case errors.Is(err, barrier.ErrDatabase), !reached, noting != nil:
		return 0, nil, err
	case (ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded)) && w.ctx.Err() == nil && w.databaseHangs():
		return 0, nil, fmt.Errorf("the time is over, and the database does not answer: %w", err)
	case failure != nil && done == 0:
		return 0, failure, nil
	default: // the time is over, or the database refuses the handler's work
		return 0, err, nil
	}
}

// pingTimeout is how long a database has to answer, after the time of a handler is over.
const pingTimeout = 2 * time.Second

// databaseHangs reports whether the database does not answer. Then the handler has not
// caused the timeout.
func (w *worker) databaseHangs() bool {
	ctx, cancel := context.WithTimeout(w.ctx, pingTimeout)
	defer cancel()
	return w.inbox.ping(ctx) != nil
}

// protected turns a panic into an error.
func (c ConsumerConfig) protected(handle func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			c.Logger.Error("message: a handler panicked", slog.String("stream", c.Stream), slog.String("consumer", c.Name),
				slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
	}()
	return handle()
}

// handlerError is the failure of the handler for one message. The work for the messages
// before it stays.
type handlerError struct {
	after int // how many messages were before it
	error
}

func (e *handlerError) Unwrap() error { return e.error }

const savepoint = "saga_message"

// oneByOne calls a handler for one message after the other in one local transaction. If a
// handler fails, its work is rolled back to a savepoint, and its message and those after it
// are left out.
func (c ConsumerConfig) oneByOne(handle Handler) BatchHandler {
	return func(ctx context.Context, tx *gorm.DB, messages []Received) error {
		for i, m := range messages {
			if i > 0 {
				if err := tx.Exec("SAVEPOINT " + savepoint).Error; err != nil {
					return err // an earlier handler has ignored an error
				}
			}
			err := c.protected(func() error {
				return c.observed(c.extract(ctx, m), messages[i:i+1], func(ctx context.Context) error { return handle(ctx, tx, m) })
			})
			if err == nil {
				continue
			}
			if i > 0 && (barrier.Transient(err) || tx.Exec("ROLLBACK TO SAVEPOINT "+savepoint).Error != nil) {
				return err // the work for all messages is lost, or has to be repeated
			}
			return &handlerError{i, err}
		}
		return nil
	}
}

// extract returns a context with the trace of a message.
func (c ConsumerConfig) extract(ctx context.Context, m Received) context.Context {
	return propagatorOr(c.Propagator).Extract(ctx, carrier(m.Headers))
}
