package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// faultyBulk runs a bulk action with a fault, and then without, until a fault comes after its
// end. Each transaction is acted on once.
func faultyBulk(t *testing.T, act string, fault func(loss *sqltest.Loss, in int), hit func(loss *sqltest.Loss, before int) bool) {
	t.Parallel()
	db, loss := sqltest.OpenLossy(t)
	engine := sagatest.Open(t, db, embedded.Config{Lease: time.Hour, Poll: time.Hour, Retention: embedded.Forever})
	o := engine.Operations()
	for in := 1; ; in++ {
		prefix := fmt.Sprintf("open-%d", in)
		openMany(t, db, prefix, 3)
		switch act {
		case "resume":
			sqltest.Exec(t, db, "UPDATE saga_transactions SET paused_at = created_at WHERE gid LIKE '"+prefix+"-%'")
		case "retry": // it can be made again and again
			sqltest.Exec(t, db, "UPDATE saga_transactions SET state = 'confirming', decided_at = created_at WHERE gid LIKE '"+prefix+"-%'")
		}
		bulk := freeze(t, o, act, prefix, 3)
		before := loss.Count()
		fault(loss, in)
		for run := 1; ; run++ {
			again, err := o.RunBulk(t.Context(), bulk.ID, nil)
			if err == nil && !again.FinishedAt.IsZero() {
				break
			}
			if run == 3 {
				t.Fatalf("fault %d: %+v, %v", in, again, err)
			}
		}
		wasHit := hit(loss, before)
		fault(loss, 0)
		hasRun(t, db, o, bulk.ID, 3, 0, 0)
		if !wasHit {
			t.Logf("%d faults", in-1)
			if in < 10 {
				t.Error("the faults do not reach into the bulk action")
			}
			return
		}
	}
}

// The answer to a COMMIT is lost, at each COMMIT of a bulk action, and the database has committed
// or not.
func TestBulkWithLostCommits(t *testing.T) {
	for _, act := range []string{"retry", "pause", "resume", "confirm", "cancel"} {
		for _, committed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, committed %t", act, committed), func(t *testing.T) {
				faultyBulk(t, act, func(loss *sqltest.Loss, in int) { loss.Arm(in, committed) },
					func(loss *sqltest.Loss, before int) bool { return loss.Count() > before })
			})
		}
	}
}

// The connection is lost, before each statement of a bulk action.
func TestBulkWithLostConnections(t *testing.T) {
	for _, act := range []string{"retry", "cancel"} {
		t.Run(act, func(t *testing.T) {
			faultyBulk(t, act, func(loss *sqltest.Loss, in int) { loss.Cut(in) },
				func(loss *sqltest.Loss, _ int) bool { return loss.WasCut() })
		})
	}
}

// A list whose writing breaks off is not shown, and cannot be run.
func TestBulkListThatBreaksOff(t *testing.T) {
	t.Parallel()
	for _, committed := range []bool{false, true} {
		db, loss := sqltest.OpenLossy(t)
		engine := sagatest.Open(t, db, embedded.Config{Lease: time.Hour, Poll: time.Hour, Retention: embedded.Forever})
		o, ctx := engine.Operations(), t.Context()
		openMany(t, db, "open", 2500)
		broken := 0
		for in := 1; ; in++ {
			before := loss.Count()
			loss.Arm(in, committed)
			_, err := o.FreezeBulk(ctx, "pause", saga.Query{}, operator)
			loss.Arm(0, false)
			if loss.Count() == before {
				sagatest.Must(t, err)
				break
			}
			if err != nil {
				broken++
			}
		}
		if broken < 4 {
			t.Errorf("only %d lists broke off", broken)
		}
		shown, _, err := o.Bulks(ctx, "", 100)
		sagatest.Must(t, err)
		for _, b := range shown {
			if n := count(t, db, "saga_bulk_targets", "open-00001"); b.Total != 2500 || n == 0 {
				t.Errorf("%+v is shown", b)
			}
		}
		var hidden []string
		sagatest.Must(t, db.Raw("SELECT id FROM saga_bulk_acts WHERE total < 0").Scan(&hidden).Error)
		if len(hidden) == 0 {
			t.Error("no list broke off after its begin")
		}
		for _, id := range hidden {
			if _, err := o.RunBulk(ctx, id, nil); !errors.Is(err, saga.ErrNotFound) {
				t.Errorf("a list that is not complete: %v", err)
			}
		}
		if acts, err := o.Actions(ctx, saga.ActionQuery{}); err != nil || len(acts.Actions) != 0 {
			t.Errorf("there are acts: %+v, %v", acts, err)
		}
	}
}

// The end of the context stops a bulk action between two transactions, and any process continues
// it.
func TestBulkIsContinued(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		o := sagatest.Open(t, db, still).Operations()
		openMany(t, db, "open", 450)
		for _, act := range []string{"pause", "cancel"} {
			bulk := freeze(t, o, act, "open", 450)
			ctx, cancel := context.WithCancel(t.Context())
			part, err := o.RunBulk(ctx, bulk.ID, func(b saga.BulkAction) {
				if b.Done > 0 {
					cancel()
				}
			})
			if !errors.Is(err, context.Canceled) || part.Done != 200 || !part.FinishedAt.IsZero() || part.StartedAt.IsZero() {
				t.Errorf("%s, with the context ended: %+v, %v", act, part, err)
			}
			if now, err := o.Bulk(t.Context(), bulk.ID); err != nil || now.Done != 200 || now.Total != 450 {
				t.Errorf("%s: %+v, %v", act, now, err)
			}
			other, err := embedded.OpenOperations(t.Context(), db, embedded.OperationsConfig{})
			sagatest.Must(t, err)
			run(t, other, bulk.ID)
			other.Close()
			hasRun(t, db, o, bulk.ID, 450, 0, 0)
		}
	})
}

// Processes may run the same bulk action side by side.
func TestBulkSideBySide(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		passive, err := embedded.OpenOperations(t.Context(), db, embedded.OperationsConfig{})
		sagatest.Must(t, err)
		t.Cleanup(passive.Close)
		all := []*embedded.Operations{opened(t, db, still).Operations(), opened(t, db, still).Operations(), passive}
		openMany(t, db, "open", 250)
		for _, act := range []string{"pause", "resume", "cancel"} {
			bulk := freeze(t, passive, act, "open", 250)
			var running sync.WaitGroup
			for _, o := range all {
				running.Go(func() {
					if end, err := o.RunBulk(t.Context(), bulk.ID, nil); err != nil || end.FinishedAt.IsZero() || end.Done != 250 {
						t.Errorf("%s: %+v, %v", act, end, err)
					}
				})
			}
			running.Wait()
			hasRun(t, db, passive, bulk.ID, 250, 0, 0)
		}
	})
}

// A process that has read the list acts on nothing on which another one has acted meanwhile.
func TestBulkWithAListThatIsOutOfDate(t *testing.T) {
	for _, act := range []string{"retry", "pause", "cancel"} {
		t.Run(act, func(t *testing.T) {
			t.Parallel()
			database := sqltest.Create(t, "sqlite")
			db, loss := sqltest.ConnectLossy(t, database)
			config := embedded.Config{Lease: time.Hour, Poll: time.Hour, Retention: embedded.Forever}
			first := sagatest.Open(t, db, config).Operations()
			second := sagatest.Open(t, sqltest.Connect(t, database, &gorm.Config{}), config).Operations()
			openMany(t, db, "open", 5)
			if act == "retry" { // it can be made again and again
				sqltest.Exec(t, db, "UPDATE saga_transactions SET state = 'confirming', decided_at = created_at")
			}
			bulk := freeze(t, first, act, "open", 5)
			var once sync.Once
			_, err := first.RunBulk(t.Context(), bulk.ID, func(saga.BulkAction) {
				// The next COMMIT is that of the reading of the list.
				once.Do(func() { loss.After(func() { run(t, second, bulk.ID) }) })
			})
			sagatest.Must(t, err)
			hasRun(t, db, first, bulk.ID, 5, 0, 0)
		})
	}
}

// A retry could be made twice on one transaction without harm to its state, so only the list
// keeps it from that.
func TestBulkRetriesOnce(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		all := []*embedded.Operations{sagatest.Open(t, db, still).Operations(), sagatest.Open(t, db, still).Operations()}
		openMany(t, db, "open", 100)
		sqltest.Exec(t, db, "UPDATE saga_transactions SET state = 'confirming', decided_at = created_at")
		bulk := freeze(t, all[0], "retry", "open", 100)
		var running sync.WaitGroup
		for _, o := range all {
			running.Go(func() { run(t, o, bulk.ID) })
		}
		running.Wait()
		hasRun(t, db, all[0], bulk.ID, 100, 0, 0)
	})
}

// A list of ten thousand transactions is run to its end.
func TestBulkOfTenThousand(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		many := 10_000
		if db.Name() != "sqlite" {
			many = 1200 // each act is a commit to a disk; this is more than a page of every kind
		}
		o := sagatest.Open(t, db, still).Operations()
		openMany(t, db, "open", many)
		bulk := freeze(t, o, "pause", "open", many)
		reports, last := 0, -1
		began := time.Now()
		_, err := o.RunBulk(t.Context(), bulk.ID, func(b saga.BulkAction) {
			if b.Done < last {
				t.Errorf("%d done, and before %d", b.Done, last)
			}
			reports, last = reports+1, b.Done
		})
		sagatest.Must(t, err)
		t.Logf("%d acts in %s", many, time.Since(began))
		if reports < many/200 || last != many {
			t.Errorf("%d reports, the last one of %d", reports, last)
		}
		hasRun(t, db, o, bulk.ID, many, 0, 0)
	})
}

// Lists that nobody starts are removed after a day, and finished ones after the retention. A list
// that was started stays until it is finished.
func TestBulkCleaning(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		engine := sagatest.Open(t, db, embedded.Config{Lease: time.Hour, Retention: time.Hour})
		o, ctx := engine.Operations(), t.Context()
		openMany(t, db, "open", 1200)
		lists := map[string]saga.BulkAction{}
		for _, name := range []string{"forgotten", "young", "started", "finished", "just finished", "broken off"} {
			lists[name] = freeze(t, o, "pause", "open", 1200)
		}
		set := func(name, what string) {
			sqltest.Exec(t, db, "UPDATE saga_bulk_acts SET "+what+" WHERE id = ?", lists[name].ID)
		}
		old, recent := ago(db, 25*time.Hour), ago(db, time.Minute)
		set("forgotten", "created_at = "+old)
		set("started", "created_at = "+old+", started_at = "+old)
		set("finished", "started_at = "+ago(db, 2*time.Hour)+", finished_at = "+ago(db, 2*time.Hour))
		set("just finished", "created_at = "+old+", started_at = "+old+", finished_at = "+recent)
		set("broken off", "total = -1, created_at = "+old)
		sagatest.Must(t, engine.CleanBulks(ctx))
		for name, removed := range map[string]bool{"forgotten": true, "finished": true, "broken off": true, "young": false, "started": false, "just finished": false} {
			var targets int
			sagatest.Must(t, db.Raw("SELECT COUNT(*) FROM saga_bulk_targets WHERE bulk_id = ?", lists[name].ID).Scan(&targets).Error)
			if _, err := o.Bulk(ctx, lists[name].ID); errors.Is(err, saga.ErrNotFound) != removed || (targets == 0) != removed {
				t.Errorf("%s: %v, with %d targets", name, err, targets)
			}
		}
		if _, err := o.RunBulk(ctx, lists["forgotten"].ID, nil); !errors.Is(err, saga.ErrNotFound) {
			t.Errorf("a list that was removed: %v", err)
		}
	})
}

// A list that a person starts in the moment in which it would be removed stays.
func TestBulkThatBeginsWhileItIsCleaned(t *testing.T) {
	t.Parallel()
	database := sqltest.Create(t, "sqlite")
	db, loss := sqltest.ConnectLossy(t, database)
	config := embedded.Config{Lease: time.Hour, Poll: time.Hour, Retention: time.Hour}
	engine, ctx := sagatest.Open(t, db, config), t.Context()
	o := sagatest.Open(t, sqltest.Connect(t, database, &gorm.Config{}), config).Operations()
	openMany(t, db, "open", 3)
	for range 2 {
		freeze(t, o, "pause", "open", 3)
	}
	sqltest.Exec(t, db, "UPDATE saga_bulk_acts SET created_at = "+ago(db, 25*time.Hour))
	var started saga.BulkAction
	loss.After(func() { // the first list is being removed
		page, _, err := o.Bulks(ctx, "", 0)
		if err != nil || len(page) != 1 {
			t.Errorf("%+v, %v", page, err)
			return
		}
		if started, err = o.RunBulk(ctx, page[0].ID, nil); err != nil || started.FinishedAt.IsZero() {
			t.Errorf("%+v, %v", started, err)
		}
	})
	sagatest.Must(t, engine.CleanBulks(ctx))
	if all := results(t, o, started.ID); len(all) != 3 {
		t.Errorf("of the list are left: %q", all)
	}
	if page, _, err := o.Bulks(ctx, "", 0); err != nil || len(page) != 1 {
		t.Errorf("%+v, %v", page, err)
	}
}

// The cleaning of a running engine removes them.
func TestBulkIsCleaned(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		first := sagatest.Open(t, db, still).Operations()
		openMany(t, db, "open", 1)
		forgotten := freeze(t, first, "pause", "open", 1)
		sqltest.Exec(t, db, "UPDATE saga_bulk_acts SET created_at = "+ago(db, 25*time.Hour))
		opened(t, db, embedded.Config{Lease: time.Hour, Retention: time.Hour})
		sagatest.Eventually(t, "the list is removed", func() bool {
			_, err := first.Bulk(t.Context(), forgotten.ID)
			return errors.Is(err, saga.ErrNotFound)
		})
	})
}
