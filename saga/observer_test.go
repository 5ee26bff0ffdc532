package saga_test

import (
	"bytes"
	"context"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tccsaga/tccsaga/saga"
)

// observing is an observer that is a function.
type observing func(ctx context.Context, e saga.Event) context.Context

func (f observing) Observe(ctx context.Context, e saga.Event) context.Context { return f(ctx, e) }

// keeping is an observer that keeps traces, too.
type keeping struct {
	observing
	inject func() string
}

func (k keeping) Inject(context.Context) string { return k.inject() }
func (k keeping) Extract(ctx context.Context, trace string) context.Context {
	return context.WithValue(ctx, traceKey{}, trace)
}

type traceKey struct{}

func observers(t *testing.T, to *bytes.Buffer, all ...saga.Observer) *saga.Observers {
	t.Helper()
	o, err := saga.NewObservers(slog.New(slog.NewTextHandler(to, nil)), all)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// An observer that panics, ends its goroutine, or returns no context is harmless, and the other
// observers get the event.
func TestObserversThatFail(t *testing.T) {
	var log bytes.Buffer
	seen := 0
	count := observing(func(ctx context.Context, _ saga.Event) context.Context { seen++; return ctx })
	o := observers(t, &log,
		observing(func(context.Context, saga.Event) context.Context { panic("broken") }),
		observing(func(context.Context, saga.Event) context.Context { runtime.Goexit(); return nil }),
		observing(func(context.Context, saga.Event) context.Context { return nil }),
		count)
	ctx := context.WithValue(t.Context(), traceKey{}, "mine")
	if got := o.Observe(ctx, saga.LeaseLost{}); got != ctx {
		t.Errorf("the context is %v", got)
	}
	if seen != 1 {
		t.Errorf("the last observer got %d events, want 1", seen)
	}
	if !strings.Contains(log.String(), "broken") {
		t.Errorf("the panic is not logged: %s", &log)
	}
}

// The caller does not wait for an observer that blocks. The observer gets events again when it
// has returned.
func TestObserverThatBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		release := make(chan struct{})
		var mu sync.Mutex
		var got []string
		o := observers(t, &log, observing(func(ctx context.Context, e saga.Event) context.Context {
			kind := e.(saga.KindPaused).Kind
			mu.Lock()
			got = append(got, kind)
			mu.Unlock()
			if kind == "blocks" {
				<-release
			}
			return ctx
		}))
		began := time.Now()
		for _, kind := range []string{"first", "blocks", "dropped", "dropped"} {
			o.Observe(t.Context(), saga.KindPaused{Kind: kind})
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("the caller waited for %s, want 3s", took)
		}
		close(release)
		synctest.Wait()
		o.Observe(t.Context(), saga.KindPaused{Kind: "last"})
		if all := strings.Join(got, " "); all != "first blocks last" {
			t.Errorf("the observer got %s", all)
		}
		if !strings.Contains(log.String(), "blocks") {
			t.Errorf("it is not logged: %s", &log)
		}
	})
}

// Only one observer keeps the trace, and a trace that is too long is none.
func TestObserversKeepATrace(t *testing.T) {
	var log bytes.Buffer
	trace := "00-1"
	inject := func() string { return trace }
	nothing := observing(func(ctx context.Context, _ saga.Event) context.Context { return ctx })
	o := observers(t, &log, nothing, keeping{nothing, inject}, keeping{nothing, func() string { return "second" }})
	if got := o.Inject(t.Context()); got != "00-1" {
		t.Errorf("Inject: %q", got)
	}
	if got := o.Extract(t.Context(), "00-2").Value(traceKey{}); got != "00-2" {
		t.Errorf("Extract: %v", got)
	}
	trace = strings.Repeat("x", saga.MaxTrace+1)
	if got := o.Inject(t.Context()); got != "" {
		t.Errorf("a long trace: %q", got)
	}
	if got := o.Extract(t.Context(), trace).Value(traceKey{}); got != nil {
		t.Errorf("a long trace: %v", got)
	}
	if got := observers(t, &log, nothing).Inject(t.Context()); got != "" {
		t.Errorf("without a keeper: %q", got)
	}
}

func TestNewObservers(t *testing.T) {
	if o, err := saga.NewObservers(slog.Default(), nil); o != nil || err != nil {
		t.Errorf("none: %v, %v", o, err)
	}
	if _, err := saga.NewObservers(slog.Default(), []saga.Observer{nil}); err == nil {
		t.Error("a nil observer is accepted")
	}
	var none *saga.Observers
	if ctx := none.Observe(t.Context(), saga.LeaseLost{}); ctx != t.Context() || none.Inject(ctx) != "" || none.Extract(ctx, "00") != ctx {
		t.Error("no observers change the context")
	}
}
