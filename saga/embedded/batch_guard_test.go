package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// An instance that was paused past its lease writes the last commit of a batch, of
// which another instance has taken one over: it ends the others, and not that one.
func TestAStaleArrivalInCompany(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, embedded.Config{Lease: time.Hour})
		called, release := make(chan string, 10), make(chan struct{})
		other := p.openWith(still, func(b *spec) {
			if b.Kind != "sent" {
				return
			}
			send := b.Effects[barrier.Confirm]
			b.Effects = map[barrier.Op]saga.Effect{barrier.Confirm: func(ctx context.Context, call saga.Call) (any, error) {
				called <- call.GID
				<-release
				return send(ctx, call)
			}}
		})
		sagatest.Run(t, other)
		free := sync.OnceFunc(func() { close(release) })
		t.Cleanup(free)
		outcomes := p.finishes(func() {
			p.lose(p.orch, "finish-1")
			if gid := <-called; gid != "finish-1" {
				t.Errorf("the other instance has taken %s over", gid)
			}
		})
		for i, o := range outcomes {
			want := map[bool]saga.State{false: saga.Confirmed, true: saga.Confirming}[i == 1]
			if in := p.state(o.GID); o.State != want || in != want {
				t.Errorf("number %d was told %s, and is %s; want %s", i, o.State, in, want)
			}
		}
		p.books(1, 998, 1, 1) // the Confirm was rolled back with the end
		free()
		sagatest.Eventually(t, "the other instance ends it", func() bool { return p.state("finish-1") == saga.Confirmed })
		for i := range 5 {
			p.books(i, 998, 0, 2)
		}
	})
}

// A branch of one of a batch is not tried any more: its Confirm does not run with
// the others'.
func TestAConflictInTheLastCommit(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, embedded.Config{Lease: time.Hour})
		outcomes := p.finishes(func() {
			sagatest.Must(t, db.Exec("UPDATE saga_barrier SET state = 'cancelled' WHERE gid = 'finish-1' AND branch_id = '02'").Error)
		})
		for i, o := range outcomes {
			if want := map[bool]saga.State{false: saga.Confirmed, true: saga.Confirming}[i == 1]; o.State != want || p.state(o.GID) != want {
				t.Errorf("number %d was told %s, and is %s; want %s", i, o.State, p.state(o.GID), want)
			}
		}
		p.books(0, 998, 0, 2)
		p.books(1, 998, 1, 1)
	})
}

// A gid whose barrier row is of somebody else is a conflict for its caller, and
// nothing for the others of the batch.
func TestABranchThatIsKnownInCompany(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, embedded.Config{Lease: time.Hour})
		for _, n := range []int{1, 3} {
			name := fmt.Sprint("known-", n)
			_, err := barrier.Do(t.Context(), db, barrier.Request{Key: barrier.Key{GID: name + "-00", BranchID: "01"}, Op: barrier.Try, Caller: "somebody"}, func(*gorm.DB) error { return nil })
			sagatest.Must(t, err)
			outcomes, errs := p.executeBatch(name, n, fault{}, nil, "plain")
			for i, o := range outcomes {
				if i == 0 && (o.State != saga.Cancelled || o.Code != saga.CodeConflict) || i > 0 && o.State != saga.Confirmed {
					t.Errorf("of %d number %d: %+v, %v", n, i, o, errs[i])
				}
			}
		}
		p.books(0, 1000, 0, 0)
	})
}

// A batch whose first run is rolled back is told what its last run has done.
func TestABatchIsRunAgain(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, embedded.Config{Lease: time.Hour})
		var runs, faults atomic.Int64
		p.orch = p.openWith(still, func(b *spec) {
			switch together, inside := b.WorkBatch, b.Work; b.Kind {
			case "bulk":
				b.WorkBatch = func(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []saga.BatchCall) ([]error, error) {
					failures, err := together(ctx, tx, op, calls)
					if op == barrier.Try && runs.Add(1) == 1 {
						err = errors.Join(err, p.move(tx, barrier.Cancel, take{Pot: 1, N: 1}))
						failures[1] = saga.Reject(errors.New("on purpose"))
					}
					return failures, err
				}
			case "plain":
				b.Work = func(ctx context.Context, tx *gorm.DB, call saga.Call) error {
					if faults.Add(1) == 1 {
						return fmt.Errorf("on purpose: %w", &mysql.MySQLError{Number: 1213})
					}
					return inside(ctx, tx, call)
				}
			}
		})
		outcomes, errs := p.executeBatch("again", 5, fault{}, nil, "bulk", "plain")
		for i, o := range outcomes {
			if o.State != saga.Confirmed || errs[i] != nil {
				t.Errorf("number %d: %+v, %v", i, o, errs[i])
			}
			p.books(i, 998, 0, 2)
		}
		if runs.Load() != 2 {
			t.Errorf("%d runs", runs.Load())
		}
	})
}

// A caller that goes while its batch is written is not in it.
func TestACallerGoesWhileTheBatchIsWritten(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, embedded.Config{Lease: time.Hour})
		leaving, leave := context.WithCancel(t.Context())
		p.orch = p.openWith(still, func(b *spec) {
			if together := b.WorkBatch; together != nil {
				b.WorkBatch = func(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []saga.BatchCall) ([]error, error) {
					leave()
					return together(ctx, tx, op, calls)
				}
			}
		})
		p.orch.GatherDecisions(p.plan("x", take{}, "bulk"), 3)
		var callers sync.WaitGroup
		for i, ctx := range []context.Context{t.Context(), leaving, t.Context()} {
			callers.Go(func() {
				gid := fmt.Sprint("goes-", i)
				outcome, err := p.orch.Execute(ctx, p.plan(gid, take{Pot: i, N: 1}, "bulk"))
				if i == 1 && !errors.Is(err, context.Canceled) || i != 1 && (err != nil || outcome.State != saga.Confirmed) {
					t.Errorf("%s: %+v, %v", gid, outcome, err)
				}
			})
		}
		callers.Wait()
		p.books(0, 999, 0, 1)
		p.books(1, 1000, 0, 0)
		p.books(2, 999, 0, 1)
	})
}

// With rejections of late, the members of a batch are tried one by one: a rejection
// undoes all that its own member has done, and nothing of the others.
func TestRejectionsOneByOne(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, embedded.Config{Lease: time.Hour})
		var tries atomic.Int64
		p.orch = p.openWith(still, func(b *spec) {
			inside := b.Work
			b.Work = func(ctx context.Context, tx *gorm.DB, call saga.Call) error {
				if call.Op == barrier.Try && call.Kind == "sent" {
					tries.Add(1)
				}
				if err := inside(ctx, tx, call); err != nil {
					return saga.Reject(err)
				}
				return nil
			}
		})
		_, err := p.execute("first", take{Pot: 19, N: 1, Fault: fault{"sent", failingTry}}, "plain", "sent")
		if !errors.Is(err, saga.ErrCancelled) {
			t.Fatal(err)
		}
		tries.Store(0)
		outcomes, errs := p.executeBatch("one", 10, fault{"sent", failingTry}, []int{1, 2, 7}, "plain", "sent")
		for i, o := range outcomes {
			switch i {
			case 1, 2, 7:
				if o.State != saga.Cancelled || o.Code != saga.CodeRejected || o.BranchID != "02" {
					t.Errorf("number %d: %+v, %v", i, o, errs[i])
				}
				p.books(i, 1000, 0, 0)
			default:
				if o.State != saga.Confirmed || errs[i] != nil {
					t.Errorf("number %d: %+v, %v", i, o, errs[i])
				}
				p.books(i, 998, 0, 2)
			}
		}
		if n := tries.Load(); n != 10 {
			t.Errorf("%d Trys of ten in one commit", n)
		}
	})
}

// A call that ignores the end of its batch keeps the others no longer, and what it
// does afterwards does not count.
func TestACallThatIgnoresTheEndOfItsBatch(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, embedded.Config{Lease: time.Hour})
		release, late := make(chan struct{}), make(chan error, 1)
		free := sync.OnceFunc(func() { close(release) })
		t.Cleanup(free)
		var calls atomic.Int64
		p.orch = p.openWith(still, func(b *spec) {
			if inside := b.Work; b.Kind == "plain" {
				b.Work = func(ctx context.Context, tx *gorm.DB, call saga.Call) error {
					if calls.Add(1) == 1 {
						<-release
						late <- tx.Exec("UPDATE pots SET free = 0 WHERE id = 19").Error
						return nil
					}
					return inside(ctx, tx, call)
				}
			}
		})
		told := make(chan struct{})
		go func() {
			defer close(told)
			outcomes, errs := p.executeBatch("slow", 3, fault{}, nil, "plain")
			for i, o := range outcomes {
				if o.State != saga.Confirmed || errs[i] != nil {
					t.Errorf("number %d: %+v, %v", i, o, errs[i])
				}
			}
		}()
		select {
		case <-told:
		case <-time.After(30 * time.Second):
			t.Error("they wait for a call that does not return")
			free()
			<-told
		}
		free()
		if err := <-late; err == nil {
			t.Error("a statement of the call was sent after the end of its batch")
		}
		for i := range 3 {
			p.books(i, 999, 0, 1)
		}
		p.books(19, 1000, 0, 0)
	})
}

// A statement that takes long in a batch is cut off, so that its locks keep the
// others no longer.
func TestAStatementThatTakesLongInABatch(t *testing.T) {
	for dialect, statement := range map[string]string{"mysql": "SELECT SLEEP(600)", "postgres": "SELECT pg_sleep(600)"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			p := idlePots(t, sqltest.Open(t, dialect), embedded.Config{Lease: time.Hour})
			config := still
			config.CallTimeout = time.Hour
			config.Retention = embedded.Forever
			var calls atomic.Int64
			p.orch = p.openWith(config, func(b *spec) {
				if inside := b.Work; b.Kind == "plain" {
					b.Work = func(ctx context.Context, tx *gorm.DB, call saga.Call) error {
						if calls.Add(1) == 1 {
							return tx.Exec(statement).Error
						}
						return inside(ctx, tx, call)
					}
				}
			})
			told := make(chan struct{})
			go func() {
				defer close(told)
				outcomes, errs := p.executeBatch("long", 3, fault{}, nil, "plain")
				for i, o := range outcomes {
					if o.State != saga.Confirmed || errs[i] != nil {
						t.Errorf("number %d: %+v, %v", i, o, errs[i])
					}
				}
			}()
			select {
			case <-told:
			case <-time.After(30 * time.Second):
				t.Fatal("they wait for the end of a statement")
			}
			for i := range 3 {
				p.books(i, 999, 0, 1)
			}
		})
	}
}

// A bulk branch that returns fewer results than it was given calls is not believed:
// each call is made by itself.
func TestATogetherThatDoesNotCountWell(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, embedded.Config{Lease: time.Hour})
		p.orch = p.openWith(still, func(b *spec) {
			if b.WorkBatch != nil {
				b.WorkBatch = func(_ context.Context, _ *gorm.DB, _ barrier.Op, calls []saga.BatchCall) ([]error, error) {
					failures := make([]error, len(calls)-1)
					failures[0] = saga.Reject(errors.New("on purpose"))
					return failures, nil
				}
			}
		})
		outcomes, errs := p.executeBatch("short", 4, fault{}, nil, "bulk")
		for i, o := range outcomes {
			if o.State != saga.Confirmed || errs[i] != nil {
				t.Errorf("number %d: %+v, %v", i, o, errs[i])
			}
			p.books(i, 999, 0, 1)
		}
	})
}
