package drive_test

import (
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// expectAttention expects that a transaction was raised n times, the last time because of
// why.
func (w *world) expectAttention(gid string, n int, why string) {
	w.t.Helper()
	got := w.Record(gid).Attention
	if !strings.HasPrefix(got, why) || (why == "") != (got == "") || len(w.alarms) != n || n > 0 && w.alarms[n-1] != gid+": "+got {
		w.t.Errorf("the log has %q, and the alarms are %q, want %d: %s", got, w.alarms, n, why)
	}
}

// A conflict raises a transaction to attention at once, and once. The circuit does not open
// because of it.
func TestAConflictRaisesAttention(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, kind := range []string{"a", "external"} {
			w := newWorld(t, db)
			transaction := w.Decided(saga.Confirming, time.Minute, kind, "b", kind)
			ok(t, db.Exec("UPDATE saga_barrier SET caller = 'somebody' WHERE gid = ? AND branch_id = '02'", kind).Error)
			for n := range 3 {
				if got := w.round(transaction); got != saga.Confirming {
					t.Errorf("%s: %s", kind, got)
				}
				w.expectAttention(kind, 1, "conflict: branch 02, "+kind+": ")
				attempts := w.Attempts(kind)
				if len(attempts) != n+1 || attempts[n].Code != saga.CodeConflict {
					t.Errorf("%s: %+v", kind, attempts)
				}
			}
			if got := w.Made(); strings.Contains(got, "/02") {
				t.Errorf("made %s", got)
			}
			if w.Done(kind) != "01" {
				t.Errorf("%s: %s are done", kind, w.Done(kind))
			}
			b, err := w.Registry.Branch(kind)
			ok(t, err)
			b.Breaker.Failure("x")
			b.Breaker.Failure("y") // the circuit opens after three
			if b.Breaker.Delay(t.Context(), time.Hour, true) != 0 {
				t.Error("the circuit is open")
			}
		}
	})
}

// A conflict replaces another reason.
func TestAConflictCountsMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	transaction := w.Decided(saga.Cancelling, time.Minute, "g", "a")
	transaction.Attention = "attempts: "
	ok(t, w.Kit.DB.Exec("UPDATE saga_barrier SET caller = 'somebody'").Error)
	w.round(transaction)
	w.expectAttention("g", 1, "conflict: branch 01, a: ")
}

// A branch that has failed so often raises its transaction to attention. The attempts go on.
func TestAttemptsRaiseAttention(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		transaction := w.Decided(saga.Cancelling, time.Minute, "g", "a", "remote")
		w.Fail("cancel g/02", errPurpose)
		for n := range 5 {
			w.round(transaction)
			if n < 2 {
				w.expectAttention("g", 0, "")
			} else {
				w.expectAttention("g", 1, "attempts: branch 02, remote, has failed 3 times, the last time with: on purpose")
			}
		}
		if len(w.Attempts("g")) != 5 || transaction.Attention == "" {
			t.Errorf("%d attempts, %q", len(w.Attempts("g")), transaction.Attention)
		}
	})
}

// A transaction that is not finished for long is raised to attention, and says why.
func TestAgeRaisesAttention(t *testing.T) {
	t.Parallel()
	paused := func(w *world, _ *txn.Step) {
		w.In(func(tx *gorm.DB) error { return w.Kit.Log.PauseKind(t.Context(), tx, "remote") })
		ok(t, w.Kit.Paused.Read(t.Context()))
	}
	for why, prepare := range map[string]func(*world, *txn.Step){
		"on purpose":                    func(w *world, s *txn.Step) { w.Fail("confirm g/01", errPurpose); s.Wait = 0 },
		"it waits for its next attempt": func(_ *world, s *txn.Step) { s.Wait = time.Minute },
		"an operator has paused the kind of branch remote": paused,
	} {
		w := newWorld(t, sqltest.Open(t, "sqlite"))
		transaction := w.Decided(saga.Confirming, time.Minute, "g", "remote")
		prepare(w, transaction.Steps[0])
		w.round(transaction)
		w.expectAttention("g", 0, "")
		transaction.Decided = time.Now().Add(-2 * time.Hour)
		w.round(transaction)
		w.expectAttention("g", 1, "age: decided 2h0m0s ago, and branch 01, remote, is not done: "+why)
		w.round(transaction)
		w.expectAttention("g", 1, "age: ")
	}
}
