package barrier_test

import (
	"errors"
	"fmt"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

func request(gid string, op barrier.Op) barrier.Request {
	return barrier.Request{Key: barrier.Key{GID: gid, BranchID: "01"}, Op: op, Caller: "log-1", Kind: "stock", Input: []byte(`{"n":1}`)}
}

// inTransaction runs work and commits, or rolls back.
func inTransaction(t *testing.T, db *gorm.DB, work func(tx *gorm.DB) error) error {
	t.Helper()
	return db.WithContext(t.Context()).Transaction(work)
}

// A call of another caller, kind or input than the row is of does not run, and
// leaves the row as it is. A row from before the barrier knew these matches all.
func TestMismatch(t *testing.T) {
	others := map[string]func(*barrier.Request){
		"caller":    func(r *barrier.Request) { r.Caller = "log-2" },
		"no caller": func(r *barrier.Request) { r.Caller = "" },
		"kind":      func(r *barrier.Request) { r.Kind = "message" },
		"input":     func(r *barrier.Request) { r.Input = []byte(`{"n":2}`) },
	}
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		n := 0
		for what, change := range others {
			for _, state := range []barrier.State{barrier.StateTried, barrier.StateConfirmed, barrier.StateCancelled, barrier.StateSuspended} {
				for _, op := range []barrier.Op{barrier.Try, barrier.Confirm, barrier.Cancel} {
					n++
					gid := fmt.Sprint("m-", n)
					into(t, db, gid, state)
					other := request(gid, op)
					change(&other)
					verdict, err := barrier.Do(t.Context(), db, other, func(*gorm.DB) error { t.Errorf("%s: %s ran after %s", what, op, state); return nil })
					if verdict != barrier.Conflict || !errors.Is(err, barrier.ErrConflict) {
						t.Errorf("another %s: %s after %s: %q, %v", what, op, state, verdict, err)
					}
					row := rowOf(t, db, gid)
					if row.State != state || row.TurnedAway != 1 || !row.Matches(request(gid, op)) || row.Matches(other) {
						t.Errorf("another %s: %s after %s left %+v", what, op, state, row)
					}
				}
			}
			n++
			gid := fmt.Sprint("old-", n)
			into(t, db, gid, barrier.StateTried)
			sagatest.Must(t, db.Exec("UPDATE saga_barrier SET caller = '', kind = '', input = '' WHERE gid = ?", gid).Error)
			other := request(gid, barrier.Confirm)
			change(&other)
			if verdict, err := barrier.Do(t.Context(), db, other, nothing); verdict != barrier.Run {
				t.Errorf("a row that does not know its %s: %q, %v", what, verdict, err)
			}
		}
	})
}

// into brings the branch of a transaction into a state.
func into(t *testing.T, db *gorm.DB, gid string, state barrier.State) {
	t.Helper()
	for _, op := range map[barrier.State][]barrier.Op{
		barrier.StateTried:     {barrier.Try},
		barrier.StateConfirmed: {barrier.Try, barrier.Confirm},
		barrier.StateCancelled: {barrier.Try, barrier.Cancel},
		barrier.StateSuspended: {barrier.Cancel},
	}[state] {
		_, err := barrier.Do(t.Context(), db, request(gid, op), nothing)
		sagatest.Must(t, err)
	}
}

func rowOf(t *testing.T, db *gorm.DB, gid string) barrier.Row {
	t.Helper()
	rows, err := barrier.Look(t.Context(), db, gid)
	sagatest.Must(t, err)
	if len(rows) != 1 {
		t.Fatalf("%d rows of %s", len(rows), gid)
	}
	return rows[0]
}

// A Try in a transaction of the log that does not name the branch is refused,
// whoever opened the local transaction. Confirm and Cancel are not: they reserve
// nothing.
func TestUnnamed(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		sagatest.Must(t, db.Exec("INSERT INTO saga_transactions (gid, pattern, state, digest, decided_by, owner, created_at, deadline_at) VALUES ('here', 'tcc', 'trying', '', '', '', '2020-01-01 00:00:00', '2020-01-01 00:00:00')").Error)
		sagatest.Must(t, db.Exec("INSERT INTO saga_branches (gid, branch_id, kind, payload) VALUES ('here', '02', 'stock', '{}')").Error)
		ways := map[string]func(barrier.Request) (barrier.Verdict, error){
			"Do": func(r barrier.Request) (barrier.Verdict, error) { return barrier.Do(t.Context(), db, r, nothing) },
			"Call": func(r barrier.Request) (verdict barrier.Verdict, err error) {
				err = inTransaction(t, db, func(tx *gorm.DB) error { verdict, err = barrier.Call(t.Context(), tx, r); return err })
				return verdict, err
			},
		}
		for name, way := range ways {
			if verdict, err := way(request("here", barrier.Try)); !errors.Is(err, barrier.ErrUnnamed) || verdict != "" {
				t.Errorf("%s: %q, %v", name, verdict, err)
			}
			if rows, err := barrier.Look(t.Context(), db, "here"); err != nil || len(rows) != 0 {
				t.Errorf("%s left %+v, %v", name, rows, err)
			}
			named := request("here", barrier.Try)
			named.BranchID = "02"
			if verdict, err := way(named); verdict != barrier.Run {
				t.Errorf("%s of one that is named: %q, %v", name, verdict, err)
			}
			sagatest.Must(t, db.Exec("DELETE FROM saga_barrier").Error)
			if verdict, err := way(request("elsewhere", barrier.Try)); verdict != barrier.Run {
				t.Errorf("%s of a transaction that is not here: %q, %v", name, verdict, err)
			}
			if verdict, err := way(request("here", barrier.Cancel)); verdict != barrier.EmptyRollback {
				t.Errorf("%s with Cancel: %q, %v", name, verdict, err)
			}
			sagatest.Must(t, db.Exec("DELETE FROM saga_barrier").Error)
		}
	})
}
