package tcctest

import (
	"context"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

const (
	try     = barrier.Try
	confirm = barrier.Confirm
	cancel  = barrier.Cancel
)

// behindBarrier does work in a local transaction, if the barrier row allows it.
func (e *engine) behindBarrier(ctx context.Context, c saga.Call, work func(tx *gorm.DB) error) (duplicate bool, err error) {
	verdict, err := barrier.Do(ctx, e.branch.Database, barrier.Request{Key: c.Key(), Op: c.Op, Kind: c.Kind, Input: c.Payload}, work)
	return verdict == barrier.Duplicate, err
}

// isTried reports whether Try was the last call of a branch that took effect.
func (e *engine) isTried(ctx context.Context, c saga.Call) (bool, error) {
	rows, err := barrier.Look(ctx, e.branch.Database, c.GID)
	if err != nil {
		return false, err
	}
	for _, row := range rows {
		if row.Key == c.Key() {
			return row.State == barrier.StateTried, nil
		}
	}
	return false, nil
}

func (e *engine) withoutBarrier(ctx context.Context, work func(tx *gorm.DB) error) error {
	return e.branch.Database.WithContext(ctx).Transaction(work)
}
