package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// A caller who goes away while the batch gathers leaves nothing behind.
func TestACallerLeavesTheCompany(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := newPots(t, db, embedded.Config{})
		p.orch.GatherDecisions(p.plan("x", take{}, "bulk"), 3)
		leaving, leave := context.WithCancel(t.Context())
		gone := make(chan error, 2)
		for _, i := range []int{1, 2} {
			go func() {
				_, err := p.orch.Execute(leaving, p.plan(fmt.Sprintf("gone-%d", i), take{Pot: i, N: 1}, "bulk"))
				gone <- err
			}()
		}
		sagatest.Eventually(t, "both wait for the batch", func() bool { return p.orch.WaitingDecisions(p.plan("x", take{}, "bulk")) == 2 })
		leave()
		outcome, err := p.execute("stays", take{Pot: 3, N: 1}, "bulk")
		if err != nil || outcome.State != saga.Confirmed {
			t.Errorf("who stays: %+v, %v", outcome, err)
		}
		for range 2 {
			if err := <-gone; !errors.Is(err, context.Canceled) {
				t.Errorf("who leaves: %v", err)
			}
		}
		p.books(1, 1000, 0, 0)
		p.books(2, 1000, 0, 0)
		p.books(3, 999, 0, 1)
	})
}

// Somebody holds a lock that one of the batch needs. The others do not wait for
// it, and for a while everybody goes alone. The connections go back to the pool
// as they were.
func TestALockedRowInCompany(t *testing.T) {
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := sqltest.Open(t, dialect)
			for _, kind := range []string{"bulk", "plain"} {
				t.Run(kind, func(t *testing.T) {
					p := newPots(t, sqltest.Open(t, dialect), embedded.Config{CallTimeout: time.Hour, Timeout: time.Hour})
					holder := p.db.Begin()
					defer holder.Rollback()
					sagatest.Must(t, holder.Exec("UPDATE pots SET free = free - 1 WHERE id = 4").Error)
					plan := p.plan("x", take{}, kind)
					p.orch.GatherDecisions(plan, 10)
					var others, stuck sync.WaitGroup
					for i := range 10 {
						group := &others
						if i == 4 {
							group = &stuck
						}
						group.Go(func() {
							outcome, err := p.execute(fmt.Sprintf("locked-%d", i), take{Pot: i, N: 1}, kind)
							if err != nil || outcome.State != saga.Confirmed {
								t.Errorf("number %d: %+v, %v", i, outcome, err)
							}
						})
					}
					others.Wait()
					if p.orch.Shares(plan) {
						t.Error("commits are still shared")
					}
					sagatest.Must(t, holder.Commit().Error)
					stuck.Wait()
					for i := range 10 {
						if i != 4 {
							p.books(i, 999, 0, 1)
						}
					}
					p.books(4, 998, 0, 1)
					sagatest.Must(t, unlimited(p.db))
				})
			}
			sagatest.Must(t, unlimited(db))
		})
	}
}

// Large transactions, and MaxBatch 1, go alone.
func TestWhoGoesAlone(t *testing.T) {
	t.Parallel()
	p := newPots(t, sqltest.Open(t, "sqlite"), embedded.Config{})
	kinds := slices.Repeat([]string{"bulk"}, 8)
	if !p.orch.Shares(p.plan("x", take{}, kinds...)) {
		t.Error("eight branches go alone")
	}
	if p.orch.Shares(p.plan("x", take{}, append(kinds, "bulk")...)) {
		t.Error("nine branches share commits")
	}
	if p.orch.Shares(p.plan("x", take{Padding: strings.Repeat("x", 20_000)}, "bulk")) {
		t.Error("20 kB share commits")
	}
	alone := p.open(embedded.Config{MaxBatch: 1})
	if alone.Shares(p.plan("x", take{}, "bulk")) {
		t.Error("a batch of one shares commits")
	}
}

// Calls that take long keep others waiting only once in a while.
func TestSlowCallsInCompany(t *testing.T) {
	t.Parallel()
	p := newPots(t, sqltest.Open(t, "sqlite"), embedded.Config{})
	plan := p.plan("x", take{}, "plain")
	outcomes, errs := p.executeBatch("slow", 10, fault{"plain", slow}, []int{2, 3, 4, 5, 6}, "plain")
	for i, o := range outcomes {
		if o.State != saga.Confirmed {
			t.Errorf("number %d: %+v, %v", i, o, errs[i])
		}
	}
	if p.orch.Shares(plan) {
		t.Error("commits are still shared")
	}
}
