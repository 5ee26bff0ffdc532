package tcc_test

import (
	"context"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/tcc"
)

// catcher is a registrar that keeps what is registered.
type catcher map[string]saga.Branch

func (c catcher) Register(b saga.Branch) error {
	c[b.Kind()] = b
	return nil
}

// kept is a branch that keeps the last payload that it was called with.
type kept[P tcc.Payload] struct{ in P }

func (k *kept[P]) Try(_ context.Context, _ *gorm.DB, in P) error     { k.in = in; return nil }
func (k *kept[P]) Confirm(_ context.Context, _ *gorm.DB, in P) error { k.in = in; return nil }
func (k *kept[P]) Cancel(_ context.Context, _ *gorm.DB, in P) error  { k.in = in; return nil }

// callStored calls Confirm of a kind with a payload as the log holds it.
func (c catcher) callStored(t *testing.T, kind, payload string) error {
	t.Helper()
	return c[kind].Shape().(saga.Local).Work(t.Context(), noDatabase(t), saga.Call{GID: "g", BranchID: "07", Kind: kind, Op: barrier.Confirm, Payload: []byte(payload)})
}
