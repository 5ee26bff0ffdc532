package embedded_test

import (
	"context"
	"errors"
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

// Each decision in a batch has the answer that it has alone, and holds up no other. Of two
// decisions for one transaction the first one counts.
func TestDecisionsOfOpenTransactionsInABatch(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		fails := spec{Kind: "fails", Remote: remote(func(saga.Call) error { return errors.New("on purpose") })}
		engine := opened(t, db, embedded.Config{Lease: time.Hour, Retention: embedded.Forever}, rejecting("plain"), fails)
		ctx := t.Context()
		for _, gid := range []string{"a", "b", "cancel", "twice", "both", "untried", "late", "decided", "foreign", "foreign2"} {
			pattern := "tcc"
			if strings.HasPrefix(gid, "foreign") {
				pattern = "other"
			}
			sagatest.Must(t, engine.Begin(ctx, saga.Opening{GID: gid, Pattern: pattern}))
			if err := engine.Try(ctx, gid, "01", saga.Step{Kind: "plain"}); err != nil {
				t.Fatalf("%s: %v", gid, err)
			}
		}
		if err := engine.Try(ctx, "untried", "02", saga.Step{Kind: "fails"}); err == nil {
			t.Error("a Try that fails has succeeded")
		}
		sagatest.Must(t, db.Exec("UPDATE saga_transactions SET deadline_at = created_at WHERE gid = 'late'").Error)
		_, err := engine.Confirm(ctx, "decided", saga.Options{})
		sagatest.Must(t, err)

		confirm := func(gid string, e saga.Engine) error { return second(e.Confirm(ctx, gid, saga.Options{})) }
		cancel := func(gid string, e saga.Engine) error { return second(e.Cancel(ctx, gid, "on purpose")) }
		calls := []struct {
			gid    string
			decide func(string, saga.Engine) error
			want   error
		}{
			{"a", confirm, nil}, {"b", confirm, nil}, {"cancel", cancel, nil}, {"twice", confirm, nil}, {"twice", confirm, nil},
			{"both", confirm, nil}, {"both", cancel, nil}, // one of them fails; see below
			{"untried", confirm, saga.ErrNotTried}, {"late", confirm, saga.ErrCancelled}, {"decided", confirm, nil},
			{"foreign", confirm, saga.ErrNotFound}, {"foreign2", cancel, saga.ErrNotFound}, {"unknown", confirm, saga.ErrNotFound},
		}
		failures := make([]error, len(calls))
		engine.GatherWrites(len(calls))
		within := engine.Within("tcc")
		var callers sync.WaitGroup
		for i, c := range calls {
			callers.Go(func() { failures[i] = c.decide(c.gid, within) })
		}
		callers.Wait()
		for i, c := range calls {
			switch {
			case c.gid == "both":
			case c.want == nil && failures[i] != nil, !errors.Is(failures[i], c.want):
				t.Errorf("%s: %v, want %v", c.gid, failures[i], c.want)
			}
		}
		state := ends(t, engine, "both")
		if confirmed, cancelled := failures[5], failures[6]; state == saga.Confirmed != (confirmed == nil) || state == saga.Cancelled != (cancelled == nil) ||
			confirmed != nil && !errors.Is(confirmed, saga.ErrCancelled) || cancelled != nil && !errors.Is(cancelled, saga.ErrConfirmed) {
			t.Errorf("it is %s, and confirming it says %v, cancelling it %v", state, confirmed, cancelled)
		}
		for gid, want := range map[string]saga.State{"a": saga.Confirmed, "b": saga.Confirmed, "cancel": saga.Cancelled, "twice": saga.Confirmed,
			"decided": saga.Confirmed, "late": saga.Cancelled} {
			if got := ends(t, engine, gid); got != want {
				t.Errorf("%s is %s, want %s", gid, got, want)
			}
		}
		for _, gid := range []string{"untried", "foreign", "foreign2"} {
			if found, err := engine.Lookup(ctx, gid); err != nil || found.State != saga.Trying {
				t.Errorf("%s: %+v, %v", gid, found, err)
			}
		}
	})
}

// A branch outside the log's database is not added to a transaction of another pattern, also if
// other transactions share the commit.
func TestForeignTriesInABatch(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		engine := opened(t, db, embedded.Config{Lease: time.Hour, Retention: embedded.Forever}, spec{Kind: "far", Remote: remote(func(saga.Call) error { return nil })})
		for _, gid := range []string{"a", "b", "foreign"} {
			sagatest.Must(t, engine.Begin(t.Context(), saga.Opening{GID: gid, Pattern: map[string]string{"foreign": "other"}[gid]}))
		}
		engine.GatherWrites(2)
		failures := tryAll(t, engine, "01", "far", []string{"a", "b"})
		sagatest.Must(t, errors.Join(failures...))
		engine.GatherWrites(2)
		if err := tryAll(t, engine.Within("tcc"), "02", "far", []string{"foreign", "foreign"}); !errors.Is(err[0], saga.ErrNotFound) || !errors.Is(err[1], saga.ErrNotFound) {
			t.Errorf("%v", err)
		}
		if n := count(t, db, "saga_branches", "foreign"); n != 0 {
			t.Errorf("it has %d branches", n)
		}
	})
}

// A COMMIT of shared decisions that is not answered is made certain, whether it was made or not.
func TestUnansweredDecisionsOfOpenTransactions(t *testing.T) {
	t.Parallel()
	for _, committed := range []bool{true, false} {
		db, loss := sqltest.OpenLossy(t)
		engine := opened(t, db, embedded.Config{Lease: time.Hour, Poll: time.Hour, Retention: embedded.Forever}, rejecting("plain"))
		gids := []string{"g", "h", "i"}
		for _, gid := range gids {
			sagatest.Must(t, engine.Begin(t.Context(), saga.Opening{GID: gid}))
			sagatest.Must(t, engine.Try(t.Context(), gid, "01", saga.Step{Kind: "plain"}))
		}
		engine.GatherWrites(len(gids))
		loss.Arm(1, committed)
		var callers sync.WaitGroup
		for _, gid := range gids {
			callers.Go(func() {
				if outcome, err := engine.Confirm(context.WithoutCancel(t.Context()), gid, saga.Options{}); err != nil || outcome.State != saga.Confirmed && outcome.State != saga.Confirming {
					t.Errorf("made: %v: %+v, %v", committed, outcome, err)
				}
			})
		}
		callers.Wait()
		loss.Arm(0, false)
		if loss.Count() != 1 {
			t.Errorf("%d COMMITs were not answered", loss.Count())
		}
		for _, gid := range gids {
			if found, err := engine.Lookup(t.Context(), gid); err != nil || !found.State.Decided() || found.State == saga.Cancelled {
				t.Errorf("made: %v: %+v, %v", committed, found, err)
			}
		}
	}
}
