package txn

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/limit"
	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// Branch is a registered kind of branch. It has the fields of its shape; the others are
// nil.
type Branch struct {
	Kind     string
	Database *gorm.DB // has the barrier rows; nil if only a remote service knows it
	Resident bool     // Database is the engine's own; false for a remote branch
	Action   bool     // its Try is final, and its Confirm only writes the barrier row

	Work          func(ctx context.Context, tx *gorm.DB, call saga.Call) error
	WorkBatch     func(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []saga.BatchCall) (failures []error, err error)
	Effects       map[barrier.Op]saga.Effect
	EffectBatches map[barrier.Op]saga.EffectBatch
	Remote        saga.Remote
	Clean         saga.Cleaner

	Breaker  *limit.Breaker
	Backoff  limit.BatchBackoff // of shared commits
	Rejected limit.Rejections
	Cleaning atomic.Bool // its Clean has not returned

	encode saga.Encoder
}

// NewBranch checks a branch. The Branch that it returns has no database until
// [Registry.Add].
func NewBranch(b saga.Branch, breaker *limit.Breaker) (*Branch, error) {
	kind := b.Kind()
	if err := saga.ValidateKind(kind); err != nil {
		return nil, Invalid("%w", err)
	}
	registered := &Branch{Kind: kind, Action: b.IsAction(), Breaker: breaker, encode: b.Encoder()}
	if registered.encode == nil {
		return nil, Invalid("its encoder is nil")
	}
	var err error
	switch shape := b.Shape().(type) {
	case saga.Local:
		err = registered.setLocal(shape)
	case saga.External:
		err = registered.setExternal(shape)
	case saga.Remote:
		registered.Remote = shape
		if located, ok := shape.(interface{ Database() *gorm.DB }); ok {
			if registered.Database = located.Database(); registered.Database == nil {
				err = errors.New("its database is nil")
			}
		}
	default:
		err = errors.New("it has no shape: make it with NewLocal, NewExternal or NewRemote")
	}
	if err != nil {
		return nil, Invalid("%w", err)
	}
	return registered, nil
}

func (b *Branch) setLocal(shape saga.Local) error {
	if shape.Work == nil {
		return errors.New("its Work is nil")
	}
	if b.Action && len(shape.Effects) > 0 {
		return errors.New("it is an action and has effects: an action that acts outside of a database is an External branch")
	}
	for op := range shape.Effects {
		if op != barrier.Confirm && op != barrier.Cancel {
			return fmt.Errorf("it has an effect for %s: a Try that acts outside of a database is one of an External branch", op)
		}
	}
	b.Database, b.Work, b.WorkBatch, b.Clean = shape.Database, shape.Work, shape.WorkBatch, shape.Clean
	b.Effects, b.EffectBatches = shape.Effects, shape.EffectBatches
	return nil
}

func (b *Branch) setExternal(shape saga.External) error {
	switch {
	case shape.Try == nil || shape.Cancel == nil:
		return errors.New("an External branch needs Try, Confirm and Cancel")
	case shape.Confirm == nil && !b.Action:
		return errors.New("an External branch needs Try, Confirm and Cancel")
	}
	b.Database, b.Clean = shape.Database, shape.Clean
	b.Effects = map[barrier.Op]saga.Effect{barrier.Try: shape.Try, barrier.Confirm: shape.Confirm, barrier.Cancel: shape.Cancel}
	return nil
}

// Works reports whether the Work is called for an operation.
func (b *Branch) Works(op barrier.Op) bool {
	return b.Work != nil && (op != barrier.Confirm || !b.Action)
}

// Effect returns the effect of an operation, or nil.
func (b *Branch) Effect(op barrier.Op) saga.Effect {
	switch {
	case op == barrier.Apply:
		op = barrier.Try
	case op == barrier.Confirm && b.Action && b.Work == nil:
		return nil
	}
	return b.Effects[op]
}

// RunWork calls the Work in the engine's local transaction tx, with a session of the
// branch's own handle.
func (b *Branch) RunWork(ctx context.Context, tx *gorm.DB, call saga.Call) error {
	return b.Work(ctx, local.UserHandle(ctx, b.Database, tx), call)
}

// TriesInLog reports whether the Try can share a commit with the log.
func (b *Branch) TriesInLog() bool { return b.Resident && b.Effects[barrier.Try] == nil }

// ConfirmsInLog reports whether the Confirm works only in the engine's own database.
func (b *Branch) ConfirmsInLog() bool {
	return b.Resident && b.Work != nil && b.Effects[barrier.Confirm] == nil
}

// EndsInLog reports whether the Confirm or Cancel can share a commit with the log, after
// its effect, if there is one. An external branch has only an effect, which may be slow, so
// it does not share the commit of the others.
func (b *Branch) EndsInLog() bool { return b.Resident && b.Work != nil }

// Outside reports whether an operation acts on something other than a database of this process:
// a call without an answer may have had its effect.
func (b *Branch) Outside(op barrier.Op) bool { return b.Remote != nil || b.Effect(op) != nil }
