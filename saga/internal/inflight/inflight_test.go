package inflight_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/inflight"
)

func TestOneEntryForAGID(t *testing.T) {
	t.Parallel()
	var r inflight.Registry
	first, started := r.Start("a")
	if !started || !r.Has("a") {
		t.Fatal("the first entry did not start")
	}
	if other, started := r.Start("a"); started || other != first {
		t.Errorf("a second entry for the gid: %v, %v", other, started)
	}
	second := r.TakeOver("a")
	r.Release(first) // it must not remove the entry that has taken over
	if !r.Has("a") {
		t.Error("the gid is not in flight after its takeover")
	}
	select {
	case <-first.Done():
	default:
		t.Error("the released entry is not done")
	}
	r.Release(second)
	if r.Has("a") {
		t.Error("the gid is in flight after its release")
	}
}

// An entry knows whether a claim has found it.
func TestBusy(t *testing.T) {
	t.Parallel()
	var r inflight.Registry
	if r.Busy("a") {
		t.Error("the gid is busy before its entry")
	}
	for _, busy := range []bool{false, true} {
		e, _ := r.Start("a")
		if busy != (busy && r.Busy("a")) {
			t.Error("the gid is not busy")
		}
		if postponed := r.Release(e); postponed != busy {
			t.Errorf("postponed: %v", postponed)
		}
	}
}

// Drain waits for entries and for calls, and admits nothing.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r inflight.Registry
		e, _ := r.Start("a")
		if !r.Enter() {
			t.Fatal("a call is refused before Drain")
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if left, idle := r.Drain(ended); idle || !slices.Equal(left, []string{"a"}) {
			t.Errorf("left %v, idle %v", left, idle)
		}
		if _, started := r.Start("b"); started || r.TakeOver("c") != nil || r.Enter() {
			t.Error("something is admitted after Drain")
		}
		drained := make(chan bool)
		go func() {
			_, idle := r.Drain(t.Context())
			drained <- idle
		}()
		synctest.Wait()
		r.Release(e)
		synctest.Wait()
		select {
		case <-drained:
			t.Error("Drain did not wait for the call")
		default:
		}
		r.Leave()
		if !<-drained {
			t.Error("not idle after the end of all")
		}
	})
}

// Settle waits for the ends that callers were told of, and for no other entry.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r inflight.Registry
		ending, _ := r.Start("ending")
		if _, started := r.Start("driven"); !started {
			t.Fatal("it did not start")
		}
		r.Ending(ending)
		r.Settle(t.Context(), "driven", "unknown")
		settled, limited := make(chan struct{}), make(chan struct{})
		go func() { r.Settle(t.Context(), "driven", "ending"); close(settled) }()
		synctest.Wait()
		select {
		case <-settled:
			t.Error("Settle does not wait for the end")
		default:
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r.Settle(ctx, "ending") // returns with its context
		go func() { r.Settle(t.Context(), "driven", "ending"); close(limited) }()
		time.Sleep(time.Minute)
		select {
		case <-limited:
		default:
			t.Error("Settle waits for a minute")
		}
		r.Release(ending)
		<-settled
	})
}
