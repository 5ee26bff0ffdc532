package otelsaga_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// The span of a call is a child of the span of Execute, and the parent of the branch's own spans.
func TestSpansOfATransaction(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s, p := newShop(t, db), newProcess(t)
		engine := s.start(embedded.Config{}, p.observer)
		own := make(chan trace.SpanContext, 9)
		for _, kind := range []string{stock, card} {
			for _, op := range []barrier.Op{barrier.Try, barrier.Confirm} {
				s.on(kind, op, func(ctx context.Context, _ *gorm.DB, call saga.Call) error {
					own <- trace.SpanContextFromContext(ctx)
					return nil
				})
			}
		}
		for _, kinds := range [][]string{{stock}, {stock, card}} {
			gid := sagatest.GID()
			ctx, caller := p.begin("order")
			_, err := engine.Execute(ctx, plan(gid, kinds...))
			sagatest.Must(t, err)
			caller.End()
			execute := p.one(gid, "tccsaga execute")
			childOf(t, execute, caller.SpanContext())
			seen := map[trace.SpanID]bool{}
			for _, kind := range kinds {
				for _, op := range []string{" try", " confirm"} {
					call := p.one(gid, kind+op)
					childOf(t, call, execute.SpanContext)
					seen[call.SpanContext.SpanID()] = true
					if value(call, "tccsaga.kind").AsString() != kind || " "+value(call, "tccsaga.operation").AsString() != op ||
						value(call, "tccsaga.attempt").AsInt64() != 1 || value(call, "tccsaga.result").AsString() != "ok" || value(call, "tccsaga.verdict").AsString() != "run" {
						t.Errorf("attributes of %s: %v", call.Name, call.Attributes)
					}
				}
			}
			for range 2 * len(kinds) {
				if in := <-own; !seen[in.SpanID()] {
					t.Errorf("a branch was called in the span %s, which is not that of its call", in.SpanID())
				}
			}
			found, err := engine.Lookup(t.Context(), gid)
			sagatest.Must(t, err)
			if want := "00-" + execute.SpanContext.TraceID().String() + "-" + execute.SpanContext.SpanID().String() + "-01"; found.Trace != want {
				t.Errorf("the log has the trace %q, want %q", found.Trace, want)
			}
		}
	})
}

// An error of a call is an error of its span. A rejection is a result.
func TestSpansOfFailures(t *testing.T) {
	t.Parallel()
	s, p := newShop(t, sqltest.Open(t, "sqlite")), newProcess(t)
	engine := s.start(embedded.Config{}, p.observer)
	s.on(card, barrier.Confirm, failing(1))
	gid, rejected := sagatest.GID(), sagatest.GID()
	ctx, caller := p.begin("order")
	defer caller.End()
	_, err := engine.Execute(ctx, plan(gid, card))
	sagatest.Must(t, err)
	calls := p.some(gid, "card confirm", 2)
	if calls[0].Status.Code != codes.Error || calls[1].Status.Code != codes.Unset {
		t.Errorf("the status is %v, then %v", calls[0].Status, calls[1].Status)
	}
	for _, call := range calls { // each attempt has a short span in the trace of the caller
		childOf(t, call, p.one(gid, "tccsaga execute").SpanContext)
	}
	if value(calls[1], "tccsaga.attempt").AsInt64() != 2 {
		t.Errorf("attributes of the second attempt: %v", calls[1].Attributes)
	}
	s.on(card, barrier.Try, func(context.Context, *gorm.DB, saga.Call) error { return saga.Reject(errors.New("no")) })
	if _, err := engine.Execute(ctx, plan(rejected, card)); !errors.Is(err, saga.ErrCancelled) {
		t.Fatalf("Execute: %v", err)
	}
	for _, name := range []string{"card try", "tccsaga execute"} {
		if status := p.one(rejected, name).Status; status.Code != codes.Unset {
			t.Errorf("the status of %s is %v", name, status)
		}
	}
}

// Another process that takes over continues the trace of the caller.
func TestTraceOfATakeover(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s, first, second := newShop(t, db), newProcess(t), newProcess(t)
		s.on(card, barrier.Confirm, failing(1))
		gone := s.open(embedded.Config{Lease: 2 * time.Second, MinBackoff: time.Hour, MaxBackoff: time.Hour}, first.observer)
		gid := sagatest.GID()
		ctx, caller := first.begin("order")
		_, err := gone.Execute(ctx, plan(gid, card))
		sagatest.Must(t, err)
		caller.End()
		sqltest.Exec(t, db, "DELETE FROM saga_instances") // it is gone
		sqltest.Exec(t, db, "UPDATE saga_transactions SET due_at = created_at WHERE gid = ?", gid)
		sqltest.Exec(t, db, "UPDATE saga_attempts SET next_at = failed_at WHERE gid = ?", gid)
		s.start(embedded.Config{}, second.observer)
		call := second.one(gid, "card confirm")
		childOf(t, call, first.one(gid, "tccsaga execute").SpanContext)
		if !call.Parent.IsRemote() {
			t.Error("the parent of the second process's span is not remote")
		}
	})
}

// An open transaction is confirmed in another trace than it was begun in. The Confirm links the
// begin, and has the calls.
func TestTraceOfAnOpenTransaction(t *testing.T) {
	t.Parallel()
	s, p := newShop(t, sqltest.Open(t, "sqlite")), newProcess(t)
	engine := s.start(embedded.Config{}, p.observer)
	gid := sagatest.GID()
	beginning, one := p.begin("cart")
	sagatest.Must(t, engine.Begin(beginning, saga.Opening{GID: gid, Pattern: "shop"}))
	sagatest.Must(t, engine.Try(beginning, gid, "01", saga.Step{Kind: card}))
	one.End()
	confirming, two := p.begin("payment")
	_, err := engine.Confirm(confirming, gid, saga.Options{})
	sagatest.Must(t, err)
	two.End()
	confirm := p.one(gid, "tccsaga confirm")
	childOf(t, confirm, two.SpanContext())
	childOf(t, p.one(gid, "card confirm"), confirm.SpanContext)
	if len(confirm.Links) != 1 || confirm.Links[0].SpanContext.SpanID() != p.one(gid, "tccsaga begin").SpanContext.SpanID() {
		t.Errorf("the links of the Confirm are %v", confirm.Links)
	}
	if len(confirm.Events) != 1 || confirm.Events[0].Name != "decided" {
		t.Errorf("the events of the Confirm are %v", confirm.Events)
	}
}

// In one batch, some transactions have a trace and others have none.
func TestTracesInABatch(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s, p := newShop(t, db), newProcess(t)
		engine := s.start(embedded.Config{}, sampled{p.observer})
		answers := make(chan error)
		traces := map[string]string{}
		for i := range 20 {
			gid := sagatest.GID()
			ctx, span := t.Context(), trace.Span(nil)
			if i%2 == 0 {
				ctx, span = p.begin("order")
				traces[gid] = span.SpanContext().TraceID().String()
			} else {
				traces[gid] = ""
			}
			go func() {
				_, err := engine.Execute(ctx, plan(gid, stock))
				answers <- err
			}()
		}
		for range traces {
			sagatest.Must(t, <-answers)
		}
		for gid, want := range traces {
			found, err := engine.Lookup(t.Context(), gid)
			sagatest.Must(t, err)
			if got := found.Trace; want == "" && got != "" || want != "" && got[3:35] != want {
				t.Errorf("%s has the trace %q, want %q", gid, got, want)
			}
		}
	})
}

// sampled makes no spans of its own: so a caller without a span has no trace.
type sampled struct{ saga.TraceKeeper }

func (sampled) Observe(ctx context.Context, _ saga.Event) context.Context { return ctx }

// The Confirms of different transactions that share their last commit are each called in the span
// of their own call.
func TestSpansOfSharedConfirms(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s, p, r := newShop(t, db), newProcess(t), newRecorder()
		engine := s.open(embedded.Config{}, p.observer, r)
		var mu sync.Mutex
		called := map[string][]trace.SpanID{} // by gid: of the effect, and of the work
		note := func(ctx context.Context, call saga.Call) {
			mu.Lock()
			defer mu.Unlock()
			called[call.GID] = append(called[call.GID], trace.SpanContextFromContext(ctx).SpanID())
		}
		work := func(ctx context.Context, _ *gorm.DB, call saga.Call) error {
			if call.Op == barrier.Confirm {
				note(ctx, call)
			}
			return nil
		}
		effect := func(ctx context.Context, call saga.Call) (any, error) { note(ctx, call); return nil, nil }
		sagatest.Must(t, engine.Register(saga.NewLocal("mail", encode, saga.Local{Work: work, Effects: map[barrier.Op]saga.Effect{barrier.Confirm: effect}})))
		sagatest.Run(t, engine)
		for r.most("finish") < 2 { // whether transactions share a commit depends on the time
			var running sync.WaitGroup
			for range 20 {
				running.Go(func() {
					if _, err := engine.Execute(t.Context(), plan(sagatest.GID(), "mail")); err != nil {
						t.Error(err)
					}
				})
			}
			running.Wait()
		}
		for gid, spans := range called {
			want := p.one(gid, "mail confirm").SpanContext.SpanID()
			for _, got := range spans {
				if got != want {
					t.Errorf("%s: a call is in the span %s, want %s", gid, got, want)
				}
			}
		}
	})
}
