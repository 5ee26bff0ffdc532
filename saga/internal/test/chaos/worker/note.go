package main

import (
	"context"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/tcc"
)

// note is a branch that also writes down which of its calls had effect, in the
// same local transaction: so that the books find the transaction at fault.
type note[P tcc.Payload] struct {
	inner interface {
		tcc.Branch[P]
		tcc.Located
	}
}

func noted[P tcc.Payload](inner interface {
	tcc.Branch[P]
	tcc.Located
}) tcc.Branch[P] {
	return note[P]{inner}
}

func (n note[P]) Database() *gorm.DB { return n.inner.Database() }

func (n note[P]) Try(ctx context.Context, tx *gorm.DB, in P) error {
	return n.after(ctx, tx, n.inner.Try(ctx, tx, in))
}

func (n note[P]) Confirm(ctx context.Context, tx *gorm.DB, in P) error {
	return n.after(ctx, tx, n.inner.Confirm(ctx, tx, in))
}

func (n note[P]) Cancel(ctx context.Context, tx *gorm.DB, in P) error {
	return n.after(ctx, tx, n.inner.Cancel(ctx, tx, in))
}

func (n note[P]) after(ctx context.Context, tx *gorm.DB, err error) error {
	if err != nil {
		return err
	}
	call := tcc.CallOf(ctx)
	return tx.Exec("INSERT INTO notes (gid, branch_id, operation, at) VALUES (?, ?, ?, UTC_TIMESTAMP(6))", call.GID, call.BranchID, string(call.Op)).Error
}
