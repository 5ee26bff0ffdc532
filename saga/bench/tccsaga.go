package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/tcc"
)

// Embedded is tccsaga as the README shows it.
type Embedded struct {
	name   string
	db     *Database
	orch   *embedded.Engine
	ended  chan error
	plan   func(o Order) []tcc.Payload
	closed func()
}

// The plans of the contenders that are tccsaga.
var plans = map[string]func(subject string) func(o Order) []tcc.Payload{
	// Ready-made branches; the message is marked as sent where it would be
	// published.
	"tccsaga": func(string) func(o Order) []tcc.Payload {
		return func(o Order) []tcc.Payload { return []tcc.Payload{lock(o), Sent{o.ID}} }
	},
	// Branches that a user wrote without any bulk interface.
	"plain": func(string) func(o Order) []tcc.Payload {
		return func(o Order) []tcc.Payload { return []tcc.Payload{Lock{o.SKU}, Message{o.ID}} }
	},
	// The same as tccsaga, but no callers share a commit.
	"alone": func(string) func(o Order) []tcc.Payload {
		return func(o Order) []tcc.Payload { return []tcc.Payload{lock(o), Sent{o.ID}} }
	},
	// The lock and more and more messages.
	"1 branch":   withMessages(0),
	"2 branches": withMessages(1),
	"4 branches": withMessages(3),
	"8 branches": withMessages(7),
	// Ready-made branches, and a real publish.
	"drain":     published,
	"jetstream": published,
}

func published(subject string) func(o Order) []tcc.Payload {
	return func(o Order) []tcc.Payload {
		return []tcc.Payload{lock(o), message.Publish{Subject: subject, Data: []byte(o.ID)}}
	}
}

func withMessages(n int) func(string) func(o Order) []tcc.Payload {
	return func(string) func(o Order) []tcc.Payload {
		return func(o Order) []tcc.Payload {
			return append([]tcc.Payload{lock(o)}, slices.Repeat([]tcc.Payload{Sent{o.ID}}, n)...)
		}
	}
}

func lock(o Order) stock.Lock { return stock.Lock{Items: []stock.Item{{SKU: o.SKU, Quantity: 1}}} }

func newEmbedded(ctx context.Context, name string, db *Database) (*Embedded, error) {
	config := embedded.Config{Logger: warnings}
	if name == "drain" { // thousands of calls fail in an outage
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if name == "alone" {
		config.MaxBatch = 1
	}
	orch, err := embedded.Open(ctx, db.DB, config)
	if err != nil {
		return nil, err
	}
	e := &Embedded{name: name, db: db, orch: orch, ended: make(chan error, 1), closed: func() {}}
	errs := []error{tcc.Register(orch, stock.New(db.DB)), tcc.Register(orch, messages{}), tcc.Register(orch, sent{}), tcc.Register(orch, locks{})}
	subject := ""
	if name == "jetstream" {
		stream, err := openStream(ctx)
		if err != nil {
			return nil, err
		}
		publisher, err := stream.publisher(ctx, db.DB, func(string) {})
		if err != nil {
			return nil, err
		}
		subject, e.closed = stream.subject, func() { publisher.Stop(context.WithoutCancel(ctx)); stream.close() }
		errs = append(errs, tcc.Register(orch, publisher))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	e.plan = plans[name](subject)
	go func() { e.ended <- orch.Run(context.WithoutCancel(ctx)) }()
	return e, nil
}

func (e *Embedded) Name() string { return e.name }

func (e *Embedded) Place(ctx context.Context, o Order) error {
	outcome, err := tcc.Execute(ctx, e.orch, o.ID, e.plan(o)...)
	if err == nil && outcome.State != saga.Confirmed {
		return fmt.Errorf("%s is %s", o.ID, outcome.State)
	}
	return err
}

func (e *Embedded) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := errors.Join(e.orch.Stop(ctx), <-e.ended)
	e.closed()
	e.db.close()
	return err
}
