package nested_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// The answer to each COMMIT of the child's engine is lost, one at a time, before the COMMIT
// and after it. The parent repeats its Confirm or Cancel. The child ends as the parent does.
func TestUnansweredCommits(t *testing.T) {
	t.Parallel()
	db, loss := sqltest.OpenLossy(t)
	s := newSite(t, db, quick)
	call := s.stays()
	ends := map[string]func(gid string) saga.State{
		"confirm": func(gid string) saga.State {
			if err := call(barrier.Try, "ours", gid); err == nil {
				insist(t, func() error { return call(barrier.Confirm, "ours", gid) })
				return saga.Confirmed
			}
			insist(t, func() error { return call(barrier.Cancel, "ours", gid) })
			return saga.Cancelled
		},
		"cancel": func(gid string) saga.State {
			_ = call(barrier.Try, "ours", gid)
			insist(t, func() error { return call(barrier.Cancel, "ours", gid) })
			return saga.Cancelled
		},
		"late": func(gid string) saga.State {
			insist(t, func() error { return call(barrier.Cancel, "ours", gid) })
			if err := call(barrier.Try, "ours", gid); err == nil {
				t.Errorf("%s: the late Try succeeded", gid)
			}
			return saga.Cancelled
		},
	}
	for name, end := range ends {
		for _, committed := range []bool{false, true} {
			for n := 1; ; n++ {
				sqltest.Exec(t, db, "UPDATE things SET free = 10, used = 0")
				gid, before := fmt.Sprintf("%s-%t-%d", name, committed, n), loss.Count()
				loss.Arm(n, committed)
				state := end(gid)
				s.reaches(gid+".01", state)
				loss.Arm(0, false)
				used := map[saga.State]int{saga.Confirmed: 2}[state]
				s.has("room", 10-used, 0, used)
				if loss.Count() == before {
					if n == 1 {
						t.Errorf("%s: no COMMIT was lost", name)
					}
					break
				}
			}
		}
	}
}

// insist repeats a Confirm or Cancel, as an engine does.
func insist(t *testing.T, call func() error) {
	t.Helper()
	sagatest.Eventually(t, "it succeeds", func() bool {
		err := call()
		if errors.Is(err, barrier.ErrConflict) {
			t.Fatal(err)
		}
		return err == nil
	})
}
