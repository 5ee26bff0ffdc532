package embedded_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// Confirms that fail in a shared last commit are each made alone.
func TestArrivalsInCompany(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := newPots(t, db, embedded.Config{})
		p.orch.GatherFinishes(p.plan("x", take{}, "bulk", "sent"), 10)
		var callers sync.WaitGroup
		for i := range 10 {
			callers.Go(func() {
				what := take{Pot: i, N: 1}
				if i == 4 {
					what.Fault = fault{"sent", failingConfirm}
				}
				want := map[bool]saga.State{false: saga.Confirmed, true: saga.Confirming}[i == 4]
				outcome, err := p.execute(fmt.Sprintf("finish-%d", i), what, "bulk", "sent")
				if err != nil || outcome.State != want {
					t.Errorf("number %d: %+v, %v", i, outcome, err)
				}
			})
		}
		callers.Wait()
		for i := range 10 {
			if i == 4 {
				p.books(i, 998, 1, 1)
			} else {
				p.books(i, 998, 0, 2)
			}
		}
		p.faulty.Store(false)
		sagatest.Eventually(t, "the last is confirmed", func() bool {
			found, err := p.orch.Lookup(t.Context(), "finish-4")
			sagatest.Must(t, err)
			return found.State == saga.Confirmed
		})
		p.books(4, 998, 0, 2)
	})
}

// What is delivered together and fails hurts no other, and each has its own
// receipt.
func TestDeliveriesInCompany(t *testing.T) {
	t.Parallel()
	p := newPots(t, sqltest.Open(t, "sqlite"), embedded.Config{})
	deliver := func(name string, bad fault, faulty ...int) {
		p.orch.GatherEffects("sent", 10)
		outcomes, errs := p.executeBatch(name, 10, bad, faulty, "bulk", "sent")
		for i, o := range outcomes {
			want := saga.Confirmed
			if slices.Contains(faulty, i) {
				want = saga.Confirming
			}
			if o.State != want || errs[i] != nil {
				t.Errorf("%s: number %d: %+v, %v", name, i, o, errs[i])
			}
		}
		if n := p.sent.Load(); n != 10 {
			t.Errorf("%d effects in the batch", n)
		}
	}
	deliver("one", fault{"sent", failingSend}, 4)
	deliver("none", fault{})
	deliver("forgotten", fault{"sent", forgetful}, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9) // a branch that does not count well
	p.faulty.Store(false)
	for _, gid := range []string{"one-04", "forgotten-00", "forgotten-09"} {
		sagatest.Eventually(t, gid+" is confirmed", func() bool {
			found, err := p.orch.Lookup(t.Context(), gid)
			sagatest.Must(t, err)
			return found.State == saga.Confirmed
		})
	}
}

// The COMMIT that ten share is not answered: each is told what happened.
func TestAnUnansweredCommitInCompany(t *testing.T) {
	t.Parallel()
	for _, committed := range []bool{false, true} {
		db, loss := sqltest.OpenLossy(t)
		p := newPots(t, db, embedded.Config{Lease: time.Hour}) // nobody else comes in between
		for i, kinds := range [][]string{{"bulk"}, {"plain", "bulk"}} {
			loss.Arm(1, committed)
			outcomes, errs := p.executeBatch(fmt.Sprintf("lost-%d", i), 10, fault{"bulk", failingTry}, []int{4}, kinds...)
			for n, o := range outcomes {
				want := saga.Confirmed
				if n == 4 {
					want = saga.Cancelled
				}
				if o.State != want {
					t.Errorf("made %t, %v: number %d is %+v, %v; want %q", committed, kinds, n, o, errs[n], want)
				}
			}
		}
		if loss.Count() != 2 {
			t.Errorf("%d COMMITs were lost", loss.Count())
		}
		p.books(4, 1000, 0, 0)
		p.books(5, 997, 0, 3)
	}
}

// What a transaction costs, as the package documentation says: statements
// besides BEGIN and COMMIT, those of the branches included, and COMMITs.
func TestTraffic(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name                string
		kinds               []string
		callers             int
		statements, commits int
	}{
		{"resident, alone", []string{"plain", "plain"}, 1, 3 + 4, 1},
		{"resident and outside, alone", []string{"plain", "sent"}, 1, 3 + 3 + 2 + 1, 2},
		{"resident, ten together", []string{"plain", "plain"}, 10, 3 + 10*4, 1},
	}
	for _, c := range cases {
		db, loss := sqltest.OpenLossy(t)
		p := idlePots(t, db, embedded.Config{Lease: time.Hour})
		p.execute("first", take{Pot: 1, N: 1}, "plain") // begins the lease
		before, commitsBefore := loss.Traffic()
		p.executeBatch(c.name[:3], c.callers, fault{}, nil, c.kinds...)
		statements, commits := loss.Traffic()
		if statements -= before; statements != c.statements {
			t.Errorf("%s: %d statements, want %d", c.name, statements, c.statements)
		}
		if commits -= commitsBefore; commits != c.commits {
			t.Errorf("%s: %d commits, want %d", c.name, commits, c.commits)
		}
	}
}
