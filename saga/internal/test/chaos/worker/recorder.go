package main

import (
	"context"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/tcc"
)

// recorder is a branch that also records which of its calls had effect, in the same
// local transaction.
type recorder[P tcc.Payload] struct {
	inner interface {
		tcc.Branch[P]
		tcc.Located
	}
}

func recorded[P tcc.Payload](inner interface {
	tcc.Branch[P]
	tcc.Located
}) tcc.Branch[P] {
	return recorder[P]{inner}
}

func (r recorder[P]) Database() *gorm.DB { return r.inner.Database() }

func (r recorder[P]) Try(ctx context.Context, tx *gorm.DB, in P) error {
	return r.record(ctx, tx, r.inner.Try(ctx, tx, in))
}

func (r recorder[P]) Confirm(ctx context.Context, tx *gorm.DB, in P) error {
	return r.record(ctx, tx, r.inner.Confirm(ctx, tx, in))
}

func (r recorder[P]) Cancel(ctx context.Context, tx *gorm.DB, in P) error {
	return r.record(ctx, tx, r.inner.Cancel(ctx, tx, in))
}

func (r recorder[P]) record(ctx context.Context, tx *gorm.DB, err error) error {
	if err != nil {
		return err
	}
	return recordCall(ctx, tx)
}
