package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// elsewhere is a branch in another service.
func elsewhere(kind string, call func(saga.Call) error) spec {
	return spec{Kind: kind, Encode: encode, Remote: remote(call)}
}

// idle opens an engine that does nothing in the background.
func idle(t *testing.T, db *gorm.DB, branches ...spec) *embedded.Engine {
	t.Helper()
	engine, err := embedded.Open(t.Context(), db, still)
	sagatest.Must(t, err)
	for _, b := range branches {
		sagatest.Must(t, register(engine, b))
	}
	return engine
}

// hastily calls for a short time; if that is over before the call has begun, it calls again
// for longer.
func hastily(t *testing.T, call func(ctx context.Context) error) error {
	t.Helper()
	for patience := 50 * time.Millisecond; ; patience *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := call(ctx)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "nothing was begun") {
			return err
		}
	}
}

// The COMMIT of a begin is not made and goes unanswered, and then another engine uses the
// gid. The first one drives nothing of that transaction, and its caller learns that the
// gid is another one's.
func TestAGIDThatIsUsedAfterAnUnansweredCommit(t *testing.T) {
	t.Parallel()
	s, db := newServer(t, "postgres", &gorm.Config{})
	var calls atomic.Int64
	first := idle(t, db, elsewhere("first", func(saga.Call) error { calls.Add(1); return nil }))
	second := idle(t, db, elsewhere("second", func(saga.Call) error { return nil }))
	var outcome saga.Outcome
	var err error
	s.commit.Store(&commitFault{err: sqlState("40003"), then: func() { outcome, err = second.Execute(t.Context(), planOf("used", "second")) }})
	_, told := first.Execute(t.Context(), planOf("used", "first"))
	if err != nil || outcome.State != saga.Confirmed {
		t.Errorf("the second engine: %+v, %v", outcome, err)
	}
	if !errors.Is(told, saga.ErrMismatch) || calls.Load() != 0 {
		t.Errorf("the first engine: %v, and %d calls", told, calls.Load())
	}
}

// A caller asks for a gid that is driven with another plan, and its time ends before that
// one does: it is not told the outcome of the other plan.
func TestAnotherPlanWhoseCallerGoes(t *testing.T) {
	t.Parallel()
	p := idlePots(t, sqltest.Open(t, "sqlite"), still)
	confirming, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	ok(register(p.orch, outside("slow", func(call saga.Call) error {
		if call.Op == barrier.Confirm {
			close(confirming)
			<-release
		}
		return nil
	})))
	go func() {
		_, err := p.execute("same", take{N: 1}, "slow")
		ended <- err
	}()
	<-confirming
	if err := hastily(t, func(ctx context.Context) error {
		_, err := p.orch.Execute(ctx, p.plan("same", take{N: 2}, "slow"))
		return err
	}); !errors.Is(err, saga.ErrMismatch) {
		t.Error(err)
	}
	close(release)
	sagatest.Must(t, <-ended)
}

// A request is repeated at another instance while its transaction is undecided: it waits for
// the decision until its time ends.
func TestARepetitionBeforeTheDecision(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	tried, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	first := idle(t, db, elsewhere("slow", func(call saga.Call) error {
		if call.Op == barrier.Try {
			close(tried)
			<-release
		}
		return nil
	}))
	second := idle(t, db, elsewhere("slow", func(saga.Call) error { return errors.New("the second instance calls nothing") }))
	go func() {
		_, err := first.Execute(t.Context(), planOf("repeated", "slow"))
		ended <- err
	}()
	<-tried
	if err := hastily(t, func(ctx context.Context) error {
		_, err := second.Execute(ctx, planOf("repeated", "slow"))
		return err
	}); !errors.Is(err, saga.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before the decision: %v", err)
	}
	close(release)
	sagatest.Must(t, <-ended)
	settle(t, first, "repeated")
	if outcome, err := second.Execute(t.Context(), planOf("repeated", "slow")); err != nil || outcome.State != saga.Confirmed {
		t.Errorf("after the end: %+v, %v", outcome, err)
	}
}

// A caller goes during a Try: its transaction is decided all the same, at once, and by its own
// instance.
func TestACallerGoesDuringATry(t *testing.T) {
	t.Parallel()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	engine := idle(t, sqltest.Open(t, "sqlite"), elsewhere("left", func(call saga.Call) error {
		if call.Op == barrier.Try {
			leave()
			return errors.New("the caller has gone")
		}
		return nil
	}))
	if _, err := engine.Execute(ctx, planOf("left", "left")); !errors.Is(err, saga.ErrCancelled) {
		t.Error(err)
	}
	if state := ends(t, engine, "left"); state != saga.Cancelled {
		t.Errorf("it is %s", state)
	}
}

// The members of a batch are called in the order of their payloads, in whatever order they
// come, so that batches which want the same rows wait for each other and do not deadlock.
func TestBatchesLockInOrder(t *testing.T) {
	t.Parallel()
	p := idlePots(t, sqltest.Open(t, "sqlite"), still)
	var tried []string
	p.orch = p.openWith(still, func(b *spec) {
		if b.WorkBatch != nil {
			b.WorkBatch = func(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []saga.BatchCall) ([]error, error) {
				if op == barrier.Try {
					tried = nil
					for _, c := range calls {
						tried = append(tried, string(c.Payload))
					}
				}
				return p.together(ctx, tx, op, calls)
			}
		}
	})
	const members = 5
	plan := p.plan("x", take{}, "bulk")
	p.orch.GatherDecisions(plan, members)
	var callers sync.WaitGroup
	for i := range members {
		callers.Go(func() {
			if _, err := p.execute(fmt.Sprint("sorted-", i), take{Pot: members - i, N: 1}, "bulk"); err != nil {
				t.Error(err)
			}
		})
		if i < members-1 {
			sagatest.Eventually(t, "it waits for the others", func() bool { return p.orch.WaitingDecisions(plan) == i+1 })
		}
	}
	callers.Wait()
	if len(tried) != members || !slices.IsSorted(tried) {
		t.Errorf("tried %v", tried)
	}
}

// A decision to cancel that the database does not take is none: no branch is cancelled
// before it is written.
func TestNoCancelBeforeTheDecision(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	p := idlePots(t, db, still)
	var cancels atomic.Int64
	ok(register(p.orch, outside("counted", func(call saga.Call) error {
		if call.Op == barrier.Cancel {
			cancels.Add(1)
		}
		return nil
	})))
	sagatest.Must(t, p.orch.Begin(t.Context(), saga.Opening{GID: "late"}))
	sagatest.Must(t, p.orch.Try(t.Context(), "late", "01", saga.Step{Kind: "counted", Input: take{N: 1}}))
	sagatest.Must(t, db.Exec("CREATE TRIGGER refused BEFORE UPDATE ON saga_transactions WHEN NEW.state = 'cancelling' BEGIN SELECT RAISE(ABORT, 'on purpose'); END").Error)
	sagatest.Must(t, db.Exec("UPDATE saga_transactions SET deadline_at = created_at WHERE gid = 'late'").Error)
	sagatest.Run(t, p.orch)
	due := func() {
		sagatest.Must(t, db.Exec("UPDATE saga_transactions SET due_at = created_at WHERE gid = 'late' AND due_at IS NOT NULL").Error)
	}
	sagatest.Eventually(t, "it was taken over again and again", func() bool {
		due()
		found, err := p.orch.Lookup(t.Context(), "late")
		sagatest.Must(t, err)
		return found.Epoch > 3
	})
	if n, state := cancels.Load(), p.state("late"); n != 0 || state != saga.Trying {
		t.Errorf("%d Cancels, and it is %s", n, state)
	}
	sagatest.Must(t, db.Exec("DROP TRIGGER refused").Error)
	sagatest.Eventually(t, "it is cancelled", func() bool {
		due()
		return p.state("late") == saga.Cancelled
	})
	if n := cancels.Load(); n != 1 {
		t.Errorf("%d Cancels", n)
	}
}

// A Confirm has failed, and is done by another process before its next attempt: its effect
// is not made again.
func TestAnEffectThatIsDoneMeanwhile(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, still)
		var effects atomic.Int64
		p.orch = p.openWith(still, func(b *spec) {
			if b.Kind == "sent" {
				b.Effects = map[barrier.Op]saga.Effect{barrier.Confirm: func(_ context.Context, call saga.Call) (any, error) {
					effects.Add(1)
					sagatest.Must(t, db.Exec("UPDATE saga_barrier SET state = 'confirmed', confirmed_at = tried_at WHERE gid = ? AND branch_id = ?", call.GID, call.BranchID).Error)
					return nil, errors.New("on purpose")
				}}
			}
		})
		sagatest.Run(t, p.orch)
		_, err := p.execute("meanwhile", take{N: 1}, "bulk", "sent")
		sagatest.Must(t, err)
		sagatest.Eventually(t, "it is confirmed", func() bool { return p.state("meanwhile") == saga.Confirmed })
		if n := effects.Load(); n != 1 {
			t.Errorf("%d effects", n)
		}
	})
}

// A driver whose last commit comes when another instance has brought its transaction to
// the end tells that end.
func TestAStaleLastCommitIsToldTheEnd(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, still)
		sagatest.Run(t, p.open(still))
		outcomes := p.finishes(func() {
			p.lose(p.orch, "finish-1")
			sagatest.Eventually(t, "the other instance ends it", func() bool { return p.state("finish-1") == saga.Confirmed })
		})
		for i, o := range outcomes {
			if o.State != saga.Confirmed {
				t.Errorf("number %d: %+v", i, o)
			}
			p.books(i, 998, 0, 2)
		}
	})
}

// A bulk branch that is not the first one of its plan rejects some of a batch: all that was
// done for them is undone, and nothing of the others. A failure that is no rejection may pass,
// so its member is decided alone.
func TestALaterBulkBranchFails(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, still)
		p.orch = p.openWith(still, func(b *spec) {
			if b.WorkBatch == nil {
				return
			}
			inside := b.Work
			b.Work = func(ctx context.Context, tx *gorm.DB, call saga.Call) error {
				if err := inside(ctx, tx, call); err != nil {
					return saga.Reject(err)
				}
				return nil
			}
			b.WorkBatch = func(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []saga.BatchCall) ([]error, error) {
				failures, err := p.together(ctx, tx, op, calls)
				for i, c := range calls {
					if failures != nil && failures[i] != nil {
						failures[i] = saga.Reject(failures[i])
					} else if op == barrier.Try && p.fails(c.Call, failingInBatch) != nil {
						failures[i] = errors.New("it passes alone")
					}
				}
				return failures, err
			}
		})
		_, err := p.execute("first", take{Pot: 19, N: 1, Fault: fault{"bulk", failingTry}}, "plain", "bulk")
		if !errors.Is(err, saga.ErrCancelled) {
			t.Fatal(err)
		}
		bad := []int{1, 2, 7}
		outcomes, _ := p.executeBatch("rejected", 10, fault{"bulk", failingTry}, bad, "plain", "bulk")
		for i, o := range outcomes {
			switch {
			case !slices.Contains(bad, i):
				if o.State != saga.Confirmed {
					t.Errorf("number %d: %+v", i, o)
				}
				p.books(i, 998, 0, 2)
			default:
				if o.Code != saga.CodeRejected {
					t.Errorf("number %d: %+v", i, o)
				}
				p.books(i, 1000, 0, 0)
			}
		}
		outcomes, _ = p.executeBatch("failed", 10, fault{"bulk", failingInBatch}, bad, "plain", "bulk")
		for i, o := range outcomes {
			if o.State != saga.Confirmed {
				t.Errorf("number %d: %+v", i, o)
			}
		}
	})
}
