package tcc_test

import (
	"errors"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// With reads answered by replicas that lag behind, nothing is finished without its
// Confirms, or its Cancels, in every kind of plan, also after failures and by
// another instance.
func TestReplicaReads(t *testing.T) {
	t.Parallel()
	ops := map[string]barrier.Op{"well": "", "after a failed Confirm": barrier.Confirm}
	for _, dialect := range sqltest.Dialects {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			r := newReplicated(t, dialect, quick)
			for name, plan := range everyPlan {
				for how, op := range ops {
					fail := func(op barrier.Op) {
						for _, f := range []*faults{&r.here.faults, &r.away.faults, &r.out.faults, &r.sent.faults, &r.hosted.faults} {
							f.fail(op, 2, errors.New("on purpose"))
						}
					}
					fail(op)
					gid := sagatest.GID()
					_, err := tcc.Execute(t.Context(), r.orch, gid, plan...)
					sagatest.Must(t, err)
					r.finished(gid, saga.Confirmed, plan...)
					t.Logf("%s %s: %d reads of replicas", name, how, r.home.Reads()+r.place.Reads())

					for _, end := range []saga.State{saga.Confirmed, saga.Cancelled} {
						fail(map[saga.State]barrier.Op{saga.Confirmed: op, saga.Cancelled: map[bool]barrier.Op{true: barrier.Cancel}[op != ""]}[end])
						tx, err := tcc.Begin(t.Context(), r.orch, sagatest.GID())
						sagatest.Must(t, err)
						for _, p := range plan {
							sagatest.Must(t, tx.Try(t.Context(), p))
						}
						if end == saga.Confirmed {
							_, err = tx.Confirm(t.Context())
						} else {
							_, err = tx.Cancel(t.Context(), "on purpose")
						}
						sagatest.Must(t, err)
						r.finished(tx.GID(), end, plan...)
					}
				}
			}
			r.even()
		})
	}
}

// An instance dies with decided and with undecided transactions; another one
// resumes them, with replicas that know them in an earlier state.
func TestReplicaReadsInRecovery(t *testing.T) {
	t.Parallel()
	for _, dialect := range sqltest.Dialects {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			r := newReplicated(t, dialect, quick)
			leaving := quick
			leaving.Lease = 5 * time.Second
			dead := r.opened(leaving)
			decided, undecided := map[string][]tcc.Payload{}, map[string][]tcc.Payload{}
			for _, plan := range everyPlan {
				for _, f := range []*faults{&r.here.faults, &r.away.faults, &r.out.faults, &r.sent.faults, &r.hosted.faults} {
					f.fail(barrier.Confirm, 1, errors.New("on purpose"))
				}
				gid := sagatest.GID()
				_, err := tcc.Execute(t.Context(), dead, gid, plan...)
				sagatest.Must(t, err)
				decided[gid] = plan
				tx, err := tcc.BeginWith(t.Context(), dead, sagatest.GID(), saga.Options{Timeout: 2 * time.Second})
				sagatest.Must(t, err)
				for i, p := range plan {
					sagatest.Must(t, tx.Try(t.Context(), p))
					if i == 0 {
						r.home.CatchUp(t) // it knows of one branch, and no more
						r.place.CatchUp(t)
					}
				}
				undecided[tx.GID()] = plan
			}
			for gid, plan := range decided {
				r.finished(gid, saga.Confirmed, plan...)
			}
			for gid, plan := range undecided {
				r.finished(gid, saga.Cancelled, plan...)
			}
			r.even()
		})
	}
}

// Replicas show a finished transaction that is long past the retention, whose gid
// is in use again. Cleaning removes what is old at the primary, and nothing of the
// new one.
func TestReplicaReadsInCleaning(t *testing.T) {
	t.Parallel()
	for _, dialect := range sqltest.Dialects {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			config := quick
			config.CallTimeout, config.Retention = 100*time.Millisecond, time.Hour
			r := newReplicated(t, dialect, config)
			plan := everyPlan["all"]
			var reused, last string
			for _, gid := range []*string{&reused, &last} {
				*gid = sagatest.GID()
				_, err := tcc.Execute(t.Context(), r.orch, *gid, plan...)
				sagatest.Must(t, err)
				r.finished(*gid, saga.Confirmed, plan...)
				r.age(*gid)
				r.ageBarrier(*gid)
			}
			r.home.CatchUp(t)
			r.place.CatchUp(t)
			for _, table := range []string{"saga_transactions", "saga_branches", "saga_attempts", "saga_barrier"} {
				sqltest.Exec(t, r.db, "DELETE FROM "+table+" WHERE gid = ?", reused)
			}
			sqltest.Exec(t, r.other, "DELETE FROM saga_barrier WHERE gid = ?", reused)
			tx, err := tcc.Begin(t.Context(), r.orch, reused)
			sagatest.Must(t, err)
			for _, p := range plan {
				sagatest.Must(t, tx.Try(t.Context(), p))
			}
			kept := r.rows(reused)

			sqltest.Exec(t, r.db, "UPDATE saga_cleaning SET after_gid = '', next_at = '2000-01-01 00:00:00'")
			sagatest.Run(t, r.opened(config))
			sagatest.Eventually(t, "what is old is removed", func() bool { return r.rowsOf(r.db, "saga_transactions", last) == 0 })
			if got := r.rows(reused); got != kept {
				t.Errorf("a transaction that uses the gid again has %s, want %s", got, kept)
			}
			_, err = r.host.Clean(t.Context(), time.Minute)
			sagatest.Must(t, err)
			if got := r.rows(reused); got != kept {
				t.Errorf("after the participant's cleaning, it has %s, want %s", got, kept)
			}
			if n := r.rowsOf(r.other, "saga_barrier", last); n != 0 {
				t.Errorf("%d old rows are left in the other database", n)
			}
			_, err = tx.Confirm(t.Context())
			sagatest.Must(t, err)
			r.finished(reused, saga.Confirmed, plan...)
			r.even()
		})
	}
}
