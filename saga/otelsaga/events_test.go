package otelsaga_test

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
)

func TestEventsOfAConfirm(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s, r := newShop(t, db), newRecorder()
		engine := s.start(embedded.Config{}, r)
		one, two := sagatest.GID(), sagatest.GID()
		_, err := engine.Execute(t.Context(), plan(one, stock, stock))
		sagatest.Must(t, err)
		r.check(t, one, "execute starts", "decided confirming by caller", "finished confirmed", "execute ends")
		for _, branch := range []string{"/01", "/02"} {
			r.check(t, one+branch, "try 1", "try 1: ok, run", "confirm 1", "confirm 1: ok, run")
		}
		_, err = engine.Execute(t.Context(), plan(two, stock, card))
		sagatest.Must(t, err)
		r.check(t, two, "execute starts", "decided confirming by caller", "finished confirmed", "execute ends")
		for _, branch := range []string{"/01", "/02"} {
			r.check(t, two+branch, "try 1", "try 1: ok, run", "confirm 1", "confirm 1: ok, run")
		}
		// A repeated call has no events but its own.
		_, err = engine.Execute(t.Context(), plan(two, stock, card))
		sagatest.Must(t, err)
		r.check(t, two, "execute starts", "decided confirming by caller", "finished confirmed", "execute ends", "execute starts", "execute ends")
	})
}

func TestEventsOfACancel(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s, r := newShop(t, db), newRecorder()
		engine := s.start(embedded.Config{}, r)
		reject := func(context.Context, *gorm.DB, saga.Call) error {
			return saga.RejectCode("card.limit", errors.New("no"))
		}
		s.on(card, barrier.Try, reject)
		gid, alone := sagatest.GID(), sagatest.GID()
		if _, err := engine.Execute(t.Context(), plan(gid, stock, card)); !errors.Is(err, saga.ErrCancelled) {
			t.Fatalf("Execute: %v", err)
		}
		r.check(t, gid, "execute starts", "decided cancelling by caller card.limit", "finished cancelled", "execute ends")
		r.check(t, gid+"/01", "try 1", "try 1: ok, run", "cancel 1", "cancel 1: ok, run")
		r.check(t, gid+"/02", "try 1", "try 1: rejected, run", "cancel 1", "cancel 1: ok, empty rollback")

		s.on(stock, barrier.Try, reject)
		if _, err := engine.Execute(t.Context(), plan(alone, stock)); !errors.Is(err, saga.ErrCancelled) {
			t.Fatalf("Execute: %v", err)
		}
		r.check(t, alone, "execute starts", "decided cancelling by caller card.limit", "finished cancelled", "execute ends")
	})
}

func TestEventsOfAnOpenTransaction(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s, r := newShop(t, db), newRecorder()
		engine := s.start(embedded.Config{}, r)
		gid, expired := sagatest.GID(), sagatest.GID()
		sagatest.Must(t, engine.Begin(t.Context(), saga.Opening{GID: gid, Pattern: "shop"}))
		sagatest.Must(t, engine.Try(t.Context(), gid, "01", saga.Step{Kind: stock}))
		sagatest.Must(t, engine.Try(t.Context(), gid, "02", saga.Step{Kind: card}))
		_, err := engine.Confirm(t.Context(), gid, saga.Options{})
		sagatest.Must(t, err)
		r.check(t, gid, "begin starts", "begin ends", "try starts", "try ends", "try starts", "try ends",
			"confirm starts", "decided confirming by caller", "finished confirmed", "confirm ends")
		r.check(t, gid+"/02", "try 1", "try 1: ok, run", "confirm 1", "confirm 1: ok, run")

		sagatest.Must(t, engine.Begin(t.Context(), saga.Opening{GID: expired, Pattern: "shop", Timeout: time.Millisecond}))
		r.check(t, expired, "begin starts", "begin ends", "decided cancelling by deadline deadline", "finished cancelled")
	})
}

// A repeated call has its own events, with its attempt.
func TestEventsOfARetry(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s, r := newShop(t, db), newRecorder()
		s.on(card, barrier.Confirm, failing(2))
		engine := s.start(embedded.Config{Limits: embedded.Limits{Failures: 1, Cooldown: time.Millisecond}}, r)
		gid := sagatest.GID()
		_, err := engine.Execute(t.Context(), plan(gid, card, stock))
		sagatest.Must(t, err)
		r.check(t, gid+"/01", "try 1", "try 1: ok, run", "confirm 1", "confirm 1: failed, run", "confirm 2", "confirm 2: failed, run", "confirm 3", "confirm 3: ok, run")
		r.check(t, gid+"/02", "try 1", "try 1: ok, run", "confirm 1", "confirm 1: ok, run")
		sagatest.Eventually(t, "the circuit was opened and closed", func() bool { return r.has("CircuitOpened") && r.has("CircuitClosed") })
	})
}

func TestEventsOfAConflict(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s, r := newShop(t, db), newRecorder()
		engine := s.start(embedded.Config{MinBackoff: time.Hour, MaxBackoff: time.Hour}, r)
		gid := sagatest.GID()
		s.on(stock, barrier.Try, func(ctx context.Context, _ *gorm.DB, call saga.Call) error {
			return s.cards.WithContext(ctx).Exec("DELETE FROM saga_barrier WHERE gid = ?", call.GID).Error
		})
		_, err := engine.Execute(t.Context(), plan(gid, card, stock))
		sagatest.Must(t, err)
		r.check(t, gid+"/01", "try 1", "try 1: ok, run", "confirm 1", "confirm 1: conflict, conflict")
		r.check(t, gid, "execute starts", "decided confirming by caller", "attention conflict", "execute ends")
	})
}

// Another instance takes over, and its events follow.
func TestEventsOfATakeover(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s, dead, next := newShop(t, db), newRecorder(), newRecorder()
		s.on(card, barrier.Confirm, failing(1))
		gone := s.open(embedded.Config{Lease: 2 * time.Second, MinBackoff: time.Hour, MaxBackoff: time.Hour}, dead)
		gid := sagatest.GID()
		_, err := gone.Execute(t.Context(), plan(gid, card))
		sagatest.Must(t, err)
		dead.check(t, gid, "execute starts", "decided confirming by caller", "execute ends")
		dead.check(t, gid+"/01", "try 1", "try 1: ok, run", "confirm 1", "confirm 1: failed, run")
		sqltest.Exec(t, db, "DELETE FROM saga_instances") // it is gone
		sqltest.Exec(t, db, "UPDATE saga_transactions SET due_at = created_at WHERE gid = ?", gid)
		sqltest.Exec(t, db, "UPDATE saga_attempts SET next_at = failed_at WHERE gid = ?", gid)
		s.start(embedded.Config{}, next)
		next.check(t, gid, "finished confirmed")
		next.check(t, gid+"/01", "confirm 2", "confirm 2: ok, run")
		if got := next.of(""); len(got) == 0 || got[0] != "TakenOver" {
			t.Errorf("%v", got)
		}
	})
}

func TestEventsOfALease(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s, r := newShop(t, db), newRecorder()
		s.start(embedded.Config{Lease: 300 * time.Millisecond}, r)
		sqltest.Exec(t, db, "ALTER TABLE saga_instances RENAME TO saga_gone") // the heartbeat fails
		sagatest.Eventually(t, "the lease is lost", func() bool { return r.has("LeaseLost") })
		sqltest.Exec(t, db, "ALTER TABLE saga_gone RENAME TO saga_instances")
		sagatest.Eventually(t, "the lease is held again", func() bool { return r.has("LeaseHeldAgain") })
	})
}

func TestEventsOfAPausedKind(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s, r := newShop(t, db), newRecorder()
		engine := s.start(embedded.Config{}, r)
		by := saga.Operator{Who: "alice", Why: "maintenance"}
		sagatest.Must(t, engine.PauseKind(t.Context(), card, by))
		sagatest.Must(t, engine.ResumeKind(t.Context(), card, by))
		r.check(t, "", "KindPaused", "KindResumed")
	})
}

// Each COMMIT that is not answered is told of once, and the decision is told of once.
func TestEventsOfAnUnansweredCommit(t *testing.T) {
	t.Parallel()
	for in := 1; in <= 4; in++ {
		for _, committed := range []bool{false, true} {
			t.Run(fmt.Sprint(in, committed), func(t *testing.T) {
				db, loss := sqltest.OpenLossy(t)
				s, r := newShop(t, db), newRecorder()
				engine := s.start(embedded.Config{MaxBatch: 1, Lease: time.Hour}, r)
				gid := sagatest.GID()
				loss.Arm(in, committed)
				_, err := engine.Execute(t.Context(), plan(gid, stock, card))
				loss.Arm(0, false)
				sagatest.Must(t, err)
				sagatest.Reach(t, engine, gid, saga.Confirmed)
				lost := 0
				for _, e := range r.of("") {
					if e == "CommitUnanswered" {
						lost++
					}
				}
				if lost != loss.Count() {
					t.Errorf("%d events, and %d COMMITs were not answered", lost, loss.Count())
				}
				r.check(t, gid, "execute starts", "decided confirming by caller", "finished confirmed", "execute ends")
			})
		}
	}
}

// Calls in shared commits have an event each, and batches have their sizes.
func TestEventsOfBatches(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s, r := newShop(t, db), newRecorder()
		engine := s.start(embedded.Config{}, r)
		var gids []string
		var running sync.WaitGroup
		for i := range 40 {
			gid := sagatest.GID()
			gids = append(gids, gid)
			running.Go(func() {
				kinds := []string{stock}
				if i%2 == 1 {
					kinds = []string{card}
				}
				if _, err := engine.Execute(t.Context(), plan(gid, kinds...)); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
		for _, gid := range gids {
			r.check(t, gid, "execute starts", "decided confirming by caller", "finished confirmed", "execute ends")
			r.check(t, gid+"/01", "try 1", "try 1: ok, run", "confirm 1", "confirm 1: ok, run")
		}
		if n := r.size("decide"); n != 20 {
			t.Errorf("%d transactions were decided in batches, want 20", n)
		}
		if n := r.size("calls"); n != 40 {
			t.Errorf("%d calls of cards, want 40: a Try and a Confirm of each", n)
		}
		if n := r.size("log"); n != 60 {
			t.Errorf("%d writes of the log, want 60: a begin, a decision and an end of each with a card", n)
		}
	})
}
