package tcc_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

type (
	left  struct{ Text string }
	right struct{ Text string }
)

func (left) Branch() string  { return "left" }
func (right) Branch() string { return "right" }

// meeting is an external branch that notes its Trys. With arrive, its Try ends only when the
// other one has begun, too.
type meeting[P tcc.Payload] struct {
	arrive chan struct{}
	other  chan struct{}
	refuse bool

	mu    sync.Mutex
	calls []string
}

func (m *meeting[P]) note(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, what)
}

func (m *meeting[P]) Try(ctx context.Context, _ P) error {
	m.note("try")
	if m.arrive != nil {
		close(m.arrive)
		select {
		case <-m.other:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if m.refuse {
		return tcc.Reject(errors.New("sold out"))
	}
	return nil
}

func (m *meeting[P]) Confirm(context.Context, P) error { m.note("confirm"); return nil }
func (m *meeting[P]) Cancel(context.Context, P) error  { m.note("cancel"); return nil }

// The Trys of a plan run at the same time if the caller wants that. If one of them rejects, the
// other one is cancelled.
func TestParallelTrys(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		one, two := make(chan struct{}), make(chan struct{})
		l, r := &meeting[left]{arrive: one, other: two}, &meeting[right]{arrive: two, other: one}
		sagatest.Must(t, tcc.RegisterExternal(b.orch, l))
		sagatest.Must(t, tcc.RegisterExternal(b.orch, r))
		options := saga.Options{ParallelTrys: true}
		outcome, err := tcc.ExecuteWith(t.Context(), b.orch, "both", options, hold{1, 10}, left{}, holdAway{1, 10}, right{})
		if err != nil || outcome.State != saga.Confirmed {
			t.Fatalf("%+v, %v", outcome, err)
		}
		b.books(db, 1, 90, 0, 10)
		b.books(b.other, 1, 90, 0, 10)

		l.arrive, r.arrive, r.refuse = make(chan struct{}), make(chan struct{}), true
		l.other, r.other = r.arrive, l.arrive
		_, err = tcc.ExecuteWith(t.Context(), b.orch, "rejected", options, hold{1, 10}, left{}, holdAway{1, 10}, right{})
		if !errors.Is(err, saga.ErrCancelled) {
			t.Fatal(err)
		}
		b.reaches("rejected", saga.Cancelled)
		b.books(db, 1, 90, 0, 10)
		b.books(b.other, 1, 90, 0, 10)
		if got := l.calls; len(got) != 4 || got[3] != "cancel" {
			t.Errorf("left: %v", got)
		}

		// In order, a rejection saves the calls after it.
		l.arrive, r.arrive, l.refuse, r.refuse, l.calls, r.calls = nil, nil, true, false, nil, nil
		if _, err = tcc.Execute(t.Context(), b.orch, "in-order", left{}, right{}); !errors.Is(err, saga.ErrCancelled) {
			t.Fatal(err)
		}
		b.reaches("in-order", saga.Cancelled)
		if len(r.calls) != 0 {
			t.Errorf("right: %v", r.calls)
		}
		// The same plan in another order is another plan.
		if _, err = tcc.ExecuteWith(t.Context(), b.orch, "in-order", options, left{}, right{}); !errors.Is(err, saga.ErrMismatch) {
			t.Error(err)
		}
	})
}
