package tcc_test

import (
	"errors"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

func TestCleaning(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, forgetful())
		ctx := t.Context()
		var confirmed []string
		for range 3 {
			gid := sagatest.GID()
			_, err := tcc.Execute(ctx, b.orch, gid, hold{1, 1}, holdAway{1, 1}, holdOut{1, 1})
			sagatest.Must(t, err)
			b.reaches(gid, saga.Confirmed)
			confirmed = append(confirmed, gid)
		}
		b.away.fail(barrier.Confirm, 1, errOnPurpose)
		failed := sagatest.GID()
		_, err := tcc.Execute(ctx, b.orch, failed, holdAway{1, 1})
		sagatest.Must(t, err)
		b.reaches(failed, saga.Confirmed)
		cancelled := sagatest.GID()
		if _, err := tcc.Execute(ctx, b.orch, cancelled, holdAway{1, 1}, hold{1, 1000}); !errors.Is(err, saga.ErrCancelled) {
			t.Fatal(err)
		}
		b.reaches(cancelled, saga.Cancelled)
		// Old and unfinished: its barrier rows are needed.
		stuck := sagatest.GID()
		tx, err := tcc.Begin(ctx, b.orch, stuck)
		sagatest.Must(t, err)
		sagatest.Must(t, tx.Try(ctx, hold{2, 30}))
		sagatest.Must(t, tx.Try(ctx, holdAway{2, 30}))
		sagatest.Must(t, b.orch.PauseKind(ctx, "credit.away", alice))
		_, err = tx.Confirm(ctx)
		sagatest.Must(t, err)
		// Finished and young: it is at its retention's beginning.
		young := sagatest.GID()
		_, err = tcc.Execute(ctx, b.orch, young, hold{1, 1})
		sagatest.Must(t, err)
		sqltest.Exec(t, db, "UPDATE saga_transactions SET deadline_at = created_at WHERE gid = ?", young)
		// Finished long ago, but a Try may come until its deadline.
		undue := sagatest.GID()
		_, err = tcc.ExecuteWith(ctx, b.orch, undue, saga.Options{Timeout: time.Hour}, hold{1, 1})
		sagatest.Must(t, err)
		b.reaches(undue, saga.Confirmed)
		for _, gid := range append(confirmed, failed, cancelled, stuck) {
			b.age(gid)
		}
		sqltest.Exec(t, db, "UPDATE saga_transactions SET finished_at = created_at WHERE gid = ?", undue)
		youngRows := b.rows(young)
		for _, gid := range append(confirmed, failed, cancelled) {
			sagatest.Eventually(t, gid+" is removed", func() bool { return b.rows(gid) == noRows })
		}
		if got := b.rows(stuck); got != "1 transactions, 2 branches, 0 attempts, 0 acts, 1+1 barrier rows" {
			t.Errorf("of the unfinished one is left: %s", got)
		}
		if got := b.rows(undue); got != "1 transactions, 1 branches, 0 attempts, 0 acts, 1+0 barrier rows" {
			t.Errorf("of the one before its deadline is left: %s", got)
		}
		if youngRows != "1 transactions, 1 branches, 0 attempts, 0 acts, 1+0 barrier rows" {
			t.Errorf("of the young one is left: %s", youngRows)
		}
		sagatest.Must(t, b.orch.ResumeKind(ctx, "credit.away", alice))
		sagatest.Eventually(t, "the young one and the one that was stuck are removed in the end", func() bool {
			return b.rows(young) == noRows && b.rows(stuck) == noRows
		})
		b.books(b.other, 2, 70, 0, 30)
	})
}

// A process that dies between the databases leaves the log's rows, which name
// what is left.
func TestCleaningBrokenOff(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick) // keeps all
	gid := sagatest.GID()
	_, err := tcc.Execute(t.Context(), b.orch, gid, hold{1, 1}, holdAway{1, 1})
	sagatest.Must(t, err)
	b.reaches(gid, saga.Confirmed)
	b.age(gid)
	cleaner, second := b.open(forgetful()), b.open(forgetful())
	sqltest.Exec(t, b.db, "ALTER TABLE saga_acts RENAME TO saga_gone") // the log's part fails
	sagatest.Run(t, cleaner)
	sagatest.Eventually(t, "the other database is cleaned", func() bool {
		var n int
		sagatest.Must(t, b.other.Raw("SELECT COUNT(*) FROM saga_barrier WHERE gid = ?", gid).Scan(&n).Error)
		return n == 0
	})
	var n int
	sagatest.Must(t, b.db.Raw("SELECT COUNT(*) FROM saga_transactions t JOIN saga_barrier b ON b.gid = t.gid WHERE t.gid = ?", gid).Scan(&n).Error)
	if n != 1 {
		t.Error("the log was cleaned in part")
	}
	sqltest.Exec(t, b.db, "ALTER TABLE saga_gone RENAME TO saga_acts")
	sqltest.Exec(t, b.db, "UPDATE saga_cleaning SET next_at = '2000-01-01 00:00:00.000'") // not only after its pause
	sagatest.Run(t, second)
	sagatest.Eventually(t, "the rest is removed", func() bool { return b.rows(gid) == noRows })
}

// Branches clean what they keep themselves, here and in another database.
func TestBranchesClean(t *testing.T) {
	for where, elsewhere := range map[string]bool{"here": false, "elsewhere": true} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, sqltest.Open(t, "sqlite"), quick)
			db := b.db
			if elsewhere {
				db = b.other
			}
			sqltest.Exec(t, db, "CREATE TABLE kept (gid VARCHAR(128) PRIMARY KEY)")
			cleaner := b.open(forgetful())
			sagatest.Must(t, tcc.Register(cleaner, &keeper{db}))
			sagatest.Run(t, cleaner)
			old, young := sagatest.GID(), sagatest.GID()
			for _, gid := range []string{old, young} {
				_, err := tcc.ExecuteWith(t.Context(), cleaner, gid, saga.Options{Timeout: time.Hour}, keep{1})
				sagatest.Must(t, err)
			}
			b.reaches(old, saga.Confirmed)
			b.age(old)
			sagatest.Eventually(t, "the old row is removed", func() bool {
				var left []string
				sagatest.Must(t, db.Raw("SELECT gid FROM kept").Scan(&left).Error)
				return len(left) == 1 && left[0] == young
			})
		})
	}
}
