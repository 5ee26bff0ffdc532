package main

import (
	"context"
	"fmt"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/tcc"
)

// opened is tccsaga with open transactions: Begin, two Trys, and Confirm, each a call of its own.
type opened struct{ *Embedded }

func newOpened(ctx context.Context, name string, db *Database) (Contender, error) {
	e, err := newEmbedded(ctx, map[string]string{"open": "tccsaga", "open plain": "plain"}[name], db)
	if err != nil {
		return nil, err
	}
	e.name = name
	return opened{e}, nil
}

func (e opened) Place(ctx context.Context, o Order) error {
	tx, err := tcc.Begin(ctx, e.orch, o.ID)
	if err != nil {
		return err
	}
	for _, payload := range e.plan(o) {
		if err := tx.Try(ctx, payload); err != nil {
			return err
		}
	}
	outcome, err := tx.Confirm(ctx)
	if err == nil && outcome.State != saga.Confirmed {
		return fmt.Errorf("%s is %s", o.ID, outcome.State)
	}
	return err
}
