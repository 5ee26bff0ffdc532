package clean_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/clean"
	"github.com/tccsaga/tccsaga/saga/internal/test/parts"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

var errPurpose = errors.New("on purpose")

// Only what finished longer ago than the retention is removed, with all that is kept of it.
func TestRemove(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		w.finished(2*retention, "1-old", "a", "away", "remote")
		w.finished(2*retention, "2-old", "b")
		w.finished(2*retention, "3-remote", "remote")
		w.finished(retention/2, "4-young", "a", "away")
		w.finished(2*retention, "5-deadline", "a") // to come
		w.Age(db, "5-deadline", retention/2, "saga_transactions", "deadline_at")
		w.finished(2*retention, "6-not-named", "a", "away")
		ok(t, w.Remove(t.Context(), []string{"1-old", "2-old", "3-remote", "4-young", "5-deadline", "unknown"}))
		w.expect("4-young 5-deadline 6-not-named", "4-young 5-deadline 6-not-named", "4-young 6-not-named")
		if slices.Sort(w.cleaned); strings.Join(w.cleaned, ", ") != "a 1-old, away 1-old, b 2-old" {
			t.Errorf("cleaned %q", w.cleaned)
		}
	})
}

// located is a branch that writes its barrier rows itself, in a database that it names.
type located struct {
	parts.Script
	db *gorm.DB
}

func (l *located) Database() *gorm.DB { return l.db }

// The rows of a branch that is not called in the engine's local transactions are removed too,
// if it names their database.
func TestRemoveOfARemoteWithADatabase(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		w.Register(saga.NewRemote("there", parts.Encode, &located{db: w.other}))
		w.Register(saga.NewRemote("here", parts.Encode, &located{db: db}))
		w.finished(2*retention, "1-old", "there", "here")
		w.finished(retention/2, "2-young", "there", "here")
		ok(t, w.Remove(t.Context(), []string{"1-old", "2-young"}))
		for name, at := range map[string]*gorm.DB{"here": db, "there": w.other} {
			if got := w.left(at, "saga_barrier"); got != "2-young" {
				t.Errorf("%s: %q are left", name, got)
			}
		}
		if got := w.left(db, "saga_transactions"); got != "2-young" {
			t.Errorf("the log has %q", got)
		}
	})
}

// What is not finished stays, however old it is.
func TestRemoveLeavesWhatIsNotFinished(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		w.Decided(saga.Confirming, time.Hour, "confirming", "a")
		w.Decided(saga.Cancelling, time.Hour, "cancelling", "away")
		w.Insert(w.Start(w.Prepare("trying", "b")))
		gids := []string{"confirming", "cancelling", "trying"}
		for _, gid := range gids {
			w.Age(db, gid, 10*retention, "saga_transactions", "deadline_at", "decided_at", "created_at")
		}
		ok(t, w.Remove(t.Context(), gids))
		if got := w.left(db, "saga_transactions"); got != "cancelling confirming trying" || len(w.cleaned) > 0 {
			t.Errorf("%s are left, cleaned %v", got, w.cleaned)
		}
	})
}

// A kind whose Clean fails keeps its transactions, with all that is kept of them. The others
// are removed.
func TestACleanThatFails(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, kind := range []string{"a", "away"} {
			w := newWorld(t, db)
			w.finished(2*retention, "1-both", "a", "away")
			w.finished(2*retention, "2-a", "a", "b")
			w.finished(2*retention, "3-away", "away", "b")
			w.finished(2*retention, "4-b", "b", "remote")
			gids := []string{"1-both", "2-a", "3-away", "4-b"}
			w.fails[kind] = errPurpose
			if err := w.Remove(t.Context(), gids); !errors.Is(err, errPurpose) || !errors.Is(err, call.ErrClean) || strings.Count(err.Error(), "on purpose") != 1 {
				t.Errorf("%s: %v", kind, err)
			}
			if kind == "a" {
				// The other database comes first; the log names the transaction until the end.
				w.expect("1-both 2-a", "1-both 2-a", "")
			} else {
				w.expect("1-both 3-away", "1-both 3-away", "1-both 3-away")
			}
			w.fails = nil
			ok(t, w.Remove(t.Context(), gids))
			w.expect("", "", "")
			ok(t, db.Exec("DROP TABLE kept").Error)
		}
	})
}

// Two kinds that fail are both named.
func TestTwoCleansThatFail(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	for gid, kind := range map[string]string{"1": "a", "2": "b", "3": "away", "4": "remote"} {
		w.finished(2*retention, gid, kind)
	}
	w.fails = map[string]error{"a": errPurpose, "b": errPurpose, "away": errPurpose}
	err := w.Remove(t.Context(), []string{"1", "2", "3", "4"})
	for _, kind := range []string{"a", "b", "away"} {
		if err == nil || !strings.Contains(err.Error(), "failed to clean: "+kind+": on purpose") {
			t.Error(err)
		}
	}
	w.expect("1 2 3", "1 2", "3")
}

// A transaction with a kind that is not known here is left to another instance, until the
// kind must be retired.
func TestRemoveLeavesUnknownKinds(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		w.finished(3*retention/2, "1-unknown", "a")
		w.finished(5*retention/2, "2-retired", "a", "b")
		ok(t, db.Exec("UPDATE saga_branches SET kind = 'elsewhere' WHERE branch_id = '01'").Error)
		w.finished(3*retention/2, "3-known", "b")
		ok(t, w.Remove(t.Context(), []string{"1-unknown", "2-retired", "3-known"}))
		if got := w.left(db, "saga_transactions"); got != "1-unknown" {
			t.Errorf("%s are left", got)
		}
		if got := w.left(db, "saga_barrier"); got != "1-unknown" {
			t.Errorf("%s have barrier rows", got)
		}
	})
}

// As long as a call is under way elsewhere, under the same gid, the log names it.
func TestRemoveLeavesWhatIsUnderWayElsewhere(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		w.finished(2*retention, "1-young", "away", "a")
		w.Age(w.other, "1-young", time.Second, "saga_barrier", "confirmed_at")
		w.finished(2*retention, "2-tried", "away", "a")
		ok(t, w.other.Exec("UPDATE saga_barrier SET state = 'tried', confirmed_at = NULL WHERE gid = '2-tried'").Error)
		w.finished(2*retention, "3-old", "away", "a")
		ok(t, w.Remove(t.Context(), []string{"1-young", "2-tried", "3-old"}))
		w.expect("1-young 2-tried", "1-young 2-tried", "1-young 2-tried")
	})
}

// A gid may be a new transaction by the time the log's rows are removed.
func TestAGIDIsUsedAgainMeanwhile(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		w.finished(2*retention, "g", "away", "a")
		away, err := w.Kit.Registry.Branch("away")
		ok(t, err)
		away.Clean = func(context.Context, *gorm.DB, []string) error {
			w.Age(db, "g", 0, "saga_transactions", "finished_at", "deadline_at")
			return nil
		}
		ok(t, w.Remove(t.Context(), []string{"g"}))
		if got := w.left(db, "saga_transactions") + w.left(db, "saga_barrier") + w.left(db, "saga_branches"); got != "ggg" {
			t.Errorf("%q is left", got)
		}
	})
}

// Run removes what is old. When nothing new is begun any more, it ends after its batch.
func TestRun(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		w.finished(2*retention, "1-old", "a")
		w.finished(0, "2-young", "b")
		stopping := make(chan struct{})
		w.Stopping = stopping
		a, err := w.Kit.Registry.Branch("a")
		ok(t, err)
		a.Clean = func(_ context.Context, tx *gorm.DB, _ []string) error {
			close(stopping)
			return tx.Exec("DELETE FROM kept WHERE kind = 'a'").Error
		}
		w.Run(t.Context())
		w.expect("2-young", "2-young", "")
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	w.finished(2*retention, "g", "a")
	ctx, cancel := context.WithCancel(t.Context())
	a, err := w.Kit.Registry.Branch("a")
	ok(t, err)
	a.Clean = func(ctx context.Context, _ *gorm.DB, _ []string) error { cancel(); return ctx.Err() }
	w.Run(ctx)
	w.expect("g", "g", "")
}

func TestRunForever(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	w.Retention = clean.Forever
	w.finished(1000*time.Hour, "g", "a")
	w.Run(t.Context()) // returns at once
	w.expect("g", "g", "")
}
