package limit_test

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/limit"
)

func newBreaker(limits limit.Limits) *limit.Breaker {
	if limits.Failures == 0 {
		limits.Failures, limits.Cooldown = 10, time.Second
	}
	return limit.NewBreaker("k", limits, slog.New(slog.DiscardHandler), limit.Hooks{})
}

// through is how many of n repeated calls are let through now.
func through(t *testing.T, b *limit.Breaker, n int) (through int) {
	for range n {
		switch delay := b.Delay(t.Context(), time.Minute, false); {
		case delay == 0:
			through++
		case delay < 0 || delay > time.Minute:
			t.Errorf("delayed for %s", delay)
		}
	}
	return through
}

func TestRepeatedCallsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(limit.Limits{Rate: 50})
		if n := through(t, b, 1000); n != 5 {
			t.Errorf("%d of 1000 at once, want a tenth of a second's worth", n)
		}
		n := 0
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			n += through(t, b, 100)
		}
		if n < 490 || n > 510 {
			t.Errorf("%d in 10 s, want 500", n)
		}
	})
}

// Delayed calls are spread over the time that all of them need at the rate.
func TestDelayedCallsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(limit.Limits{Rate: 100})
		buckets := map[int]int{}
		for range 3000 {
			buckets[int(b.Delay(t.Context(), time.Minute, false).Seconds())/10]++
		}
		if len(buckets) < 3 || buckets[0] > 2700 {
			t.Errorf("by ten seconds: %v", buckets)
		}
	})
}

func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(limit.Limits{Rate: 1000, Failures: 3, Cooldown: time.Second})
		for range 100 {
			b.Failure("the same") // which cannot succeed
		}
		if through(t, b, 10) != 10 {
			t.Error("one transaction has opened the circuit")
		}
		for i := range 3 {
			b.Failure(fmt.Sprint(i))
		}
		if n := through(t, b, 100); n != 0 {
			t.Errorf("it is open, and %d went through", n)
		}
		for range 5 {
			time.Sleep(time.Second)
			if n := through(t, b, 100); n != 1 {
				t.Errorf("%d went through after the pause, want a probe", n)
			}
			b.Failure("probe")
		}
		b.Success()
		if n := through(t, b, 50); n != 50 {
			t.Errorf("it is closed, and %d of 50 went through", n)
		}
	})
}

// The transactions that were postponed while the circuit was open are called at once
// when it closes.
func TestPostponedTransactionsAreReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var released []string
		var changes []bool
		b := limit.NewBreaker("k", limit.Limits{Rate: 1000, Failures: 2, Cooldown: time.Second}, slog.New(slog.DiscardHandler), limit.Hooks{
			Release: func(gids []string) { released = slices.Sorted(slices.Values(gids)) },
			Changed: func(open bool) { changes = append(changes, open) },
		})
		b.Postpone("healthy") // nothing has failed
		b.Failure("a")
		b.Postpone("a")
		b.Failure("b")
		b.Postpone("b")
		b.Success()
		synctest.Wait()
		if !slices.Equal(released, []string{"a", "b"}) {
			t.Errorf("released %v", released)
		}
		if !b.TakeReleased("a") || b.TakeReleased("a") || b.TakeReleased("healthy") {
			t.Error("a released transaction is called at once, one time")
		}
		b.Success() // the circuit is closed already
		if !slices.Equal(changes, []bool{true, false}) {
			t.Errorf("the circuit was told to be open: %v, want true, then false", changes)
		}
	})
}
