package tcctest

import (
	"context"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// kind is a registered branch. A field that its shape does not have is nil.
type kind struct {
	Name          string
	Action        bool // of a saga
	Encode        saga.Encoder
	Database      *gorm.DB
	Work          func(ctx context.Context, tx *gorm.DB, call saga.Call) error
	WorkBatch     func(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []saga.BatchCall) (failures []error, err error)
	Effects       map[barrier.Op]saga.Effect
	EffectBatches map[barrier.Op]saga.EffectBatch
}

func kindOf(b saga.Branch) kind {
	k := kind{Name: b.Kind(), Action: b.IsAction(), Encode: b.Encoder()}
	switch shape := b.Shape().(type) {
	case saga.Local:
		k.Database, k.Work, k.WorkBatch = shape.Database, shape.Work, shape.WorkBatch
		k.Effects, k.EffectBatches = shape.Effects, shape.EffectBatches
	case saga.External:
		k.Database = shape.Database
		k.Effects = map[barrier.Op]saga.Effect{barrier.Try: shape.Try, barrier.Confirm: shape.Confirm, barrier.Cancel: shape.Cancel}
	}
	return k
}
