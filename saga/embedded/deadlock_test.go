package embedded_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/participant"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// In a local transaction of the caller, a deadlock that a branch ignores is an error of ExecuteIn,
// and nothing that follows it is sent: it would commit by itself.
func TestADeadlockThatABranchIgnoresInALocalTransaction(t *testing.T) {
	t.Parallel()
	for _, op := range []barrier.Op{barrier.Try, barrier.Confirm} {
		for _, last := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/last=%t", op, last), func(t *testing.T) {
				t.Parallel()
				db := sqltest.Open(t, "mysql")
				c := newCareless(t, db, op, 1)
				c.kinds, c.last = []string{"b"}, last
				orch := opened(t, db, embedded.Config{}, spec{Kind: "a", Work: c.inside}, spec{Kind: "b", Work: c.inside})
				gid := sagatest.GID()
				tx := db.Begin()
				_, err := orch.ExecuteIn(t.Context(), tx, saga.Plan{GID: gid, Pattern: "tcc", Steps: []saga.Step{{Kind: "a"}, {Kind: "b"}}})
				if err == nil {
					t.Error("ExecuteIn returned no error")
				}
				tx.Commit() // a caller that ignores that commits nothing
				if c.lost.Load() != 1 {
					t.Errorf("%d deadlocks", c.lost.Load())
				}
				for _, table := range []string{"saga_transactions", "saga_branches", "saga_barrier", "effects"} {
					var rows int
					sagatest.Must(t, db.Raw("SELECT COUNT(*) FROM "+table).Scan(&rows).Error)
					if rows != 0 {
						t.Errorf("%d rows in %s", rows, table)
					}
				}
			})
		}
	}
}

// MySQL rolls the whole local transaction back after a deadlock. Nobody is told
// anything that rests on what was rolled back, whichever call it was that lost one
// and ignored it, and wherever it was made.
func TestADeadlockThatABranchIgnores(t *testing.T) {
	t.Parallel()
	deliver := map[barrier.Op]saga.Effect{barrier.Confirm: sending}
	ways := map[string]struct {
		change     func(c *careless, a *spec) // of the first of two branches
		last, away bool
	}{
		"resident":          {},
		"at its end":        {last: true},
		"a bulk one":        {change: func(c *careless, a *spec) { a.WorkBatch = c.together }},
		"one that delivers": {change: func(c *careless, a *spec) { a.Effects = deliver }},
		"away":              {away: true},
	}
	for name, way := range ways {
		for _, op := range []barrier.Op{barrier.Try, barrier.Confirm, barrier.Cancel} {
			t.Run(fmt.Sprintf("%s/%s", name, op), func(t *testing.T) {
				t.Parallel()
				home := sqltest.Open(t, "mysql")
				db, database := home, (*gorm.DB)(nil)
				if way.away {
					db = sqltest.Open(t, "mysql")
					database = db
				}
				c := newCareless(t, db, op, 0)
				c.last = way.last
				a, b := spec{Kind: "a", Work: c.inside, Database: database}, spec{Kind: "b", Work: c.inside, Database: database}
				if way.change != nil {
					way.change(c, &a)
				}
				ignores(t, opened(t, home, embedded.Config{}, a, b), c, home, op)
			})
		}
	}
}

func ignores(t *testing.T, orch *embedded.Engine, c *careless, home *gorm.DB, op barrier.Op) {
	for _, kinds := range [][]string{{"a"}, {"b"}} { // who meets with the deadlock
		c.kinds = kinds
		if op != barrier.Cancel {
			c.armed.Store(1)
			gid := "alone-" + kinds[0]
			outcome, err := orch.Execute(t.Context(), planOf(gid, "a", "b"))
			sagatest.Must(t, err)
			if outcome.State == saga.Confirmed {
				settle(t, orch, gid)
				c.check(home, gid, saga.Confirmed, 2) // at once
			}
			c.check(home, gid, ends(t, orch, gid), 2)

			c.armed.Store(1)
			var callers sync.WaitGroup
			if c.db == home {
				orch.GatherDecisions(planOf("x", "a", "b"), 12)
			}
			for i := range 12 {
				callers.Go(func() {
					gid := fmt.Sprintf("company-%s-%d", kinds[0], i)
					outcome, err := orch.Execute(t.Context(), planOf(gid, "a", "b"))
					if err != nil {
						t.Errorf("%s: %v", gid, err)
					}
					if outcome.State == saga.Confirmed {
						settle(t, orch, gid)
						c.check(home, gid, saga.Confirmed, 2)
					}
					c.check(home, gid, ends(t, orch, gid), 2)
				})
			}
			callers.Wait()
		}
		c.armed.Store(1)
		gid := "open-" + kinds[0]
		sagatest.Must(t, orch.Begin(t.Context(), saga.Opening{GID: gid}))
		for n, kind := range []string{"a", "b"} {
			sagatest.Must(t, orch.Try(t.Context(), gid, saga.BranchID(n+1), saga.Step{Kind: kind}))
		}
		want := saga.Confirmed
		if op == barrier.Cancel {
			want = saga.Cancelled
			_, err := orch.Cancel(t.Context(), gid, "on purpose")
			sagatest.Must(t, err)
		} else {
			_, err := orch.Confirm(t.Context(), gid, saga.Options{})
			sagatest.Must(t, err)
		}
		if state := ends(t, orch, gid); state != want {
			t.Errorf("%s is %s", gid, state)
		}
		c.check(home, gid, want, 2)
	}
	if want := map[barrier.Op]int64{barrier.Try: 6, barrier.Confirm: 6, barrier.Cancel: 2}[op]; c.lost.Load() != want {
		t.Errorf("%d deadlocks, want %d", c.lost.Load(), want)
	}
}

// A Try for many that reports a deadlock as the failure of one of them has lost what
// it did for the others.
func TestADeadlockAsAnItemsFailure(t *testing.T) {
	t.Parallel()
	for _, position := range []int{0, 1} {
		t.Run(fmt.Sprint(position), func(t *testing.T) {
			t.Parallel()
			db := sqltest.Open(t, "mysql")
			c := newCareless(t, db, barrier.Try, 1)
			c.named, c.kinds = true, []string{"bulk"}
			orch := opened(t, db, embedded.Config{}, spec{Kind: "bulk", Work: c.inside, WorkBatch: c.together}, spec{Kind: "plain", Work: c.inside})
			kinds := []string{"plain", "plain"}
			kinds[position] = "bulk"
			orch.GatherDecisions(planOf("x", kinds...), 12)
			var callers sync.WaitGroup
			for i := range 12 {
				callers.Go(func() {
					gid := fmt.Sprintf("item-%d", i)
					outcome, err := orch.Execute(t.Context(), planOf(gid, kinds...))
					if outcome.State != saga.Confirmed {
						t.Errorf("%s: %+v, %v", gid, outcome, err)
						return
					}
					c.check(db, gid, saga.Confirmed, 2)
				})
			}
			callers.Wait()
			if c.lost.Load() != 1 {
				t.Errorf("%d deadlocks", c.lost.Load())
			}
		})
	}
}

// A branch that loses a deadlock each time is never told confirmed.
func TestADeadlockEveryTime(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "mysql")
	c := newCareless(t, db, barrier.Try, 1<<40)
	orch := opened(t, db, embedded.Config{}, spec{Kind: "a", Work: c.inside})
	outcome, err := orch.Execute(t.Context(), planOf("always", "a"))
	if !errors.Is(err, saga.ErrCancelled) || outcome.State != saga.Cancelled {
		t.Errorf("%+v, %v", outcome, err)
	}
	c.check(db, "always", saga.Cancelled, 1)
}

// Participants, which are behind package remote, and the barrier by itself.
func TestADeadlockThatAHostedBranchIgnores(t *testing.T) {
	t.Parallel()
	for _, op := range []barrier.Op{barrier.Try, barrier.Confirm, barrier.Cancel} {
		for _, apart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/apart=%t", op, apart), func(t *testing.T) {
				t.Parallel()
				home := sqltest.Open(t, "mysql")
				c := newCareless(t, home, op, 2)
				branch := spec{Kind: "a", Work: c.inside, Encode: encode}
				if apart {
					c.db = sqltest.Open(t, "mysql")
					newCareless(t, c.db, op, 0)
					branch.Database = c.db
				}
				host, err := participant.New(t.Context(), home, participant.Config{})
				sagatest.Must(t, err)
				sagatest.Must(t, register(host, branch))
				end := barrier.Confirm
				if op == barrier.Cancel {
					end = barrier.Cancel
				}
				calls := map[string]func(barrier.Op) error{
					"hosted": func(op barrier.Op) error {
						return host.Call(t.Context(), saga.Call{GID: "hosted", BranchID: "01", Kind: "a", Op: op, Payload: []byte("{}")})
					},
					"barrier": func(op barrier.Op) error {
						call := saga.Call{GID: "barrier", BranchID: "01", Op: op}
						_, err := barrier.Do(t.Context(), c.db, barrier.Request{Key: call.Key(), Op: op}, func(tx *gorm.DB) error {
							return c.inside(t.Context(), tx, call)
						})
						return err
					},
				}
				for name, call := range calls {
					if err := errors.Join(call(barrier.Try), call(end)); err != nil {
						t.Errorf("%s: %v", name, err)
					}
					told := map[barrier.Op]saga.State{barrier.Confirm: saga.Confirmed, barrier.Cancel: saga.Cancelled}[end]
					c.barred(name, told)
				}
				if c.lost.Load() != 2 {
					t.Errorf("%d deadlocks", c.lost.Load())
				}
			})
		}
	}
}
