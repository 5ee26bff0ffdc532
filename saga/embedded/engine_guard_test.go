package embedded_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// A finished transaction with a kind that an instance does not know is left to
// another one, until the kind must be retired.
func TestCleaningLeavesKindsThatAreUnknown(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, still)
		_, err := p.execute("known", take{N: 1}, "plain")
		sagatest.Must(t, err)
		config := still
		config.Retention = time.Hour
		stranger := sagatest.Open(t, db, config)
		ageTransaction(t, db, "known", 90*time.Minute)
		sagatest.Must(t, stranger.CleanGIDs(t.Context(), "known"))
		if n := count(t, db, "saga_transactions", "known") + count(t, db, "saga_barrier", "known"); n != 2 {
			t.Errorf("after once and a half of the retention %d rows are left", n)
		}
		ageTransaction(t, db, "known", 150*time.Minute)
		sagatest.Must(t, stranger.CleanGIDs(t.Context(), "known"))
		if n := count(t, db, "saga_transactions", "known") + count(t, db, "saga_barrier", "known"); n != 0 {
			t.Errorf("after more than twice the retention %d rows are left", n)
		}
	})
}

// Cleaning looks again, in the log, before it removes anything elsewhere, and right
// before it removes what the log has: a gid may be a new transaction by then.
func TestAGIDThatIsUsedAgainWhileCleaning(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, still)
		other := sqltest.Open(t, "sqlite")
		again := func(*gorm.DB, []string) error {
			for _, table := range []string{"saga_transactions", "saga_branches", "saga_barrier"} {
				if err := db.Exec("DELETE FROM " + table + " WHERE gid = 'used'").Error; err != nil {
					return err
				}
			}
			_, err := p.execute("used", take{N: 1}, "bulk")
			return err
		}
		cleaner := p.away(other, again)
		_, err := cleaner.Execute(t.Context(), p.plan("used", take{N: 1}, "plain", "bulk"))
		sagatest.Must(t, err)
		ageBarrier(t, other, "used", 365*24*time.Hour)
		sagatest.Must(t, cleaner.CleanGIDs(t.Context(), "used")) // as a replica that lags behind names it
		if n := count(t, other, "saga_barrier", "used"); n != 1 {
			t.Errorf("%d barrier rows are left elsewhere of a transaction that is not old", n)
		}
		ageTransaction(t, db, "used", 365*24*time.Hour)
		sagatest.Must(t, cleaner.CleanGIDs(t.Context(), "used"))
		if n := count(t, db, "saga_transactions", "used"); n != 1 {
			t.Errorf("%d rows are left of a transaction that has begun meanwhile", n)
		}
		if n := count(t, db, "saga_barrier", "used"); n != 1 {
			t.Errorf("%d barrier rows are left of it", n)
		}
	})
}

// A barrier row elsewhere that is not final stays, and the log goes on naming it.
func TestCleaningLeavesWhatIsUnderWayElsewhere(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, still)
		other := sqltest.Open(t, "sqlite")
		cleaner := p.away(other, noClean)
		for _, gid := range []string{"final", "tried"} {
			_, err := cleaner.Execute(t.Context(), p.plan(gid, take{N: 1}, "plain", "bulk"))
			sagatest.Must(t, err)
			settle(t, cleaner, gid)
			ageTransaction(t, db, gid, 365*24*time.Hour)
			ageBarrier(t, other, gid, 365*24*time.Hour)
		}
		sagatest.Must(t, other.Exec("UPDATE saga_barrier SET state = 'tried' WHERE gid = 'tried'").Error)
		sagatest.Must(t, cleaner.CleanGIDs(t.Context(), "final", "tried"))
		if n := count(t, db, "saga_transactions", "final") + count(t, other, "saga_barrier", "final"); n != 0 {
			t.Errorf("%d rows are left of what is final", n)
		}
		if here, there := count(t, db, "saga_transactions", "tried"), count(t, other, "saga_barrier", "tried"); here != 1 || there != 1 {
			t.Errorf("of what is not final are left %d rows here and %d there", here, there)
		}
	})
}

// A kind whose Clean fails keeps its own transactions, and no others.
func TestCleaningGoesOnWithoutAKindThatFails(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, still)
		other := sqltest.Open(t, "sqlite")
		cleaner := p.away(other, func(*gorm.DB, []string) error { return errors.New("on purpose") })
		for gid, kinds := range map[string][]string{"bad": {"plain", "bulk"}, "good": {"bulk"}} {
			_, err := cleaner.Execute(t.Context(), p.plan(gid, take{N: 1}, kinds...))
			sagatest.Must(t, err)
			settle(t, cleaner, gid)
			ageTransaction(t, db, gid, 365*24*time.Hour)
			ageBarrier(t, other, gid, 365*24*time.Hour)
		}
		if err := cleaner.CleanGIDs(t.Context(), "bad", "good"); err == nil {
			t.Error("no error")
		}
		if bad, good := count(t, db, "saga_transactions", "bad"), count(t, db, "saga_transactions", "good"); bad != 1 || good != 0 {
			t.Errorf("%d rows are left of the bad one, %d of the good one", bad, good)
		}
	})
}

// A Clean that does not return is not called again until it has.
func TestACleanThatHangsIsCalledOnce(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	p := idlePots(t, db, still)
	var calls atomic.Int64
	release := make(chan struct{})
	hasty := still
	hasty.CallTimeout = 50 * time.Millisecond
	cleaner := p.openWith(hasty, func(b *spec) {
		if b.Kind == "plain" {
			b.Clean = func(context.Context, *gorm.DB, []string) error { calls.Add(1); <-release; return nil }
		}
	})
	_, err := cleaner.Execute(t.Context(), p.plan("kept", take{N: 1}, "plain"))
	sagatest.Must(t, err)
	ageTransaction(t, db, "kept", 365*24*time.Hour)
	for range 2 {
		if err := cleaner.CleanGIDs(t.Context(), "kept"); err == nil {
			t.Error("no error")
		}
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("%d calls", n)
	}
	close(release)
	sagatest.Eventually(t, "it is cleaned", func() bool { return cleaner.CleanGIDs(t.Context(), "kept") == nil })
	if n := count(t, db, "saga_transactions", "kept"); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

// A transaction that was begun with branches, and whose branches cannot be found, is
// not finished without them.
func TestAPlanWithoutBranchesIsNotFinished(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, still)
		_, err := p.execute("bare", take{N: 1, Fault: fault{"sent", failingSend}}, "sent")
		sagatest.Must(t, err)
		sagatest.Must(t, db.Exec("DELETE FROM saga_branches WHERE gid = 'bare'").Error)
		sagatest.Run(t, p.orch)
		var epoch int64
		sagatest.Eventually(t, "it was taken over again and again", func() bool {
			// It may lose a deadlock with a claim; the next one does not.
			db.Exec("UPDATE saga_transactions SET due_at = created_at WHERE gid = 'bare' AND due_at IS NOT NULL")
			found, err := p.orch.Lookup(t.Context(), "bare")
			sagatest.Must(t, err)
			epoch = found.Epoch
			return epoch > 3 || found.State.Finished()
		})
		if state := p.state("bare"); state != saga.Confirming {
			t.Errorf("at epoch %d it is %s", epoch, state)
		}
	})
}

// An instance that decides, and does not know a kind of branch, leaves the driving
// to one that does, also if the transaction is paused for a while.
func TestADecisionIsHandedOver(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, still)
		for _, how := range []string{"confirm", "deadline"} {
			sagatest.Must(t, p.orch.Begin(t.Context(), saga.Opening{GID: how}))
			sagatest.Must(t, p.orch.Try(t.Context(), how, "01", saga.Step{Kind: "plain", Input: take{N: 1}}))
		}
		stranger := sagatest.Open(t, db, still)
		sagatest.Must(t, stranger.Pause(t.Context(), "confirm", operator))
		outcome, err := stranger.Confirm(t.Context(), "confirm", saga.Options{})
		if err != nil || outcome.State != saga.Confirming {
			t.Fatalf("%+v, %v", outcome, err)
		}
		sagatest.Run(t, stranger)
		sagatest.Must(t, db.Exec("UPDATE saga_transactions SET deadline_at = created_at, due_at = created_at WHERE gid = 'deadline'").Error)
		sagatest.Eventually(t, "the deadline is met", func() bool { return p.state("deadline") == saga.Cancelling })
		sagatest.Must(t, stranger.Resume(t.Context(), "confirm", operator))
		sagatest.Run(t, p.orch)
		sagatest.Eventually(t, "another instance drives them", func() bool {
			return p.state("confirm") == saga.Confirmed && p.state("deadline") == saga.Cancelled
		})
		p.books(0, 999, 0, 1)
	})
}

// Resolve is the way out of a conflict, and of nothing else.
func TestResolveIsRefused(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, still)
		refused := func(what, gid, branch string) {
			t.Helper()
			if err := p.orch.Resolve(t.Context(), gid, branch, saga.Confirmed, operator); !errors.Is(err, saga.ErrRefused) {
				t.Errorf("%s: %v", what, err)
			}
			if n := count(t, db, "saga_acts", gid); n != 0 {
				t.Errorf("%s: %d acts are recorded", what, n)
			}
		}
		open := func(gid string) {
			sagatest.Must(t, p.orch.Begin(t.Context(), saga.Opening{GID: gid}))
			sagatest.Must(t, p.orch.Try(t.Context(), gid, "01", saga.Step{Kind: "plain", Input: take{N: 1}}))
			sagatest.Must(t, p.orch.Try(t.Context(), gid, "02", saga.Step{Kind: "sent", Input: take{N: 1, Fault: fault{"sent", failingSend}}}))
		}
		confirm := func(gid string) {
			outcome, err := p.orch.Confirm(t.Context(), gid, saga.Options{})
			if err != nil || outcome.State != saga.Confirming {
				t.Fatalf("%+v, %v", outcome, err)
			}
		}
		open("undecided")
		sagatest.Must(t, db.Exec("UPDATE saga_barrier SET state = 'cancelled' WHERE gid = 'undecided' AND branch_id = '02'").Error)
		refused("an undecided one", "undecided", "02")
		open("failing")
		confirm("failing")
		refused("one whose call can succeed", "failing", "02")
		sagatest.Must(t, db.Exec("UPDATE saga_barrier SET state = 'cancelled' WHERE gid = 'failing' AND branch_id = '02'").Error)
		refused("one whose last call has only failed", "failing", "02")
		refused("a branch that is done", "failing", "01")
		refused("a branch that it has not", "failing", "07")

		open("conflict")
		sagatest.Must(t, db.Exec("UPDATE saga_barrier SET state = 'cancelled' WHERE gid = 'conflict' AND branch_id = '02'").Error)
		confirm("conflict")
		sagatest.Must(t, db.Exec("UPDATE saga_barrier SET state = 'tried' WHERE gid = 'conflict' AND branch_id = '02'").Error)
		refused("a conflict that is mended", "conflict", "02")
		sagatest.Must(t, db.Exec("UPDATE saga_barrier SET state = 'cancelled' WHERE gid = 'conflict' AND branch_id = '02'").Error)
		sagatest.Must(t, p.orch.Resolve(t.Context(), "conflict", "02", saga.Cancelled, operator))
		open("mended")
		sagatest.Must(t, db.Exec("UPDATE saga_barrier SET state = 'cancelled' WHERE gid = 'mended' AND branch_id = '01'").Error)
		confirm("mended")
		sagatest.Must(t, db.Exec("UPDATE saga_barrier SET state = 'tried' WHERE gid = 'mended' AND branch_id = '01'").Error)
		sagatest.Run(t, p.orch)
		sagatest.Eventually(t, "it ends without that branch", func() bool { return p.state("conflict") == saga.Confirmed })
		sagatest.Eventually(t, "the mended branch is done", func() bool {
			found, err := p.orch.Lookup(t.Context(), "mended")
			sagatest.Must(t, err)
			return !found.Branches[0].DoneAt.IsZero()
		})
		refused("a branch that is done after a conflict", "mended", "01")
		if n := count(t, db, "saga_acts", "conflict"); n != 1 {
			t.Errorf("%d acts are recorded", n)
		}
		p.faulty.Store(false)
	})
}

// The outside part of a call is not made on what another engine has reserved under
// the same gid.
func TestOutsideOfAnotherTransaction(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := idlePots(t, db, still)
		var calls atomic.Int64
		sagatest.Must(t, register(p.orch, outside("out", func(saga.Call) error { calls.Add(1); return nil })))
		sagatest.Must(t, p.orch.Begin(t.Context(), saga.Opening{GID: "shared"}))
		sagatest.Must(t, db.Exec("INSERT INTO saga_branches (gid, branch_id, kind, payload) VALUES ('shared', '01', 'out', '{}')").Error)
		_, err := barrier.Do(t.Context(), db, barrier.Request{Key: barrier.Key{GID: "shared", BranchID: "01"}, Op: barrier.Try, Caller: "somebody", Kind: "out", Input: []byte("{}")}, func(*gorm.DB) error { return nil })
		sagatest.Must(t, err)
		if outcome, err := p.orch.Cancel(t.Context(), "shared", "on purpose"); err != nil || outcome.State != saga.Cancelling {
			t.Errorf("%+v, %v", outcome, err)
		}
		if n := calls.Load(); n != 0 {
			t.Errorf("%d calls", n)
		}
		if found, err := p.orch.Lookup(t.Context(), "shared"); err != nil || found.Attention == "" {
			t.Errorf("%+v, %v", found, err)
		}
	})
}

// A Try commits between the look at the barrier, which has found nothing to cancel,
// and the write of its row: Cancel begins anew, and makes its outside part too.
func TestATrySlipsInBetween(t *testing.T) {
	t.Parallel()
	for kind, apart := range map[string]bool{"here": false, "apart": true} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			db := sqltest.Open(t, "postgres") // whose locking read does not see a row that is being inserted
			p := idlePots(t, db, still)
			var cancels atomic.Int64
			branch := spec{Kind: kind, Encode: func(input any) ([]byte, error) { return json.Marshal(input) }, Work: p.inside,
				Effects: map[barrier.Op]saga.Effect{
					barrier.Cancel: func(context.Context, saga.Call) (any, error) { cancels.Add(1); return nil, nil }}}
			there := db
			if apart {
				there = sqltest.Open(t, "postgres")
				sagatest.Must(t, there.Exec("CREATE TABLE pots (id INT PRIMARY KEY, free INT NOT NULL, held INT NOT NULL, sold INT NOT NULL)").Error)
				sagatest.Must(t, there.Exec("INSERT INTO pots VALUES (0, 1000, 0, 0)").Error)
				branch.Database = there
			}
			sagatest.Must(t, register(p.orch, branch))
			sagatest.Must(t, p.orch.Begin(t.Context(), saga.Opening{GID: "slips"}))
			payload, err := json.Marshal(take{N: 1})
			sagatest.Must(t, err)
			sagatest.Must(t, db.Exec("INSERT INTO saga_branches (gid, branch_id, kind, payload) VALUES ('slips', '01', ?, ?)", kind, string(payload)).Error)
			var logID string
			sagatest.Must(t, db.Raw("SELECT log_id FROM saga_schema").Scan(&logID).Error)

			trying := there.Begin()
			defer trying.Rollback()
			_, err = barrier.Call(t.Context(), trying, barrier.Request{Key: barrier.Key{GID: "slips", BranchID: "01"}, Op: barrier.Try, Caller: logID, Kind: kind, Input: payload})
			sagatest.Must(t, err)
			sagatest.Must(t, p.move(trying, barrier.Try, take{N: 1}))
			cancelled := make(chan error, 1)
			go func() {
				_, err := p.orch.Cancel(t.Context(), "slips", "on purpose")
				cancelled <- err
			}()
			sagatest.Eventually(t, "Cancel waits for the row", func() bool {
				var n int
				sagatest.Must(t, there.Raw("SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()").Scan(&n).Error)
				return n > 0
			})
			sagatest.Must(t, trying.Commit().Error)
			sagatest.Must(t, <-cancelled)
			sagatest.Run(t, p.orch)
			sagatest.Eventually(t, "it is cancelled", func() bool { return p.state("slips") == saga.Cancelled })
			if n := cancels.Load(); n != 1 {
				t.Errorf("the outside part of Cancel was made %d times", n)
			}
			(&pots{t: t, db: there}).books(0, 1000, 0, 0)
		})
	}
}
