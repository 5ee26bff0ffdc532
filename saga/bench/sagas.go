package main

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/action"
)

// TakeStock and CreateOrder are the actions of two services.
type (
	TakeStock   struct{ SKU string }
	CreateOrder struct{ ID, SKU string }
)

func (TakeStock) Branch() string   { return "bench.take" }
func (CreateOrder) Branch() string { return "bench.create" }

type taking struct{}

func (taking) Do(_ context.Context, tx *gorm.DB, in TakeStock) (action.None, error) {
	return action.None{}, one(tx.Exec(takeStock, in.SKU))
}

func (taking) Compensate(_ context.Context, tx *gorm.DB, in TakeStock, _ action.None) error {
	return one(tx.Exec(returnStock, in.SKU))
}

type creating struct{}

func (creating) Do(_ context.Context, tx *gorm.DB, in CreateOrder) (action.None, error) {
	return action.None{}, one(tx.Exec(insertOrder, in.ID, in.SKU))
}

func (creating) Compensate(_ context.Context, tx *gorm.DB, in CreateOrder, _ action.None) error {
	return one(tx.Exec(deleteOrder, in.ID))
}

// newSagas returns tccsaga with the actions of [dtmSaga].
func newSagas(ctx context.Context, db *Database) (Contender, error) {
	s, to, err := openRemote(ctx, "saga", db, func(r saga.Registrar) error { return action.Register(r, taking{}) },
		func(r saga.Registrar) error { return action.Register(r, creating{}) })
	if err != nil {
		return nil, err
	}
	s.place = func(ctx context.Context, o Order) (saga.Outcome, error) {
		return action.NewSaga(o.ID).Step(TakeStock{o.SKU}).Step(CreateOrder{o.ID, o.SKU}).Execute(ctx, s.orch)
	}
	return s, errors.Join(action.RegisterRemote[TakeStock](s.orch, to[0]), action.RegisterRemote[CreateOrder](s.orch, to[1]))
}
