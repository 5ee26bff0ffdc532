package clean_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/clean"
	"github.com/tccsaga/tccsaga/saga/internal/test/parts"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

const retention = time.Hour

// world has a Cleaner and branches that keep a row of each transaction: "a" and "b" in the
// log's database, "away" in another one, and "remote".
type world struct {
	*parts.Kit
	*clean.Cleaner
	other   *gorm.DB
	fails   map[string]error // of Clean, by kind
	cleaned []string         // kinds with the gids that their Clean was called with
	t       testing.TB
}

func newWorld(t testing.TB, db *gorm.DB) *world {
	t.Helper()
	w := &world{Kit: parts.New(t, db), other: sqltest.Open(t, db.Name()), fails: map[string]error{}, t: t}
	k := w.Kit
	w.Cleaner = clean.New(clean.Parts{DB: db, Log: k.Log, Registry: k.Registry, Calls: k.Calls, Logger: k.Logger, Warn: k.Warn,
		Stopping: make(chan struct{}), Retention: retention, CallTimeout: parts.CallTimeout, MinRest: time.Millisecond})
	for _, at := range []*gorm.DB{db, w.other} {
		ok(t, at.Exec("CREATE TABLE kept (gid VARCHAR(128), kind VARCHAR(64), PRIMARY KEY (gid, kind))").Error)
	}
	w.keeping("a", nil)
	w.keeping("b", nil)
	w.keeping("away", w.other)
	w.Remote("remote", &parts.Script{})
	return w
}

// keeping registers a kind of branch whose Clean removes rows.
func (w *world) keeping(kind string, database *gorm.DB) {
	w.t.Helper()
	w.Register(saga.NewLocal(kind, parts.Encode, saga.Local{Database: database, Work: new(parts.Script).Work,
		Clean: func(_ context.Context, tx *gorm.DB, gids []string) error {
			sorted := slices.Sorted(slices.Values(gids))
			w.cleaned = append(w.cleaned, kind+" "+strings.Join(sorted, " "))
			ok(w.t, tx.Exec("DELETE FROM kept WHERE kind = ? AND gid IN ?", kind, gids).Error)
			return w.fails[kind]
		}}))
}

// finished writes a transaction that was confirmed some time ago.
func (w *world) finished(ago time.Duration, gid string, kinds ...string) {
	w.t.Helper()
	transaction := w.Decided(saga.Confirming, time.Hour, gid, kinds...)
	for _, s := range transaction.Steps {
		w.Barrier(transaction, s, barrier.Confirm)
		if database := s.Branch.Database; database != nil {
			ok(w.t, database.Exec("INSERT INTO kept VALUES (?, ?)", gid, s.Kind).Error)
			w.Age(database, gid, ago, "saga_barrier", "confirmed_at")
		}
	}
	w.In(func(tx *gorm.DB) error {
		if err := w.Kit.Log.Attempted(w.t.Context(), tx, gid, txlog.Failure{BranchID: "01", Operation: "confirm", Attempt: 1}); err != nil {
			return err
		}
		if err := w.Kit.Log.Record(w.t.Context(), tx, txlog.Act{GID: gid, Name: "retry", Who: "alice"}); err != nil {
			return err
		}
		return w.Kit.Log.Finish(w.t.Context(), tx, gid, 1)
	})
	w.Age(w.Kit.DB, gid, ago, "saga_transactions", "finished_at", "deadline_at")
}

// left returns the gids of a table, in order.
func (w *world) left(db *gorm.DB, table string) string {
	w.t.Helper()
	var gids []string
	ok(w.t, db.Raw("SELECT DISTINCT gid FROM "+table+" WHERE gid <> '' ORDER BY gid").Scan(&gids).Error)
	return strings.Join(gids, " ")
}

// expect compares what is left of transactions in the log, in its database, and in the
// other one.
func (w *world) expect(log, here, there string) {
	w.t.Helper()
	for _, table := range []string{"saga_transactions", "saga_branches", "saga_attempts", "saga_acts"} {
		if got := w.left(w.Kit.DB, table); got != log {
			w.t.Errorf("%s has %q, want %q", table, got, log)
		}
	}
	for _, table := range []string{"saga_barrier", "kept"} {
		if got := w.left(w.Kit.DB, table); got != here {
			w.t.Errorf("%s has %q, want %q", table, got, here)
		}
		if got := w.left(w.other, table); got != there {
			w.t.Errorf("%s elsewhere has %q, want %q", table, got, there)
		}
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
