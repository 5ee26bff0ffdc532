package recovery

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// A sweep goes on where it was, and comes back to the front when nothing is
// left of what was due when it began.
func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sweep{}
		first, second := txlog.Position{Due: time.UnixMicro(1)}, txlog.Position{Due: time.UnixMicro(2), GID: "g"}
		check := func(step string, want txlog.Position) {
			t.Helper()
			if got := s.from(); got != want {
				t.Errorf("%s: the next claim begins at %v, want %v", step, got, want)
			}
		}
		check("at first", txlog.Position{})
		s.pass(txlog.Claims{Last: second, Now: second.Due, More: true})
		check("after a full claim", second)
		s.pass(txlog.Claims{})
		check("after the last claim", txlog.Position{})
		s.pass(txlog.Claims{Last: first, Now: second.Due, More: true})
		time.Sleep(time.Hour)
		check("however long it takes", first)
		s.pass(txlog.Claims{Last: txlog.Position{Due: second.Due.Add(1)}, Now: second.Due.Add(time.Hour), More: true})
		check("behind what was due when it began", txlog.Position{})
		s.pass(txlog.Claims{})
		s.from()
		time.Sleep(time.Second)
		s.pass(txlog.Claims{Foreign: []txlog.Foreign{{GID: "g"}}})
		if s.idle != time.Second {
			t.Errorf("a sweep that could drive nothing took %s", s.idle)
		}
	})
}
