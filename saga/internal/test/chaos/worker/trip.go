package main

import (
	"context"

	"github.com/tccsaga/tccsaga/saga/internal/test/chaos"
	"github.com/tccsaga/tccsaga/tcc"
)

// trip is the payload of a branch that is a nested transaction.
type trip struct{}

func (trip) Branch() string { return chaos.NestedKind }

func planOf(context.Context, trip) ([]tcc.Payload, error) {
	return []tcc.Payload{takePoints{Account: chaos.NestedAccount, Points: chaos.NestedPoints}, insertRow{}}, nil
}
