package embedded_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// answering is a service that answers questions for barrier rows. It cannot be compared.
type answering func(ctx context.Context, gid, caller string) ([]barrier.Row, error)

func (a answering) Call(context.Context, saga.Call) error { return nil }

func (a answering) Barrier(ctx context.Context, gid, caller string) ([]barrier.Row, error) {
	return a(ctx, gid, caller)
}

// kept is a service that answers, and counts the questions.
type kept struct {
	answering
	asked *atomic.Int64
}

func (k *kept) Barrier(ctx context.Context, gid, caller string) ([]barrier.Row, error) {
	k.asked.Add(1)
	return k.answering(ctx, gid, caller)
}

// Lookup asks each service once, and shows the rest if a service panics, ignores the end of its
// context, or cannot be asked.
func TestLookupAsksServices(t *testing.T) {
	t.Parallel()
	engine := sagatest.Open(t, sqltest.Open(t, "sqlite"), still)
	register := func(kind string, service saga.Remote) {
		sagatest.Must(t, engine.Register(saga.NewRemote(kind, func(any) ([]byte, error) { return []byte("{}"), nil }, service)))
	}
	rows := func(_ context.Context, gid, caller string) ([]barrier.Row, error) {
		var all []barrier.Row
		for _, id := range []string{"01", "02", "09"} {
			all = append(all, barrier.Row{Key: barrier.Key{GID: gid, BranchID: id}, State: barrier.StateConfirmed, Caller: caller})
		}
		return all, nil
	}
	both := &kept{answering: rows, asked: new(atomic.Int64)}
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	register("a", both)
	register("b", both)
	register("panics", answering(func(context.Context, string, string) ([]barrier.Row, error) { panic("on purpose") }))
	register("deaf", answering(func(context.Context, string, string) ([]barrier.Row, error) { <-never; return nil, nil }))
	register("fails", answering(func(context.Context, string, string) ([]barrier.Row, error) { return nil, errors.New("no route") }))
	register("none", answering(func(context.Context, string, string) ([]barrier.Row, error) { return nil, nil }))
	register("dumb", remote(func(saga.Call) error { return nil }))
	sagatest.Run(t, engine)
	gid := sagatest.GID()
	kinds := []string{"a", "b", "panics", "deaf", "fails", "none", "dumb"}
	outcome, err := engine.Execute(t.Context(), planOf(gid, kinds...))
	if err != nil || outcome.State != saga.Confirmed {
		t.Fatalf("%+v, %v", outcome, err)
	}

	found, err := engine.Lookup(t.Context(), gid)
	sagatest.Must(t, err)
	if n := both.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	for _, b := range found.Branches {
		says := map[string]string{"panics": "panicked", "deaf": "did not answer within", "fails": "no route", "dumb": "cannot be asked"}[b.Kind]
		if (b.Barrier != nil) != slices.Contains([]string{"a", "b"}, b.Kind) || !strings.Contains(b.BarrierError, says) || (says == "") != (b.BarrierError == "") {
			t.Errorf("%+v", b)
		}
		if b.Barrier != nil && (b.Barrier.BranchID != b.ID || b.Barrier.Caller != engine.LogID()) {
			t.Errorf("%+v", b.Barrier)
		}
	}
}
