package saga

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// A sweep goes on where it was, and comes back to the front when nothing is
// left and when it has lasted long.
func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sweep{most: time.Second}
		first, second := time.UnixMicro(1), time.UnixMicro(2)
		check := func(step string, want time.Time) {
			t.Helper()
			if got := s.from(); !got.Equal(want) {
				t.Errorf("%s: the next claim begins at %v, want %v", step, got, want)
			}
		}
		check("at first", time.Time{})
		s.pass(txlog.Claims{Last: second, More: true})
		check("after a full claim", second)
		s.pass(txlog.Claims{})
		check("after the last claim", time.Time{})
		s.pass(txlog.Claims{Last: first, More: true})
		time.Sleep(time.Second)
		check("within its time", first)
		time.Sleep(time.Nanosecond)
		check("after its time", time.Time{})
		time.Sleep(time.Second)
		s.pass(txlog.Claims{Foreign: []txlog.Foreign{{GID: "g"}}})
		if s.vain != time.Second {
			t.Errorf("a sweep that could drive nothing took %s", s.vain)
		}
	})
}
