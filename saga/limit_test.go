package saga

import (
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

func testValve(limits Limits) *valve {
	limits, _ = limits.withDefaults()
	return newValve("k", Config{Limits: limits, Logger: slog.New(slog.DiscardHandler)})
}

// passes is how many of n repeated calls go through now.
func (v *valve) passes(t *testing.T, n int) int {
	through := 0
	for range n {
		switch hold := v.hold(t.Context(), time.Minute, false); {
		case hold == 0:
			through++
		case hold < 0 || hold > time.Minute:
			t.Errorf("held for %s", hold)
		}
	}
	return through
}

func TestRepeatedCallsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := testValve(Limits{Rate: 50})
		if n := v.passes(t, 1000); n != 5 {
			t.Errorf("%d of 1000 at once, want a tenth of a second's worth", n)
		}
		through := 0
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			through += v.passes(t, 100)
		}
		if through < 490 || through > 510 {
			t.Errorf("%d in 10 s, want 500", through)
		}
	})
}

// Those who are held back are told to come again spread over the time that all
// of them need, at most the longest pause.
func TestHeldCallsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := testValve(Limits{Rate: 100})
		buckets := map[int]int{}
		for range 3000 {
			buckets[int(v.hold(t.Context(), time.Minute, false).Seconds())/10]++
		}
		if len(buckets) < 3 || buckets[0] > 2700 {
			t.Errorf("by ten seconds: %v", buckets)
		}
	})
}

func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := testValve(Limits{Rate: 1000, Failures: 3, Pause: time.Second})
		for range 100 {
			v.failure("the same") // which cannot succeed
		}
		if v.passes(t, 10) != 10 {
			t.Error("one transaction has opened the circuit")
		}
		for i := range 3 {
			v.failure(fmt.Sprint(i))
		}
		if n := v.passes(t, 100); n != 0 {
			t.Errorf("it is open, and %d went through", n)
		}
		for range 5 {
			time.Sleep(time.Second)
			if n := v.passes(t, 100); n != 1 {
				t.Errorf("%d went through after the pause, want a probe", n)
			}
			v.failure("probe")
		}
		v.success()
		if n := v.passes(t, 50); n != 50 {
			t.Errorf("it is closed, and %d of 50 went through", n)
		}
	})
}
