package embedded_test

import (
	"context"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// spec says what a branch of the tests does. Its shape follows from what is there.
type spec struct {
	Kind          string
	Encode        saga.Encoder
	Database      *gorm.DB
	Work          func(ctx context.Context, tx *gorm.DB, call saga.Call) error
	WorkBatch     func(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []saga.BatchCall) (failures []error, err error)
	Effects       map[barrier.Op]saga.Effect
	EffectBatches map[barrier.Op]saga.EffectBatch
	Remote        saga.Remote
	Clean         saga.Cleaner
}

func (s spec) branch() saga.Branch {
	switch {
	case s.Remote != nil:
		return saga.NewRemote(s.Kind, s.Encode, s.Remote)
	case s.Work == nil:
		return saga.NewExternal(s.Kind, s.Encode, saga.External{Database: s.Database, Clean: s.Clean,
			Try: s.Effects[barrier.Try], Confirm: s.Effects[barrier.Confirm], Cancel: s.Effects[barrier.Cancel]})
	default:
		return saga.NewLocal(s.Kind, s.Encode, saga.Local{Database: s.Database, Work: s.Work, WorkBatch: s.WorkBatch,
			Effects: s.Effects, EffectBatches: s.EffectBatches, Clean: s.Clean})
	}
}

func register(registrar saga.Registrar, s spec) error { return registrar.Register(s.branch()) }
