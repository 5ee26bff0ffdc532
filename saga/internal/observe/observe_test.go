package observe_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/observe"
)

// nobody calls everything that an engine calls for one transaction.
func nobody(ctx context.Context, n *observe.Notifier, call saga.Call) {
	operation, end := n.Operation(ctx, "execute", call.GID)
	calling, observed := n.Call(operation, call, false)
	if observed != nil {
		observed.Saw(barrier.Run)
		observed.End(saga.CallOK, nil)
	}
	observed.Saw(barrier.Run)
	_ = observed.In(calling)
	n.Decided(calling, saga.Subject{GID: call.GID}, saga.Confirmed, "caller", "", time.Time{})
	n.Finished(calling, saga.Subject{GID: call.GID}, saga.Confirmed, time.Time{})
	n.Batch(calling, "decide", 1)
	n.Log(calling, 1)
	n.TakenOver(calling, 1)
	n.Attention(calling, saga.Subject{GID: call.GID}, "why")
	n.Circuit(call.Kind, true)
	n.Kind(call.Kind, true)
	n.Lease(false)
	_ = n.Inject(n.Extract(n.Attach(calling), "00"))
	end(nil)
}

// Without observers, nothing is allocated.
func TestNothingWithoutObservers(t *testing.T) {
	ctx, call := t.Context(), saga.Call{GID: "g", BranchID: "01", Kind: "k", Op: barrier.Try, Attempt: 1}
	if n := testing.AllocsPerRun(100, func() { nobody(ctx, nil, call) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if observe.New(nil, false) != nil {
		t.Error("a Notifier without observers is not nil")
	}
}

// BenchmarkNotifier shows the cost of the events of one transaction: without observers, and with
// one that does nothing.
func BenchmarkNotifier(b *testing.B) {
	observers, err := saga.NewObservers(slog.Default(), []saga.Observer{nothing{}})
	if err != nil {
		b.Fatal(err)
	}
	call := saga.Call{GID: "g", BranchID: "01", Kind: "k", Op: barrier.Try, Attempt: 1}
	for name, n := range map[string]*observe.Notifier{"without": nil, "with": observe.New(observers, false)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				nobody(b.Context(), n, call)
			}
		})
	}
}

type nothing struct{}

func (nothing) Observe(ctx context.Context, _ saga.Event) context.Context { return ctx }
