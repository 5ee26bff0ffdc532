package embedded_test

import (
	"context"
	"errors"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// waiting returns a branch of another service, which is down after its Try.
func waiting() saga.Branch {
	return saga.NewRemote("away", func(any) ([]byte, error) { return []byte("{}"), nil }, away{})
}

type away struct{}

func (away) Call(_ context.Context, call saga.Call) error {
	if call.Op == "try" {
		return nil
	}
	return errors.New("on purpose")
}

// openedAway returns an engine and the gid of an open transaction with a branch elsewhere.
func openedAway(t *testing.T, db *gorm.DB) (engine *embedded.Engine, log, gid string) {
	t.Helper()
	engine = sagatest.Open(t, db, embedded.Config{})
	sagatest.Must(t, engine.Register(waiting()))
	sagatest.Run(t, engine)
	gid = sagatest.GID()
	sagatest.Must(t, engine.Begin(t.Context(), saga.Opening{GID: gid}))
	sagatest.Must(t, engine.Try(t.Context(), gid, "01", saga.Step{Kind: "away"}))
	sagatest.Must(t, db.Raw("SELECT log_id FROM saga_schema").Scan(&log).Error)
	return engine, log, gid
}

func TestOutcome(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		engine, log, gid := openedAway(t, db)
		expect := func(log, gid string, want saga.State, wantErr error) {
			t.Helper()
			if got, err := engine.Outcome(t.Context(), log, gid); got != want || !errors.Is(err, wantErr) {
				t.Errorf("%q, %v, want %q, %v", got, err, want, wantErr)
			}
		}
		by := saga.Operator{Who: "bob", Why: "test"}
		expect(log, gid, saga.Trying, nil)
		expect(log, "never-seen", "", saga.ErrNotFound)
		expect(log, "a b", "", saga.ErrInvalid)
		for _, other := range []string{"", "other", "@" + log, "-"} {
			expect(other, gid, "", saga.ErrOtherLog)
			expect(other, "never-seen", "", saga.ErrOtherLog)
		}
		_, err := engine.Confirm(t.Context(), gid, saga.Options{})
		sagatest.Must(t, err)
		expect(log, gid, saga.Confirming, nil)
		sagatest.Must(t, engine.Pause(t.Context(), gid, by))
		expect(log, gid, "", saga.ErrOngoing)
		sagatest.Must(t, engine.Resume(t.Context(), gid, by))
		expect(log, gid, saga.Confirming, nil)
		sagatest.Must(t, engine.PauseKind(t.Context(), "away", by))
		expect(log, gid, "", saga.ErrOngoing)
		sagatest.Must(t, engine.ResumeKind(t.Context(), "away", by))
		expect(log, gid, saga.Confirming, nil)
		sqltest.Exec(t, db, "INSERT INTO saga_results (gid, branch_id, result) VALUES (?, '01', '{}')", gid)
		expect(log, gid, "", saga.ErrOngoing)
		sqltest.Exec(t, db, "DELETE FROM saga_results")
		for state, wantErr := range map[saga.State]error{saga.Confirming: nil, saga.Cancelling: saga.ErrOngoing, saga.Cancelled: nil} {
			// Cancels that have an order are called by the engine alone.
			sqltest.Exec(t, db, "UPDATE saga_branches SET stage = 2 WHERE gid = ?", gid)
			sqltest.Exec(t, db, "UPDATE saga_transactions SET state = ?, due_at = NULL WHERE gid = ?", string(state), gid)
			want := state
			if wantErr != nil {
				want = ""
			}
			expect(log, gid, want, wantErr)
		}
	})
}

// A replica that lags behind does not have the transaction, and is not asked.
func TestOutcomeIsNotOfAReplica(t *testing.T) {
	for _, dialect := range sqltest.Dialects {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db, replica := sqltest.OpenReplicated(t, dialect, &gorm.Config{})
			replica.CatchUp(t)
			engine, _, gid := openedAway(t, db)
			var log string
			sagatest.Must(t, replica.Primary.Raw("SELECT log_id FROM saga_schema").Scan(&log).Error)
			if state, err := engine.Outcome(t.Context(), log, gid); state != saga.Trying || err != nil {
				t.Errorf("%q, %v", state, err)
			}
		})
	}
}
