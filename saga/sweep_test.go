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
		first, second := txlog.Position{Due: time.UnixMicro(1)}, txlog.Position{Due: time.UnixMicro(2), GID: "g"}
		check := func(step string, want txlog.Position) {
			t.Helper()
			if got := s.from(); got != want {
				t.Errorf("%s: the next claim begins at %v, want %v", step, got, want)
			}
		}
		check("at first", txlog.Position{})
		s.pass(txlog.Claims{Last: second, More: true})
		check("after a full claim", second)
		s.pass(txlog.Claims{})
		check("after the last claim", txlog.Position{})
		s.pass(txlog.Claims{Last: first, More: true})
		time.Sleep(time.Second)
		check("within its time", first)
		time.Sleep(time.Nanosecond)
		check("after its time", txlog.Position{})
		time.Sleep(time.Second)
		s.pass(txlog.Claims{Foreign: []txlog.Foreign{{GID: "g"}}})
		if s.vain != time.Second {
			t.Errorf("a sweep that could drive nothing took %s", s.vain)
		}
	})
}
