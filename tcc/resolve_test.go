package tcc_test

import (
	"errors"
	"strings"
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

// conflicting returns a transaction that is decided, and whose branch 02 is in
// conflict: somebody has changed the barrier row by hand, or the data is lost.
func (b *bench) conflicting(decision saga.State, change string) string {
	b.t.Helper()
	gid := sagatest.GID()
	tx, err := tcc.Begin(b.t.Context(), b.orch, gid)
	sagatest.Must(b.t, err)
	sagatest.Must(b.t, tx.Try(b.t.Context(), hold{1, 1}))
	sagatest.Must(b.t, tx.Try(b.t.Context(), holdAway{1, 3}))
	sqltest.Exec(b.t, b.other, change, gid)
	_, err = b.orch.Decide(b.t.Context(), gid, decision, alice)
	sagatest.Must(b.t, err)
	sagatest.Eventually(b.t, "a conflict", func() bool {
		found, err := b.orch.Lookup(b.t.Context(), gid)
		return err == nil && strings.HasPrefix(found.Attention, "conflict: branch 02")
	})
	return gid
}

// A conflict is resolved by an operator: the transaction goes on to its end, and the
// act says who, why, and what was believed.
func TestResolve(t *testing.T) {
	for name, c := range map[string]struct {
		decision, believed, end saga.State
		change                  string
	}{
		"confirm, changed by hand":   {saga.Confirming, saga.Cancelled, saga.Confirmed, "UPDATE saga_barrier SET state = 'cancelled' WHERE gid = ?"},
		"confirm, data lost":         {saga.Confirming, saga.Cancelled, saga.Confirmed, "DELETE FROM saga_barrier WHERE gid = ?"},
		"confirm, mended by hand":    {saga.Confirming, saga.Confirmed, saga.Confirmed, "UPDATE saga_barrier SET input = 'another' WHERE gid = ?"},
		"cancel, confirmed by hand":  {saga.Cancelling, saga.Confirmed, saga.Cancelled, "UPDATE saga_barrier SET state = 'confirmed' WHERE gid = ?"},
		"cancel, of another's calls": {saga.Cancelling, saga.Cancelled, saga.Cancelled, "UPDATE saga_barrier SET caller = 'another' WHERE gid = ?"},
	} {
		t.Run(name, func(t *testing.T) {
			sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
				config, alarms := alarmed()
				b := newBench(t, db, config)
				gid := b.conflicting(c.decision, c.change)
				alarm(t, alarms)
				// Another process may do it, that knows no kind of branch.
				sagatest.Must(t, b.openLess(quick, nil).Resolve(t.Context(), gid, "02", c.believed, bob))
				found := b.reaches(gid, c.end)
				last := found.Acts[len(found.Acts)-1]
				if last.Name != "resolve" || last.Operator != bob || last.BranchID != "02" || last.Believed != c.believed || last.At.IsZero() {
					t.Errorf("acts: %+v", found.Acts)
				}
				if found.Attention != "" || found.Branches[1].DoneAt.IsZero() {
					t.Errorf("attention %q, branch %+v", found.Attention, found.Branches[1])
				}
				if listed, err := b.orch.List(t.Context(), saga.Filter{Attention: true}); err != nil || len(listed) != 0 {
					t.Errorf("listed: %+v, %v", listed, err)
				}
				if err := b.orch.Resolve(t.Context(), gid, "02", c.believed, bob); !errors.Is(err, saga.ErrRefused) {
					t.Errorf("again: %v", err)
				}
			})
		})
	}
}

// Resolve is refused where it would break a promise, and where a retry helps; then
// nothing is recorded.
func TestResolveRefused(t *testing.T) {
	t.Parallel()
	config := patient()
	b := newBench(t, sqltest.Open(t, "sqlite"), config)
	ctx := t.Context()
	conflict := "UPDATE saga_barrier SET state = 'cancelled' WHERE gid = ?"

	undecided := sagatest.GID()
	tx, err := tcc.Begin(ctx, b.orch, undecided)
	sagatest.Must(t, err)
	sagatest.Must(t, tx.Try(ctx, holdAway{1, 1}))
	finished := sagatest.GID()
	_, err = tcc.Execute(ctx, b.orch, finished, holdAway{1, 1})
	sagatest.Must(t, err)
	b.reaches(finished, saga.Confirmed)
	b.away.fail(barrier.Confirm, 1, errOnPurpose)
	failing := sagatest.GID()
	_, err = tcc.Execute(ctx, b.orch, failing, holdAway{1, 1})
	sagatest.Must(t, err)
	sagatest.Eventually(t, "a failure", func() bool { return b.reaches(failing, saga.Confirming).Failures == 1 })
	stuck := b.conflicting(saga.Confirming, conflict)
	mended := b.conflicting(saga.Confirming, conflict)
	sqltest.Exec(t, b.other, "UPDATE saga_barrier SET state = 'tried' WHERE gid = ?", mended)

	for name, c := range map[string]struct {
		gid, branch string
		believed    saga.State
		by          saga.Operator
		want        error
		says        string
	}{
		"undecided":         {undecided, "01", saga.Confirmed, bob, saga.ErrRefused, "it is undecided"},
		"finished":          {finished, "01", saga.Confirmed, bob, saga.ErrRefused, "it is confirmed already"},
		"no conflict":       {failing, "01", saga.Confirmed, bob, saga.ErrRefused, "did not fail with a conflict"},
		"branch is done":    {stuck, "01", saga.Confirmed, bob, saga.ErrRefused, "done already"},
		"no such branch":    {stuck, "07", saga.Confirmed, bob, saga.ErrRefused, "no branch 07"},
		"a retry helps":     {mended, "02", saga.Confirmed, bob, saga.ErrRefused, "retry instead"},
		"no transaction":    {"nobody-knows", "01", saga.Confirmed, bob, saga.ErrNotFound, ""},
		"no belief":         {stuck, "02", "", bob, saga.ErrInvalid, "must be Confirmed or Cancelled"},
		"not an end":        {stuck, "02", saga.Confirming, bob, saga.ErrInvalid, "must be Confirmed or Cancelled"},
		"nobody":            {stuck, "02", saga.Confirmed, saga.Operator{Why: "x"}, saga.ErrInvalid, "Who is empty"},
		"no reason":         {stuck, "02", saga.Confirmed, saga.Operator{Who: "x"}, saga.ErrInvalid, "Why is empty"},
		"a gid that is bad": {"a b", "02", saga.Confirmed, bob, saga.ErrInvalid, ""},
	} {
		err := b.orch.Resolve(ctx, c.gid, c.branch, c.believed, c.by)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v, %q", name, err, c.want, c.says)
		}
	}
	for _, gid := range []string{undecided, finished, failing, stuck, mended} {
		found, err := b.orch.Lookup(ctx, gid)
		sagatest.Must(t, err)
		for _, act := range found.Acts {
			if act.Name == "resolve" {
				t.Errorf("%s: refused, and recorded: %+v", gid, act)
			}
		}
	}
	sagatest.Must(t, b.orch.Retry(ctx, mended, alice))
	b.reaches(mended, saga.Confirmed)
	// After a retry that fails otherwise, a conflict of before is no reason any more.
	sqltest.Exec(t, b.other, "UPDATE saga_barrier SET state = 'tried' WHERE gid = ?", stuck)
	b.away.fail(barrier.Confirm, 1, errOnPurpose)
	sagatest.Must(t, b.orch.Retry(ctx, stuck, alice))
	sagatest.Eventually(t, "one more failure", func() bool { return b.reaches(stuck, saga.Confirming).Failures == 2 })
	sqltest.Exec(t, b.other, conflict, stuck)
	if err := b.orch.Resolve(ctx, stuck, "02", saga.Cancelled, bob); !errors.Is(err, saga.ErrRefused) {
		t.Errorf("the last failure is no conflict: %v", err)
	}
}

// Two operators and a driver at once: one act is recorded, and the transaction comes
// to its end, once.
func TestResolveRaces(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick) // its driver retries all the time
		second := b.open(quick)
		sagatest.Run(t, second)
		gid := b.conflicting(saga.Confirming, "UPDATE saga_barrier SET state = 'cancelled' WHERE gid = ?")
		var all sync.WaitGroup
		results := make(chan error, 6)
		for i := range cap(results) {
			engine := []*embedded.Engine{b.orch, second}[i%2]
			all.Go(func() { results <- engine.Resolve(t.Context(), gid, "02", saga.Cancelled, bob) })
		}
		all.Wait()
		close(results)
		done := 0
		for err := range results {
			if err == nil {
				done++
			} else if !errors.Is(err, saga.ErrRefused) {
				t.Error(err)
			}
		}
		found := b.reaches(gid, saga.Confirmed)
		if done != 1 || len(found.Acts) != 2 || found.Attention != "" {
			t.Errorf("%d succeeded, acts %+v, attention %q", done, found.Acts, found.Attention)
		}
		b.books(b.db, 1, 99, 0, 1)
	})
}

// A row that is mended at the same moment: either the call succeeds and Resolve is
// refused, or Resolve wins and the call is not made any more.
func TestResolveAgainstARetryThatSucceeds(t *testing.T) {
	t.Parallel()
	config := quick
	config.MaxBackoff = 5 * time.Millisecond
	b := newBench(t, sqltest.Open(t, "sqlite"), config)
	for range 10 {
		gid := b.conflicting(saga.Confirming, "UPDATE saga_barrier SET state = 'cancelled' WHERE gid = ?")
		var both sync.WaitGroup
		var mended, resolved error
		both.Go(func() { mended = b.other.Exec("UPDATE saga_barrier SET state = 'tried' WHERE gid = ?", gid).Error })
		both.Go(func() { resolved = b.orch.Resolve(t.Context(), gid, "02", saga.Cancelled, bob) })
		both.Wait()
		sagatest.Must(t, mended)
		found := b.reaches(gid, saga.Confirmed)
		acts := 0
		for _, act := range found.Acts {
			if act.Name == "resolve" {
				acts++
			}
		}
		if resolved != nil && (!errors.Is(resolved, saga.ErrRefused) || acts != 0) || resolved == nil && acts != 1 {
			t.Errorf("%v, %d acts, barrier %+v", resolved, acts, found.Branches[1].Barrier)
		}
	}
}
