package clean_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/clean"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// hosted writes barrier rows as a call from elsewhere does: final, and so old.
func (w *world) hosted(ago time.Duration, gid, branch, kind string, ops ...barrier.Op) {
	w.t.Helper()
	b, err := w.Kit.Registry.Branch(kind)
	ok(w.t, err)
	for _, op := range ops {
		request := barrier.Request{Key: barrier.Key{GID: gid, BranchID: branch}, Op: op, Caller: "@elsewhere", Kind: kind}
		_, err := barrier.Do(w.t.Context(), b.Database, request, func(*gorm.DB) error { return nil })
		ok(w.t, err)
	}
	ok(w.t, b.Database.Exec("DELETE FROM kept WHERE gid = ? AND kind = ?", gid, kind).Error)
	ok(w.t, b.Database.Exec("INSERT INTO kept VALUES (?, ?)", gid, kind).Error)
	for state, column := range map[barrier.State]string{barrier.StateConfirmed: "confirmed_at", barrier.StateCancelled: "cancelled_at", barrier.StateSuspended: "cancelled_at"} {
		if rows := w.Rows(b.Database, gid); strings.Contains(rows, branch+" "+string(state)) {
			w.Age(b.Database, gid, ago, "saga_barrier", column)
		}
	}
}

func (w *world) clean() (int, error) {
	return clean.Hosted(w.t.Context(), w.Kit.Registry, w.Kit.Calls, retention)
}

// expectHosted compares the gids of the barrier rows in both databases, and of what the
// branches keep.
func (w *world) expectHosted(here, there string) {
	w.t.Helper()
	for _, table := range []string{"saga_barrier", "kept"} {
		if got := w.left(w.Kit.DB, table); got != here {
			w.t.Errorf("%s has %q, want %q", table, got, here)
		}
		if got := w.left(w.other, table); got != there {
			w.t.Errorf("%s elsewhere has %q, want %q", table, got, there)
		}
	}
}

// A participant removes transactions all of whose branches in a database are final and old,
// and that the log there does not name.
func TestHosted(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		old := 2 * retention
		w.hosted(old, "1-confirmed", "01", "a", barrier.Try, barrier.Confirm)
		w.hosted(old, "2-cancelled", "01", "b", barrier.Try, barrier.Cancel)
		w.hosted(old, "3-suspended", "01", "away", barrier.Cancel)
		w.hosted(old, "4-tried", "01", "a", barrier.Try)
		w.hosted(old, "5-partly", "01", "a", barrier.Try, barrier.Confirm)
		w.hosted(old, "5-partly", "02", "b", barrier.Try)
		w.hosted(retention/2, "6-young", "01", "away", barrier.Try, barrier.Confirm)
		w.hosted(old, "7-two-places", "01", "a", barrier.Try, barrier.Confirm)
		w.hosted(old, "7-two-places", "02", "away", barrier.Try)
		w.finished(old, "8-in-the-log", "a")
		removed, err := w.clean()
		if removed != 4 || err != nil {
			t.Errorf("%d removed, %v", removed, err)
		}
		w.expectHosted("4-tried 5-partly 8-in-the-log", "6-young 7-two-places")
		if slices.Sort(w.cleaned); strings.Join(w.cleaned, ", ") != "a 1-confirmed 7-two-places, away 3-suspended, b 2-cancelled" {
			t.Errorf("cleaned %q", w.cleaned)
		}
		if removed, err := w.clean(); removed != 0 || err != nil {
			t.Errorf("%d removed once more, %v", removed, err)
		}
	})
}

// A kind whose Clean fails keeps its transactions in its database. The others are removed,
// and the failure is returned.
func TestHostedWithACleanThatFails(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		old := 2 * retention
		w.hosted(old, "1-a", "01", "a", barrier.Try, barrier.Confirm)
		w.hosted(old, "2-both", "01", "a", barrier.Try, barrier.Confirm)
		w.hosted(old, "2-both", "02", "b", barrier.Try, barrier.Confirm)
		w.hosted(old, "3-b", "01", "b", barrier.Try, barrier.Confirm)
		w.hosted(old, "4-away", "01", "away", barrier.Try, barrier.Confirm)
		w.fails["a"] = errPurpose
		removed, err := w.clean()
		if removed != 2 || !errors.Is(err, errPurpose) || !errors.Is(err, call.ErrClean) || strings.Count(err.Error(), "on purpose") != 1 {
			t.Errorf("%d removed, %v", removed, err)
		}
		w.expectHosted("1-a 2-both", "")
		w.fails["b"] = errPurpose
		w.fails["a"] = nil
		if removed, err := w.clean(); removed != 1 || !errors.Is(err, errPurpose) {
			t.Errorf("%d removed, %v", removed, err)
		}
		w.expectHosted("2-both", "")
		w.fails = nil
		if removed, err := w.clean(); removed != 1 || err != nil {
			t.Errorf("%d removed, %v", removed, err)
		}
		w.expectHosted("", "")
	})
}

// Rows from before the barrier knew kinds may be of any kind.
func TestHostedRowsWithoutAKind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	w.hosted(2*retention, "1", "01", "a", barrier.Try, barrier.Confirm)
	ok(t, w.Kit.DB.Exec("UPDATE saga_barrier SET kind = ''").Error)
	w.fails["b"] = errPurpose
	if removed, err := w.clean(); removed != 0 || !errors.Is(err, errPurpose) {
		t.Errorf("%d removed, %v", removed, err)
	}
	w.expectHosted("1", "")
	w.fails = nil
	if removed, err := w.clean(); removed != 1 || err != nil {
		t.Errorf("%d removed, %v", removed, err)
	}
	w.expectHosted("", "")
}

// A database that fails keeps no other from being cleaned.
func TestHostedWithADatabaseThatFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	w.hosted(2*retention, "1", "01", "a", barrier.Try, barrier.Confirm)
	w.hosted(2*retention, "2", "01", "away", barrier.Try, barrier.Confirm)
	ok(t, w.Kit.DB.Exec("ALTER TABLE saga_barrier RENAME TO moved").Error)
	removed, err := w.clean()
	if removed != 1 || err == nil || !strings.Contains(err.Error(), "saga_barrier") {
		t.Errorf("%d removed, %v", removed, err)
	}
	if got := w.left(w.other, "kept"); got != "" {
		t.Errorf("%s are left", got)
	}
}
