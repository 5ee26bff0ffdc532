package tcc_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

func TestAnotherInstanceResumesWhatWasDecided(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		dead := b.open(dying())
		gate := b.away.hold(barrier.Confirm)
		gid := sagatest.GID()
		_, err := tcc.ExecuteWith(t.Context(), dead, gid, saga.Options{ReturnDecided: true}, hold{1, 30}, holdAway{2, 20})
		sagatest.Must(t, err)
		owner := ""
		sagatest.Eventually(t, "another instance takes over", func() bool {
			found, err := b.orch.Lookup(t.Context(), gid)
			sagatest.Must(t, err)
			if found.Epoch > 1 {
				owner = found.Owner
			}
			return found.Epoch > 1
		})
		if owner != b.orch.Instance() {
			t.Errorf("owner %s, want %s", owner, b.orch.Instance())
		}
		close(gate) // the one that lost it goes on too, and does no harm
		b.reaches(gid, saga.Confirmed)
		b.books(b.db, 1, 70, 0, 30)
		b.books(b.other, 2, 80, 0, 20)
	})
}

func TestUndecidedOfADeadInstanceIsCancelledAtOnce(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		dead := b.open(dying())
		gate := b.away.hold(barrier.Try)
		gid := sagatest.GID()
		answered := make(chan error)
		go func() { // its deadline is far away
			_, err := tcc.ExecuteWith(t.Context(), dead, gid, saga.Options{Timeout: time.Hour}, holdAway{1, 30}, hold{1, 30})
			answered <- err
		}()
		found := b.reaches(gid, saga.Cancelled)
		if found.DecidedBy != "recovery" {
			t.Errorf("decided by %q", found.DecidedBy)
		}
		if row := found.Branches[0].Barrier; row == nil || row.State != barrier.StateSuspended {
			t.Errorf("barrier of the Try that hangs: %+v", row)
		}
		close(gate) // the Try comes late, and is refused
		if err := <-answered; !errors.Is(err, saga.ErrCancelled) {
			t.Errorf("Execute: %v", err)
		}
		b.books(b.db, 1, 100, 0, 0)
		b.books(b.other, 1, 100, 0, 0)
	})
}

func TestSeveralInstancesShareTheWork(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		sqltest.Exec(t, db, "UPDATE accounts SET credit = 1000")
		second := b.open(quick)
		sagatest.Run(t, second)
		dead := b.open(dying())
		b.here.fail(barrier.Confirm, 60, errors.New("on purpose"))
		var wg sync.WaitGroup
		for i := range 60 {
			engine := []*embedded.Engine{b.orch, second, dead}[i%3]
			wg.Go(func() {
				if _, err := tcc.Execute(t.Context(), engine, fmt.Sprintf("shared-%d", i), hold{1, 10}, hold{2, 5}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		// What the dead one retries in an hour is not due before.
		sqltest.Exec(t, db, "UPDATE saga_attempts SET next_at = NULL WHERE instance = ?", dead.Instance())
		sqltest.Exec(t, db, "UPDATE saga_transactions SET due_at = created_at WHERE owner = ? AND due_at IS NOT NULL", dead.Instance())
		sagatest.Eventually(t, "all are finished", func() bool {
			left, err := b.orch.List(t.Context(), saga.Filter{Unfinished: true})
			return err == nil && len(left) == 0
		})
		b.books(b.db, 1, 400, 0, 600)
		b.books(b.db, 2, 700, 0, 300)
	})
}

func TestStopDrains(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick)
	stopped := b.open(quick)
	running := make(chan error)
	go func() { running <- stopped.Run(t.Context()) }()
	gate := b.away.hold(barrier.Confirm)
	answered := make(chan error)
	go func() {
		_, err := tcc.Execute(t.Context(), stopped, "drained", holdAway{1, 30})
		answered <- err
	}()
	sagatest.Eventually(t, "Confirm is called", func() bool { return b.away.called(barrier.Confirm) > 0 })
	stopping := make(chan error)
	go func() { stopping <- stopped.Stop(t.Context()) }()
	sagatest.Eventually(t, "new work is refused", func() bool {
		_, err := tcc.Execute(t.Context(), stopped, sagatest.GID(), holdOut{1, 1})
		return errors.Is(err, saga.ErrStopped)
	})
	select {
	case err := <-stopping:
		t.Fatalf("Stop did not wait: %v", err)
	default:
	}
	close(gate)
	sagatest.Must(t, <-answered)
	sagatest.Must(t, <-stopping)
	sagatest.Must(t, <-running)
	if found := b.reaches("drained", saga.Confirmed); found.Epoch != 1 {
		t.Errorf("epoch %d: somebody else had to finish it", found.Epoch)
	}
}

// What Stop interrupts is resumed by whoever is left.
func TestStopInterrupts(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick)
	patient := quick
	patient.Lease = time.Hour // so that nobody takes over before it is given back
	stopped := b.open(patient)
	gate := b.away.hold(barrier.Confirm)
	answered := make(chan error)
	go func() {
		_, err := tcc.Execute(t.Context(), stopped, "interrupted", holdAway{1, 30})
		answered <- err
	}()
	sagatest.Eventually(t, "Confirm is called", func() bool { return b.away.called(barrier.Confirm) > 0 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := stopped.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Stop: %v", err)
	}
	sagatest.Must(t, <-answered)
	close(gate)
	if found := b.reaches("interrupted", saga.Confirmed); found.Epoch == 1 {
		t.Error("it was not taken over")
	}
	b.books(b.other, 1, 70, 0, 30)
}

// A call that waits for a lease which cannot be renewed ends with Stop.
func TestStopEndsTheWaitForALease(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick)
	orch := b.open(quick)
	sagatest.Run(t, orch)
	sqltest.Exec(t, b.db, "ALTER TABLE saga_instances RENAME TO saga_gone") // the heartbeat fails
	answered := make(chan error)
	go func() {
		for {
			_, err := tcc.Execute(context.Background(), orch, sagatest.GID(), holdAway{1, 1})
			if err != nil && !errors.Is(err, saga.ErrUnknown) && !errors.Is(err, saga.ErrCancelled) {
				answered <- err
				return
			}
		}
	}()
	sagatest.Must(t, orch.Stop(t.Context()))
	if err := <-answered; !errors.Is(err, saga.ErrStopped) {
		t.Errorf("Execute: %v", err)
	}
	sqltest.Exec(t, b.db, "ALTER TABLE saga_gone RENAME TO saga_instances")
}

func TestWithoutRunTheLeaseRunsOut(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick)
	idle := b.open(quick)
	sagatest.Eventually(t, "the lease runs out", func() bool {
		_, err := tcc.Execute(t.Context(), idle, sagatest.GID(), holdOut{1, 1})
		return errors.Is(err, saga.ErrNoLease)
	})
}

// A conflict cannot be mended by repeating; it is raised to attention. A branch
// that acts on something other than a database does not act then.
func TestConflictIsRaisedToAttention(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		gid := sagatest.GID()
		tx := b.begin(gid, saga.Options{})
		sqltest.Exec(t, db, "UPDATE saga_barrier SET state = 'cancelled' WHERE gid = ? AND branch_id IN ('01', '03')", gid)
		outcome, err := tx.Confirm(t.Context())
		if err != nil || outcome.State != saga.Confirming {
			t.Fatalf("%+v, %v", outcome, err)
		}
		sagatest.Eventually(t, "attention", func() bool {
			found, err := b.orch.List(t.Context(), saga.Filter{Attention: true, States: []saga.State{saga.Confirming}})
			return err == nil && len(found) == 1 && found[0].GID == gid
		})
		if n := b.out.called(barrier.Confirm); n != 0 {
			t.Errorf("the gateway was called %d times although its branch is cancelled", n)
		}
		b.books(b.other, 1, 80, 0, 20) // the one without a conflict is done
	})
}

// An instance that lacks a kind of branch does not lose the transaction.
func TestUnknownKindIsAFailedAttempt(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick)
	gid := sagatest.GID()
	tx := b.begin(gid, saga.Options{})
	bare := sagatest.Open(t, b.db, quick)
	sagatest.Run(t, bare)
	outcome, err := bare.Confirm(t.Context(), tx.GID(), saga.Options{})
	if err != nil || outcome.State != saga.Confirming {
		t.Fatalf("%+v, %v", outcome, err)
	}
	b.reaches(gid, saga.Confirmed) // by the one that knows it, though the other one lives
	b.books(b.db, 1, 70, 0, 30)
}

func TestList(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		ctx := t.Context()
		began := time.Now().Add(-time.Hour)
		for _, gid := range []string{"list-a", "list-b", "other-c"} {
			_, err := tcc.Execute(ctx, b.orch, gid, hold{1, 1})
			sagatest.Must(t, err)
		}
		b.begin("list-open", saga.Options{})
		cases := map[string]struct {
			filter saga.Filter
			want   string
		}{
			"all":        {saga.Filter{}, "[list-a list-b list-open other-c]"},
			"prefix":     {saga.Filter{Prefix: "list-"}, "[list-a list-b list-open]"},
			"state":      {saga.Filter{States: []saga.State{saga.Trying, saga.Cancelled}}, "[list-open]"},
			"unfinished": {saga.Filter{Unfinished: true}, "[list-open]"},
			"pattern":    {saga.Filter{Pattern: "saga"}, "[]"},
			"page 1":     {saga.Filter{Limit: 2}, "[list-a list-b]"},
			"page 2":     {saga.Filter{Limit: 2, After: "list-b"}, "[list-open other-c]"},
			"after":      {saga.Filter{CreatedAfter: began}, "[list-a list-b list-open other-c]"},
			"before":     {saga.Filter{CreatedBefore: began}, "[]"},
			"attention":  {saga.Filter{Attention: true}, "[]"},
		}
		for name, c := range cases {
			found, err := b.orch.List(ctx, c.filter)
			sagatest.Must(t, err)
			got := []string{}
			for _, s := range found {
				got = append(got, s.GID)
			}
			if fmt.Sprint(got) != c.want {
				t.Errorf("%s: %v, want %s", name, got, c.want)
			}
		}
		for _, bad := range []saga.Filter{{Limit: -1}, {Limit: 1001}, {States: []saga.State{"lost"}}} {
			if _, err := b.orch.List(ctx, bad); !errors.Is(err, saga.ErrInvalid) {
				t.Errorf("%+v: %v", bad, err)
			}
		}
	})
}
