package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/tcc"
)

// Embedded is tccsaga as the README shows it.
type Embedded struct {
	name  string
	db    *Database
	orch  *saga.Orchestrator
	ended chan error
	plain bool // with branches that a user wrote, without any bulk interface
}

func newEmbedded(ctx context.Context, name string, db *Database, plain bool) (*Embedded, error) {
	orch, err := saga.Open(ctx, db.DB, saga.Config{Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return nil, err
	}
	err = errors.Join(tcc.Register(orch, stock.New(db.DB)), tcc.Register(orch, messages{}), tcc.Register(orch, sent{}), tcc.Register(orch, locks{}))
	if err != nil {
		return nil, err
	}
	e := &Embedded{name: name, db: db, orch: orch, ended: make(chan error, 1), plain: plain}
	go func() { e.ended <- orch.Run(context.WithoutCancel(ctx)) }()
	return e, nil
}

func (e *Embedded) Name() string { return e.name }

func (e *Embedded) Place(ctx context.Context, o Order) error {
	var lock tcc.Payload = stock.Lock{Items: []stock.Item{{SKU: o.SKU, Quantity: 1}}}
	var message tcc.Payload = Sent{o.ID}
	if e.plain {
		lock, message = Lock{o.SKU}, Message{o.ID}
	}
	outcome, err := tcc.Execute(ctx, e.orch, o.ID, lock, message)
	if err == nil && outcome.State != saga.Confirmed {
		return fmt.Errorf("%s is %s", o.ID, outcome.State)
	}
	return err
}

func (e *Embedded) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := errors.Join(e.orch.Stop(ctx), <-e.ended)
	e.db.close()
	return err
}
