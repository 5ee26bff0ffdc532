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

// All that the kit asks of the barrier is in this file.

// guarded does work in a local transaction, after the barrier and if it says so.
func (e *exerciser) guarded(ctx context.Context, c saga.Call, work func(tx *gorm.DB) error) (duplicate bool, err error) {
	verdict, err := barrier.Do(ctx, e.branch.Database, barrier.Request{Key: c.Key(), Op: c.Op, Kind: c.Kind, Input: c.Payload}, work)
	return verdict == barrier.Duplicate, err
}

// isTried reports whether the Try of a branch has run, and nothing after it.
func (e *exerciser) isTried(ctx context.Context, c saga.Call) (bool, error) {
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

// plain does work in a local transaction without the barrier.
func (e *exerciser) plain(ctx context.Context, work func(tx *gorm.DB) error) error {
	return e.branch.Database.WithContext(ctx).Transaction(work)
}
