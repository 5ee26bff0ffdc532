package tcc_test

import (
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/participant"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// A kind whose Clean fails in whatever way keeps its own transactions, and no others;
// when it is mended, they go too.
func TestOneKindThatCannotClean(t *testing.T) {
	for where, elsewhere := range map[string]bool{"here": false, "elsewhere": true} {
		release := make(chan struct{})
		for name, fault := range cleanFaults(release) {
			t.Run(where+", "+name, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, sqltest.Open(t, "sqlite"), quick)
				db := b.db
				if elsewhere {
					db = b.other
				}
				sqltest.Exec(t, db, "CREATE TABLE kept (gid VARCHAR(128) PRIMARY KEY)")
				sqltest.Exec(t, b.db, "CREATE TABLE IF NOT EXISTS kept (gid VARCHAR(128) PRIMARY KEY)")
				config := forgetful()
				config.CallTimeout = 500 * time.Millisecond
				cleaner := b.open(config)
				bad := &badCleaner{keeper: keeper{db}, broken: fault.clean}
				sagatest.Must(t, tcc.Register(cleaner, bad))
				sagatest.Must(t, tcc.Register(cleaner, &keeper{b.db}))
				sagatest.Run(t, cleaner)
				var good, kept []string
				for range 3 {
					gid, other := sagatest.GID(), sagatest.GID()
					_, err := tcc.ExecuteWith(t.Context(), cleaner, gid, saga.Options{Timeout: time.Hour}, keepBad{1})
					sagatest.Must(t, err)
					_, err = tcc.ExecuteWith(t.Context(), cleaner, other, saga.Options{Timeout: time.Hour}, keep{1}, holdAway{1, 1})
					sagatest.Must(t, err)
					kept, good = append(kept, gid), append(good, other)
				}
				for _, gid := range append(good, kept...) {
					b.reaches(gid, saga.Confirmed)
					b.age(gid)
				}
				for _, gid := range good {
					sagatest.Eventually(t, gid+" is removed", func() bool { return b.rows(gid) == noRows })
				}
				sagatest.Eventually(t, "the bad one is called", func() bool { return bad.calls.Load() > 0 })

				var left int
				sagatest.Must(t, db.Raw("SELECT COUNT(*) FROM kept WHERE gid IN ?", kept).Scan(&left).Error)
				if left != 3 {
					t.Errorf("of the bad one's rows %d are left", left)
				}
				for _, gid := range kept {
					if b.rows(gid) == noRows {
						t.Errorf("%s has been removed", gid)
					}
				}
				bad.mu.Lock()
				bad.broken = nil
				bad.mu.Unlock()
				if fault.hangs {
					if n := bad.calls.Load(); n != 1 {
						t.Errorf("called %d times while it hangs", n)
					}
					close(release)
				}
				for _, gid := range kept {
					sagatest.Eventually(t, gid+" is removed", func() bool { return b.rows(gid) == noRows })
				}
			})
		}
	}
}

// The same for a participant, which does not know when transactions end.
func TestOneKindOfAParticipantThatCannotClean(t *testing.T) {
	release := make(chan struct{})
	for name, fault := range cleanFaults(release) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := sqltest.Open(t, "sqlite")
			sqltest.Exec(t, db, "CREATE TABLE kept (gid VARCHAR(128) PRIMARY KEY)")
			p, err := participant.New(t.Context(), db, participant.Config{CallTimeout: 500 * time.Millisecond, Logger: quiet})
			sagatest.Must(t, err)
			bad := &badCleaner{keeper: keeper{db}, broken: fault.clean}
			sagatest.Must(t, tcc.Register(p, bad))
			sagatest.Must(t, tcc.Register(p, &keeper{db}))
			for _, call := range []saga.Call{
				{GID: "bad", BranchID: "01", Kind: "a.bad", Payload: []byte(`{"N":1}`)},
				{GID: "good", BranchID: "01", Kind: "test.keep", Payload: []byte(`{"N":1}`)},
			} {
				for _, op := range []barrier.Op{barrier.Try, barrier.Confirm} {
					call.Op = op
					sagatest.Must(t, p.Call(t.Context(), call))
				}
			}
			sqltest.Exec(t, db, "UPDATE saga_barrier SET confirmed_at = '2020-01-01 00:00:00.000', tried_at = '2020-01-01 00:00:00.000'")
			if n, err := p.Clean(t.Context(), time.Hour); n != 1 || err == nil {
				t.Errorf("removed %d, %v", n, err)
			}
			var left []string
			sagatest.Must(t, db.Raw("SELECT gid FROM saga_barrier").Scan(&left).Error)
			if len(left) != 1 || left[0] != "bad" {
				t.Errorf("left: %q", left)
			}
			bad.mu.Lock()
			bad.broken = nil
			bad.mu.Unlock()
			if fault.hangs {
				if _, err := p.Clean(t.Context(), time.Hour); err == nil || bad.calls.Load() != 1 {
					t.Errorf("while it hangs: %v, called %d times", err, bad.calls.Load())
				}
				close(release)
			}
			sagatest.Eventually(t, "it is removed too", func() bool {
				n, err := p.Clean(t.Context(), time.Hour)
				return n == 1 && err == nil
			})
		})
	}
}
