package embedded_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/participant"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// careless is a branch with a best-effort statement whose error it ignores. The
// statement loses a deadlock while calls are armed. The branch notes each call in
// the table effects, before that statement and after it.
type careless struct {
	t     *testing.T
	db    *gorm.DB // where it works
	op    barrier.Op
	armed atomic.Int64 // so many calls of op lose a deadlock
	lost  atomic.Int64 // and so many have
	last  bool         // it is the last statement
	named bool         // its WorkBatch reports the deadlock as the failure of one item
	kinds []string     // only branches of these kinds lose one; nil is all
}

var lanes atomic.Int64

func newCareless(t *testing.T, db *gorm.DB, op barrier.Op, armed int64) *careless {
	t.Helper()
	ok(db.Exec("CREATE TABLE IF NOT EXISTS effects (gid VARCHAR(64), branch VARCHAR(8), op VARCHAR(8), part INT)").Error)
	ok(db.Exec("CREATE TABLE IF NOT EXISTS lanes (id INT PRIMARY KEY, n INT NOT NULL)").Error)
	c := &careless{t: t, db: db, op: op}
	c.armed.Store(armed)
	return c
}

func (c *careless) note(tx *gorm.DB, call saga.Call, part int) error {
	return tx.Exec("INSERT INTO effects VALUES (?, ?, ?, ?)", call.GID, call.BranchID, string(call.Op), part).Error
}

func (c *careless) inside(_ context.Context, tx *gorm.DB, call saga.Call) error {
	if err := c.note(tx, call, 1); err != nil {
		return err
	}
	if c.last {
		if err := c.note(tx, call, 2); err != nil {
			return err
		}
	}
	if c.meets(call) {
		_ = c.deadlock(tx)
	}
	if c.last {
		return nil
	}
	return c.note(tx, call, 2)
}

func (c *careless) meets(call saga.Call) bool {
	return call.Op == c.op && (c.kinds == nil || slices.Contains(c.kinds, call.Kind)) && c.armed.Add(-1) >= 0
}

func (c *careless) together(_ context.Context, tx *gorm.DB, op barrier.Op, calls []saga.BatchCall) ([]error, error) {
	failures := make([]error, len(calls))
	for i, call := range calls {
		err := c.note(tx, call.Call, 1)
		if i == len(calls)/2 && c.meets(call.Call) {
			if lost := c.deadlock(tx); c.named {
				failures[i] = lost
				continue
			}
		}
		if err := errors.Join(err, c.note(tx, call.Call, 2)); err != nil {
			if !c.named {
				return nil, err
			}
			failures[i] = err
		}
	}
	return failures, nil
}

// deadlock lets the local transaction that has tx lose a deadlock: the other one
// has done more work, so that MySQL does not choose it.
func (c *careless) deadlock(tx *gorm.DB) error {
	lane := 1000 * lanes.Add(1)
	ok(c.db.Exec("INSERT INTO lanes VALUES (?, 0), (?, 0)", lane, lane+1).Error)
	if err := tx.Exec("UPDATE lanes SET n = n + 1 WHERE id = ?", lane).Error; err != nil {
		c.armed.Add(1) // the batch was too slow, and its local transaction is over: another call loses one
		return err
	}
	other := c.db.Begin()
	defer other.Rollback()
	ok(other.Exec("INSERT INTO lanes SELECT ? + seq, 0 FROM seq_10_to_900", lane).Error)
	ok(other.Exec("UPDATE lanes SET n = n + 1 WHERE id = ?", lane+1).Error)
	met := make(chan error, 1)
	go func() { met <- other.Exec("UPDATE lanes SET n = n + 1 WHERE id = ?", lane).Error }()
	err := tx.Exec("UPDATE lanes SET n = n + 1 WHERE id = ?", lane+1).Error
	if other := <-met; err == nil || other != nil {
		c.t.Errorf("the branch should have lost the deadlock: %v; the other one: %v", err, other)
	}
	c.lost.Add(1)
	return err
}

// check checks that what was told of a transaction is in the log, in the barrier and
// in the tables of the branches. It looks at the committed rows directly.
func (c *careless) check(log *gorm.DB, gid string, told saga.State, branches int) {
	c.t.Helper()
	var state string
	ok(log.Raw("SELECT COALESCE(MAX(state), 'absent') FROM saga_transactions WHERE gid = ?", gid).Scan(&state).Error)
	if state != string(told) {
		c.t.Errorf("%s: told %q, and the log has it %q", gid, told, state)
	}
	want := map[saga.State]map[string]int64{
		saga.Confirmed: {"try": 1, "confirm": 1}, saga.Cancelled: {"try": 1, "cancel": 1},
	}[told]
	for n := range branches {
		id := saga.BranchID(n + 1)
		var row string
		ok(c.db.Raw("SELECT COALESCE(MAX(state), 'absent') FROM saga_barrier WHERE gid = ? AND branch_id = ?", gid, id).Scan(&row).Error)
		effects := map[string]int64{}
		for _, op := range []string{"try", "confirm", "cancel"} {
			for part := range 2 {
				var n int64
				ok(c.db.Raw("SELECT COUNT(*) FROM effects WHERE gid = ? AND branch = ? AND op = ? AND part = ?", gid, id, op, part+1).Scan(&n).Error)
				if part == 1 && n != effects[op] {
					c.t.Errorf("%s/%s: %s has %d first halves and %d second ones", gid, id, op, effects[op], n)
				}
				effects[op] = n
			}
		}
		if told == saga.Cancelled && (row == "absent" || row == "suspended") && effects["try"] == 0 && effects["cancel"] == 0 {
			continue // it was rolled back as a whole, or never came
		}
		if row != string(told) {
			c.t.Errorf("%s/%s: told %q, and the barrier says %q", gid, id, told, row)
		}
		for _, op := range []string{"try", "confirm", "cancel"} {
			if effects[op] != want[op] {
				c.t.Errorf("%s/%s is told %q, and %s had its effect %d times", gid, id, told, op, effects[op])
			}
		}
	}
}

// opened is an engine whose background work runs until the test ends.
func opened(t *testing.T, db *gorm.DB, config embedded.Config, branches ...spec) *embedded.Engine {
	t.Helper()
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Poll == 0 {
		config.Poll = 20 * time.Millisecond
	}
	config.MinBackoff, config.MaxBackoff = 5*time.Millisecond, 50*time.Millisecond
	orch, err := embedded.Open(t.Context(), db, config)
	ok(err)
	for _, b := range branches {
		b.Encode = encode
		ok(register(orch, b))
	}
	ended := make(chan error, 1)
	go func() { ended <- orch.Run(context.WithoutCancel(t.Context())) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		orch.Stop(ctx)
		<-ended
	})
	return orch
}

func encode(any) ([]byte, error) { return []byte("{}"), nil }

func planOf(gid string, kinds ...string) saga.Plan {
	plan := saga.Plan{GID: gid, Pattern: "test"}
	for _, kind := range kinds {
		plan.Steps = append(plan.Steps, saga.Step{Kind: kind})
	}
	return plan
}

// ends waits until a transaction is finished.
func ends(t *testing.T, orch *embedded.Engine, gid string) saga.State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	outcome, err := orch.Wait(ctx, gid)
	if !outcome.State.Finished() {
		t.Errorf("%s is %q: %v", gid, outcome.State, err)
	}
	return outcome.State
}

func sending(context.Context, saga.Call) (any, error) { return nil, nil }

// MySQL rolls the whole local transaction back after a deadlock. Nobody is told
// anything that rests on what was rolled back, whichever call it was that lost one
// and ignored it, and wherever it was made.
func TestADeadlockThatABranchIgnores(t *testing.T) {
	t.Parallel()
	ways := map[string]func(c *careless, home *gorm.DB) []spec{
		"resident": func(c *careless, _ *gorm.DB) []spec {
			return []spec{{Kind: "a", Work: c.inside}, {Kind: "b", Work: c.inside}}
		},
		"at its end": func(c *careless, _ *gorm.DB) []spec {
			c.last = true
			return []spec{{Kind: "a", Work: c.inside}, {Kind: "b", Work: c.inside}}
		},
		"a bulk one": func(c *careless, _ *gorm.DB) []spec {
			return []spec{{Kind: "a", Work: c.inside, WorkBatch: c.together}, {Kind: "b", Work: c.inside}}
		},
		"one that delivers": func(c *careless, _ *gorm.DB) []spec {
			deliver := map[barrier.Op]saga.Effect{barrier.Confirm: sending}
			return []spec{{Kind: "a", Work: c.inside, Effects: deliver}, {Kind: "b", Work: c.inside}}
		},
		"away": func(c *careless, _ *gorm.DB) []spec {
			return []spec{{Kind: "a", Work: c.inside, Database: c.db}, {Kind: "b", Work: c.inside, Database: c.db}}
		},
	}
	for name, branches := range ways {
		for _, op := range []barrier.Op{barrier.Try, barrier.Confirm, barrier.Cancel} {
			t.Run(fmt.Sprintf("%s/%s", name, op), func(t *testing.T) {
				t.Parallel()
				home := sqltest.Open(t, "mysql")
				db := home
				if name == "away" {
					db = sqltest.Open(t, "mysql")
				}
				c := newCareless(t, db, op, 0)
				orch := opened(t, home, embedded.Config{}, branches(c, home)...)
				ignores(t, orch, c, home, op)
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
			ok(err)
			if outcome.State == saga.Confirmed {
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
						c.check(home, gid, saga.Confirmed, 2)
					}
					c.check(home, gid, ends(t, orch, gid), 2)
				})
			}
			callers.Wait()
		}
		c.armed.Store(1)
		gid := "open-" + kinds[0]
		ok(orch.Begin(t.Context(), saga.Opening{GID: gid}))
		for n, kind := range []string{"a", "b"} {
			ok(orch.Try(t.Context(), gid, saga.BranchID(n+1), saga.Step{Kind: kind}))
		}
		want := saga.Confirmed
		if op == barrier.Cancel {
			want = saga.Cancelled
			_, err := orch.Cancel(t.Context(), gid, "on purpose")
			ok(err)
		} else {
			_, err := orch.Confirm(t.Context(), gid, saga.Options{})
			ok(err)
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
				ok(err)
				ok(register(host, branch))
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

// barred is check without a log.
func (c *careless) barred(gid string, told saga.State) {
	c.t.Helper()
	var row sql.NullString
	var effects int64
	ok(c.db.Raw("SELECT MAX(state) FROM saga_barrier WHERE gid = ?", gid).Scan(&row).Error)
	ok(c.db.Raw("SELECT COUNT(*) FROM effects WHERE gid = ?", gid).Scan(&effects).Error)
	if row.String != string(told) || effects != 4 {
		c.t.Errorf("%s: told %s, and the barrier says %q, with %d effects of 4", gid, told, row.String, effects)
	}
}
