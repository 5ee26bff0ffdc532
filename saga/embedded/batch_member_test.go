package embedded_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// A failing call in a shared commit hurts no other, and is told as if it had
// been alone.
func TestAFailureInCompany(t *testing.T) {
	const n = 10
	cases := []struct {
		fault  fault
		kinds  []string
		state  saga.State // of those with the fault
		reason string
	}{
		{fault{}, []string{"bulk", "plain"}, saga.Confirmed, ""},
		{fault{}, []string{"plain"}, saga.Confirmed, ""},
		{fault{"bulk", failingTry}, []string{"bulk", "plain"}, saga.Cancelled, "bulk: on purpose: bulk try"},
		{fault{"bulk", failingTry}, []string{"plain", "bulk"}, saga.Cancelled, "bulk: on purpose: bulk try"},
		{fault{"plain", failingTry}, []string{"bulk", "plain"}, saga.Cancelled, "plain: on purpose: plain try"},
		{fault{"plain", failingTry}, []string{"plain", "bulk"}, saga.Cancelled, "plain: on purpose: plain try"},
		{fault{"plain", panicking}, []string{"bulk", "plain"}, saga.Cancelled, "plain: panic: on purpose"},
		{fault{"plain", failingSQL}, []string{"plain", "bulk"}, saga.Cancelled, "plain: "},
		{fault{"bulk", failingConfirm}, []string{"bulk", "plain"}, saga.Confirming, ""},
		{fault{"plain", failingConfirm}, []string{"bulk", "plain"}, saga.Confirming, ""},
		{fault{"plain", failingConfirm}, []string{"bulk", "plain", "sent"}, saga.Confirming, ""},
		{fault{"sent", failingSend}, []string{"bulk", "sent"}, saga.Confirming, ""},
		{fault{"sent", failingConfirm}, []string{"bulk", "sent"}, saga.Confirming, ""},
	}
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := newPots(t, db, embedded.Config{})
		sold := 0
		for at, c := range cases {
			for _, faulty := range [][]int{{0}, {4}, {n - 1}, {1, 2, 7}} {
				p.faulty.Store(true)
				name := fmt.Sprintf("%d %s of %v in %v", at, c.fault, faulty, c.kinds)
				outcomes, errs := p.executeBatch(strings.NewReplacer(" ", "-", "[", "", "]", "").Replace(name), n, c.fault, faulty, c.kinds...)
				p.faulty.Store(false)
				sold += len(c.kinds)
				for i, o := range outcomes {
					want := saga.Confirmed
					if slices.Contains(faulty, i) {
						want = c.state
					}
					if o.State != want || errors.Is(errs[i], saga.ErrCancelled) != (want == saga.Cancelled) || (errs[i] != nil) != (want == saga.Cancelled) {
						t.Errorf("%s: number %d is %q, %v; want %q", name, i, o.State, errs[i], want)
					}
					if want == saga.Cancelled {
						if o.Reason != c.reason && !(strings.HasSuffix(c.reason, ": ") && strings.HasPrefix(o.Reason, c.reason)) {
							t.Errorf("%s: the reason of number %d is %q, want %q", name, i, o.Reason, c.reason)
						}
						sagatest.Must(t, db.Exec("UPDATE pots SET sold = sold + ?, free = free - ? WHERE id = ?", len(c.kinds), len(c.kinds), i).Error) // for the sum below
					}
					sagatest.Eventually(t, name+" ends", func() bool {
						found, err := p.orch.Lookup(t.Context(), o.GID)
						sagatest.Must(t, err)
						return found.State.Finished()
					})
					p.books(i, 1000-sold, 0, sold)
				}
			}
		}
		for _, op := range []barrier.Op{barrier.Try, barrier.Confirm} {
			if most, _ := p.sizes.Load(batchOf{op, "bulk"}); most != n {
				t.Errorf("the largest joint %s has %v calls, want %d", op, most, n)
			}
		}
	})
}

// On PostgreSQL a failed statement that its branch keeps to itself spoils the
// local transaction for those after it. They are not blamed for it.
func TestASwallowedErrorInCompany(t *testing.T) {
	t.Parallel()
	p := newPots(t, sqltest.Open(t, "postgres"), embedded.Config{})
	outcomes, errs := p.executeBatch("swallow", 10, fault{"plain", swallowing}, []int{3, 9}, "bulk", "plain")
	for i, o := range outcomes {
		want := saga.Confirmed
		if i == 3 || i == 9 {
			want = saga.Cancelled
		}
		if o.State != want {
			t.Errorf("number %d is %q, %v", i, o.State, errs[i])
		}
	}
}

// What was rejected for want of stock that another one of the batch has taken
// rests on what is committed.
func TestLastPiecesInCompany(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, kind := range []string{"bulk", "plain"} {
			t.Run(kind, func(t *testing.T) {
				db := sqltest.Open(t, db.Name())
				p := newPots(t, db, embedded.Config{})
				sagatest.Must(t, db.Exec("UPDATE pots SET free = 3 WHERE id = 1").Error)
				p.orch.GatherDecisions(p.plan("x", take{}, kind, "plain"), 10)
				var confirmed, short atomic.Int64
				var callers sync.WaitGroup
				for i := range 10 {
					callers.Go(func() {
						plan := p.plan(fmt.Sprintf("last-%d", i), take{Pot: 1, N: 1}, kind, "plain")
						plan.Steps[1].Input = take{Pot: 2, N: 1}
						outcome, err := p.orch.Execute(t.Context(), plan)
						switch {
						case err == nil && outcome.State == saga.Confirmed:
							confirmed.Add(1)
						case outcome.State == saga.Cancelled && strings.Contains(outcome.Reason, "pot 1 has no 1 free"):
							short.Add(1)
						default:
							t.Errorf("%+v, %v", outcome, err)
						}
					})
				}
				callers.Wait()
				if confirmed.Load() != 3 || short.Load() != 7 {
					t.Errorf("%d confirmed, %d short", confirmed.Load(), short.Load())
				}
				p.books(1, 0, 0, 3)
				p.books(2, 997, 0, 3)
			})
		}
	})
}

// One of a batch uses a gid that was used before, by another instance.
func TestAUsedGIDInCompany(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := newPots(t, db, embedded.Config{})
		other := p.open(embedded.Config{})
		_, err := other.Execute(t.Context(), p.plan("used-03", take{Pot: 3, N: 1}, "bulk"))
		sagatest.Must(t, err)
		_, err = other.Execute(t.Context(), p.plan("used-05", take{Pot: 3, N: 7}, "bulk"))
		sagatest.Must(t, err)
		outcomes, errs := p.executeBatch("used", 10, fault{}, nil, "bulk")
		for i, o := range outcomes {
			if i == 5 {
				if !errors.Is(errs[i], saga.ErrMismatch) {
					t.Errorf("another plan with the same gid: %v", errs[i])
				}
				continue
			}
			if o.State != saga.Confirmed || errs[i] != nil {
				t.Errorf("number %d: %+v, %v", i, o, errs[i])
			}
		}
		p.books(3, 992, 0, 8)
		p.books(5, 1000, 0, 0)
		p.books(6, 999, 0, 1)
	})
}
