package saga

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
		first, second := time.UnixMicro(1), time.UnixMicro(2)
		check := func(step string, want time.Time) {
			t.Helper()
			if got := s.from(); !got.Equal(want) {
				t.Errorf("%s: the next claim begins at %v, want %v", step, got, want)
			}
		}
		check("at first", time.Time{})
		s.pass(txlog.Claims{Last: second, Now: second, More: true})
		check("after a full claim", second)
		s.pass(txlog.Claims{})
		check("after the last claim", time.Time{})
		s.pass(txlog.Claims{Last: first, Now: second, More: true})
		time.Sleep(time.Hour)
		check("however long it takes", first)
		s.pass(txlog.Claims{Last: second.Add(1), Now: second.Add(time.Hour), More: true})
		check("behind what was due when it began", time.Time{})
		for page := claimPage; page <= largestPage; page *= 2 {
			if s.from(); s.page != page {
				t.Errorf("a page of %d, want %d", s.page, page)
			}
			s.pass(txlog.Claims{Last: first, Now: second, More: true})
			if page == claimPage {
				s.pass(txlog.Claims{Last: first, Now: second, More: true}) // since now
			}
		}
		check("more are due at one time than a page may hold", first.Add(time.Microsecond))
		s.pass(txlog.Claims{})
		s.from()
		time.Sleep(time.Second)
		s.pass(txlog.Claims{Foreign: []txlog.Foreign{{GID: "g"}}})
		if s.vain != time.Second {
			t.Errorf("a sweep that could drive nothing took %s", s.vain)
		}
	})
}
