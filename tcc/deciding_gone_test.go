package tcc_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// Whichever COMMIT in the database of the orders, or in the log, goes unanswered, made or not
// made: the order is there if and only if the caller is told that the transaction is confirmed.
func TestUnansweredCommitsOfTheBranchThatDecides(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"orders", "log"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			db, loss := sqltest.OpenLossy(t)
			ordersDB := sqltest.Open(t, "sqlite")
			if where == "orders" {
				db, ordersDB = ordersDB, db
			}
			config := quick
			config.Lease = maxDuration / 4
			b := newDecidingBench(t, db, ordersDB, config)
			for name, plan := range decidingPlans {
				for _, fails := range []bool{false, true} {
					work := func(gid string) func(context.Context, *gorm.DB) error {
						return func(ctx context.Context, tx *gorm.DB) error {
							err := b.order(gid)(ctx, tx)
							if fails {
								err = errors.New("on purpose")
							}
							return err
						}
					}
					for _, made := range []bool{false, true} {
						for nth := 1; ; nth++ {
							lost, gid := loss.Count(), sagatest.GID()
							loss.Arm(nth, made)
							_, err := b.execute(t.Context(), gid, work(gid), plan...)
							loss.Arm(0, false)
							if errors.Is(err, saga.ErrUnknown) {
								_, err = b.execute(t.Context(), gid, work(gid), plan...)
							}
							if got := ordered(t, ordersDB, gid); got != (err == nil) || err != nil && !errors.Is(err, saga.ErrCancelled) {
								t.Errorf("%s, work that fails %t, COMMIT %d, made %t: ordered %t, told %v", name, fails, nth, made, got, err)
							}
							if state := b.barrierOf(gid); where == "orders" && fails && state != barrier.StateSuspended {
								t.Errorf("%s, work that fails, COMMIT %d, made %t: cancelled, and the barrier row is %q", name, nth, made, state)
							}
							if loss.Count() == lost {
								break
							}
						}
					}
				}
			}
			if loss.Count() < 20 {
				t.Errorf("only %d COMMITs were lost", loss.Count())
			}
		})
	}
}

// gone executes a plan in an instance that does not run, which is gone after its lease. The
// instance waits at a point until the test ends it. Other instances may claim the transaction
// when reached is closed.
type gone struct {
	gate, reached chan struct{}
	told          chan error
}

func (b *decidingBench) executeGone(ordersDB *gorm.DB, gid string, options saga.Options, plan ...tcc.Payload) *gone {
	b.t.Helper()
	config := quick
	config.Lease = 4 * time.Second // it must not end before the plan has begun
	engine := b.open(config)
	b.knowOrders(engine, ordersDB)
	g := &gone{make(chan struct{}), make(chan struct{}), make(chan error, 1)}
	plan = append(plan, tcc.Deciding(placeOrder{gid}))
	go func() {
		_, err := tcc.ExecuteWith(b.t.Context(), engine, gid, options, plan...)
		g.told <- err
	}()
	return g
}

func (g *gone) wait() {
	close(g.reached)
	<-g.gate
}

// The process that executed the plan is gone after the COMMIT of the branch that decides:
// another instance asks, and confirms. Its own decision comes later, and is the same.
func TestProcessGoneAfterTheCommitThatDecides(t *testing.T) {
	t.Parallel()
	for _, forward := range []int{0, saga.Unlimited} {
		database := sqltest.Create(t, "sqlite")
		lossy, loss := sqltest.ConnectLossy(t, database)
		b := newDecidingBench(t, sqltest.Open(t, "sqlite"), sqltest.Connect(t, database, &gorm.Config{}), quick)
		gid := sagatest.GID()
		var g *gone
		started := make(chan struct{})
		loss.After(func() { <-started; g.wait() })
		g = b.executeGone(lossy, gid, saga.Options{TryAttempts: forward}, hold{1, 1}, holdAway{1, 1})
		close(started)
		<-g.reached
		b.ends(gid, saga.Confirmed)
		close(g.gate)
		if err := <-g.told; err != nil {
			t.Errorf("forward %d: %v", forward, err)
		}
		found := b.reaches(gid, saga.Confirmed)
		if forward == 0 && found.DecidedBy != "recovery" {
			t.Errorf("decided by %s", found.DecidedBy)
		}
	}
}

// The process that executes the plan is paused before the Try that decides: another instance
// asks, and cancels. The barrier refuses the Try that comes later.
func TestTryThatDecidesAfterItsQuestion(t *testing.T) {
	t.Parallel()
	b := newDecidingBench(t, sqltest.Open(t, "sqlite"), sqltest.Open(t, "sqlite"), quick)
	gid := sagatest.GID()
	gate := b.out.hold(barrier.Try)
	g := b.executeGone(b.orders, gid, saga.Options{}, hold{1, 1}, holdOut{1, 1})
	b.reaches(gid, saga.Cancelling)
	if state := b.barrierOf(gid); state != barrier.StateSuspended {
		t.Errorf("the barrier row of the order is %q", state)
	}
	close(gate)
	if err := <-g.told; !errors.Is(err, saga.ErrCancelled) {
		t.Errorf("%v", err)
	}
	b.ends(gid, saga.Cancelled)
}

// The deadline passes after the COMMIT of the branch that decides, in the process that
// executes the plan, or with another one that asks.
func TestDeadlineAfterTheCommitThatDecides(t *testing.T) {
	t.Parallel()
	ordersDB, loss := sqltest.OpenLossy(t)
	config := quick
	config.Poll, config.Lease = maxDuration/4, maxDuration/4 // recovery does not come first
	b := newDecidingBench(t, sqltest.Open(t, "sqlite"), ordersDB, config)
	gid := sagatest.GID()
	loss.After(func() {
		if err := b.db.Exec("UPDATE saga_transactions SET deadline_at = created_at WHERE gid = ?", gid).Error; err != nil {
			t.Error(err)
		}
	})
	if outcome, err := b.execute(t.Context(), gid, b.order(gid), hold{1, 1}, holdAway{1, 1}); err != nil || outcome.State != saga.Confirmed {
		t.Errorf("%+v, %v", outcome, err)
	}
	b.ends(gid, saga.Confirmed)
}

// An operator, or Cancel, cannot cancel after the COMMIT of the branch that decides, and a Try
// that comes after their question is refused.
func TestCancelAsksTheBranchThatDecides(t *testing.T) {
	t.Parallel()
	for name, cancel := range map[string]func(b *decidingBench, gid string) (saga.Outcome, error){
		"Cancel": func(b *decidingBench, gid string) (saga.Outcome, error) { return b.orch.Cancel(b.t.Context(), gid, "") },
		"operator": func(b *decidingBench, gid string) (saga.Outcome, error) {
			return b.orch.Decide(b.t.Context(), gid, saga.Cancelling, alice)
		},
	} {
		database := sqltest.Create(t, "sqlite")
		lossy, loss := sqltest.ConnectLossy(t, database)
		config := quick
		config.Poll, config.Lease = maxDuration/4, maxDuration/4 // recovery does not come first
		b := newDecidingBench(t, sqltest.Open(t, "sqlite"), sqltest.Connect(t, database, &gorm.Config{}), config)
		executing := b.open(config)
		b.knowOrders(executing, lossy)
		sagatest.Run(t, executing)
		gid := sagatest.GID()
		loss.After(func() {
			if _, err := b.orch.Decide(t.Context(), gid, saga.Confirming, alice); !errors.Is(err, saga.ErrNotOpen) {
				t.Errorf("an operator confirms: %v", err)
			}
			if outcome, err := cancel(b, gid); !errors.Is(err, saga.ErrConfirmed) {
				t.Errorf("%s after the COMMIT: %+v, %v", name, outcome, err)
			}
		})
		if _, err := tcc.Execute(t.Context(), executing, gid, hold{1, 1}, tcc.Deciding(placeOrder{gid})); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		b.ends(gid, saga.Confirmed)

		gid = sagatest.GID()
		gate := b.away.hold(barrier.Try)
		told := make(chan error, 1)
		go func() {
			_, err := b.execute(t.Context(), gid, b.order(gid), hold{1, 1}, holdAway{1, 1})
			told <- err
		}()
		sagatest.Eventually(t, "the Try is under way", func() bool { return b.away.called(barrier.Try) > 0 })
		done := make(chan struct{})
		go func() { // its round waits for the Try that is under way
			defer close(done)
			if _, err := cancel(b, gid); err != nil {
				t.Errorf("%s before the Try: %v", name, err)
			}
		}()
		b.reaches(gid, saga.Cancelling)
		close(gate)
		<-done
		if err := <-told; !errors.Is(err, saga.ErrCancelled) {
			t.Errorf("%s before the Try: %v", name, err)
		}
	}
}

// An instance that does not know the kind that decides leaves the transaction undecided, and
// raises it to attention. An instance that knows it asks.
func TestUnknownKindThatDecides(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newDecidingBench(t, db, sqltest.Open(t, "sqlite"), dying())
		sagatest.Must(t, b.orch.Stop(t.Context()))
		config, alarms := alarmed()
		config.AttentionAge = time.Millisecond
		gid := sagatest.GID()
		gate := b.out.hold(barrier.Try)
		g := b.executeGone(b.orders, gid, saga.Options{}, hold{1, 1}, holdOut{1, 1})
		sagatest.Eventually(t, "the Try is under way", func() bool { return b.out.called(barrier.Try) > 0 })
		sqltest.Exec(t, db, "UPDATE saga_transactions SET deadline_at = created_at, due_at = created_at WHERE gid = ?", gid)
		less := b.open(config)
		sagatest.Run(t, less)
		if a := alarm(t, alarms); a.GID != gid || !strings.Contains(a.Why, "kind of branch orders.place") {
			t.Errorf("%+v", a)
		}
		b.orch = less
		if found := b.reaches(gid, saga.Trying); found.Attention == "" {
			t.Errorf("%+v", found.Summary)
		}
		if _, err := less.Cancel(t.Context(), gid, ""); !errors.Is(err, saga.ErrUnknownKind) {
			t.Errorf("Cancel: %v", err)
		}
		b.orch = b.instance(quick)
		if found := b.reaches(gid, saga.Cancelling); found.Attention != "" || found.Code != saga.CodeDeadline {
			t.Errorf("%+v", found.Summary)
		}
		close(gate)
		<-g.told
		b.ends(gid, saga.Cancelled)
	})
}

// With forward recovery, a Try that decides and fails is called again, by any process. If it
// may not be called again, the branch is asked before the transaction is cancelled.
func TestForwardRecoveryWithABranchThatDecides(t *testing.T) {
	t.Parallel()
	b := newDecidingBench(t, sqltest.Open(t, "sqlite"), sqltest.Open(t, "sqlite"), quick)
	execute := func(attempts int) (gid string, err error) {
		gid = sagatest.GID()
		_, err = tcc.ExecuteWith(t.Context(), b.orch, gid, saga.Options{TryAttempts: attempts}, hold{1, 1}, holdAway{1, 1}, tcc.Deciding(placeOrder{gid}))
		return gid, err
	}
	b.placer.fail(barrier.Try, 3, errOnPurpose)
	gid, err := execute(saga.Unlimited)
	if err != nil {
		t.Error(err)
	}
	b.ends(gid, saga.Confirmed)
	for attempts, err := range map[int]error{2: errOnPurpose, saga.Unlimited: tcc.Reject(errShort)} {
		b.placer.fail(barrier.Try, 3, err)
		gid, told := execute(attempts)
		if !errors.Is(told, saga.ErrCancelled) {
			t.Errorf("%d attempts: %v", attempts, told)
		}
		b.ends(gid, saga.Cancelled)
		if state := b.barrierOf(gid); state != barrier.StateSuspended {
			t.Errorf("%d attempts: the barrier row of the order is %q", attempts, state)
		}
	}

	// The process is gone before the Try that decides: another one calls it.
	b.placer.fail(barrier.Try, 0, nil)
	gid = sagatest.GID()
	b.away.fail(barrier.Try, 1, errOnPurpose)
	g := b.executeGone(b.orders, gid, saga.Options{TryAttempts: saga.Unlimited}, hold{1, 1}, holdAway{1, 1})
	if err := <-g.told; err != nil {
		t.Error(err)
	}
	b.ends(gid, saga.Confirmed)
}

// The process is paused before the Try that decides. Another one continues, and cancels because
// another Try cannot be called again. It asks first, so the Try that comes later is refused.
func TestForwardRecoveryAsksBeforeItCancels(t *testing.T) {
	t.Parallel()
	b := newDecidingBench(t, sqltest.Open(t, "sqlite"), sqltest.Open(t, "sqlite"), quick)
	gid := sagatest.GID()
	gate := b.out.hold(barrier.Try)
	g := b.executeGone(b.orders, gid, saga.Options{TryAttempts: saga.Unlimited}, hold{1, 1}, holdOut{1, 1})
	b.reaches(gid, saga.Cancelling)
	close(gate)
	if err := <-g.told; !errors.Is(err, saga.ErrCancelled) {
		t.Errorf("%v", err)
	}
	b.ends(gid, saga.Cancelled)
}
