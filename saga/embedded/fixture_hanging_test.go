package embedded_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// hanging is a branch one of whose transactions hangs in a call, whatever its
// context says, until the gate is open.
type hanging struct {
	*careless
	gid   string
	at    barrier.Op
	gate  chan struct{}
	begun chan struct{}
	once  sync.Once
	hangs atomic.Int64 // calls that hang now
}

func newHanging(t *testing.T, db *gorm.DB, at barrier.Op) *hanging {
	return &hanging{careless: newCareless(t, db, "", 0), gid: "hung", at: at, gate: make(chan struct{}), begun: make(chan struct{})}
}

func (h *hanging) hang(call saga.Call) {
	if strings.HasPrefix(call.GID, h.gid) && call.Op == h.at {
		h.hangs.Add(1)
		defer h.hangs.Add(-1)
		h.once.Do(func() { close(h.begun) })
		<-h.gate
	}
}

func (h *hanging) inside(ctx context.Context, tx *gorm.DB, call saga.Call) error {
	err := h.note(tx, call, 1)
	h.hang(call)
	return errors.Join(err, h.note(tx, call, 2))
}

func (h *hanging) together(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []saga.BatchCall) ([]error, error) {
	for _, call := range calls {
		if err := h.inside(ctx, tx, call.Call); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (h *hanging) outside(_ context.Context, call saga.Call) (any, error) {
	h.hang(call)
	return nil, nil
}

// Call makes it a service elsewhere.
func (h *hanging) Call(_ context.Context, call saga.Call) error {
	h.hang(call)
	return nil
}
