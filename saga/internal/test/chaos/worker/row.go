package main

import (
	"context"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/test/chaos"
	"github.com/tccsaga/tccsaga/tcc"
)

// insertRow is the payload of a branch that the database of the other service prepares, and
// commits or rolls back at the decision.
type insertRow struct{}

func (insertRow) Branch() string { return chaos.XAKind }

func writeRow(ctx context.Context, tx *gorm.DB, _ insertRow) error {
	call := tcc.CallOf(ctx)
	return recordEffect(tx, call.GID, call.BranchID, barrier.Try)
}
