package embedded_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// A caller does not wait for the commit that writes the end: it is told when every branch has
// ended. Who asks the same engine about the transaction waits for that commit.
func TestToldBeforeTheEndIsWritten(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rejects bool
		want    saga.State
		now     saga.State // in the log
	}{
		"confirmed": {false, saga.Confirmed, saga.Confirming},
		"cancelled": {true, saga.Cancelled, saga.Cancelling},
	} {
		for _, dialect := range []string{"mysql", "postgres"} { // SQLite has one lock for all
			t.Run(name+"/"+dialect, func(t *testing.T) {
				t.Parallel()
				db, other := sqltest.Open(t, dialect), sqltest.Open(t, dialect)
				var lock *gorm.DB // held since the last call of a branch
				last := func(_ context.Context, _ *gorm.DB, call saga.Call) error {
					if call.Op == barrier.Confirm || call.Op == barrier.Cancel {
						lock = db.Begin()
						return lock.Exec("SELECT gid FROM saga_transactions WHERE gid = ? FOR UPDATE", call.GID).Error
					}
					return nil
				}
				branches := []spec{{Kind: "away", Database: other, Work: last}, {Kind: "no", Database: other, Work: func(context.Context, *gorm.DB, saga.Call) error {
					return saga.Reject(errors.New("no"))
				}}}
				engine := opened(t, db, embedded.Config{}, branches...)
				reader := opened(t, db, embedded.Config{}, branches...)
				plan := planOf("told", "away")
				if c.rejects {
					plan = planOf("told", "away", "no")
				}
				outcome, err := engine.Execute(t.Context(), plan)
				if outcome.State != c.want || (err != nil) != c.rejects {
					t.Fatalf("%s, %v", outcome.State, err)
				}
				states, err := reader.States(t.Context(), "told")
				if err != nil || states["told"] != c.now {
					t.Errorf("another engine reads %s, %v", states["told"], err)
				}
				time.AfterFunc(100*time.Millisecond, func() { lock.Rollback() })
				found, err := engine.Lookup(t.Context(), "told")
				if err != nil || found.State != c.want {
					t.Errorf("Lookup: %v, %v", found, err)
				}
				if states, err = engine.States(t.Context(), "told"); err != nil || states["told"] != c.want {
					t.Errorf("States: %v, %v", states, err)
				}
				if again, _ := engine.Execute(t.Context(), plan); again.State != c.want {
					t.Errorf("the same again: %s", again.State)
				}
			})
		}
	}
}

// If the end cannot be written, because another instance has taken the transaction over, what
// the caller was told comes true: the calls are duplicates, and the other instance writes the
// same end.
func TestToldAndTakenOver(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		other := sqltest.Open(t, db.Dialector.Name())
		confirms := 0
		work := func(_ context.Context, _ *gorm.DB, call saga.Call) error {
			if call.Op != barrier.Confirm {
				return nil
			}
			confirms++
			return db.Exec("UPDATE saga_transactions SET epoch = epoch + 1, due_at = created_at WHERE gid = ?", call.GID).Error
		}
		engine := opened(t, db, embedded.Config{}, spec{Kind: "away", Database: other, Work: work})
		outcome, err := engine.Execute(t.Context(), planOf("told", "away"))
		if err != nil || outcome.State != saga.Confirmed {
			t.Fatalf("%s, %v", outcome.State, err)
		}
		if state := ends(t, engine, "told"); state != saga.Confirmed || confirms != 1 {
			t.Errorf("it ends as %s after %d Confirms", state, confirms)
		}
		row, err := barrier.Look(t.Context(), other, "told")
		sagatest.Must(t, err)
		if len(row) != 1 || row[0].State != barrier.StateConfirmed {
			t.Errorf("barrier rows: %v", row)
		}
	})
}
