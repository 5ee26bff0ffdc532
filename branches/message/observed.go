package message

import (
	"context"
	"errors"
	"time"

	"github.com/tccsaga/tccsaga/saga"
)

// errNoReturn is the error of a handler that panicked or ended its goroutine, for observers.
var errNoReturn = errors.New("the handler panicked or ended its goroutine")

// observed calls a handler, and tells observers of it, for each of its messages. With one
// message, the handler gets the context of the event.
func (c ConsumerConfig) observed(ctx context.Context, messages []Received, handle func(context.Context) error) (err error) {
	if c.observers == nil {
		return handle(ctx)
	}
	began, err := time.Now(), errNoReturn
	events := make([]saga.MessageStarted, len(messages))
	contexts := make([]context.Context, len(messages))
	for i, m := range messages {
		events[i] = saga.MessageStarted{Stream: c.Stream, Consumer: c.Name, ID: m.ID, Subject: m.Subject, Attempt: m.Attempt}
		contexts[i] = ctx
		if len(messages) > 1 {
			contexts[i] = c.extract(ctx, m)
		}
		contexts[i] = c.observers.Observe(contexts[i], events[i])
	}
	if len(messages) == 1 {
		ctx = contexts[0]
	}
	defer func() {
		for i, e := range events {
			c.observers.Observe(contexts[i], saga.MessageEnded{MessageStarted: e, Took: time.Since(began), Err: err})
		}
	}()
	err = handle(ctx)
	return err
}
