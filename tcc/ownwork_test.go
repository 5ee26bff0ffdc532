package tcc_test

import (
	"errors"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/participant"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// A Try with the barrier in a local transaction of one's own, for a transaction of an
// engine in the same database that has not named the branch, is refused: nobody would
// give the reservation back.
func TestBarrierCallWithoutTheEngine(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		reserve := func(tx *gorm.DB) error {
			return tx.Exec("UPDATE accounts SET credit = credit - 5, held = held + 5 WHERE id = 1").Error
		}
		by := map[string]func(barrier.Request) error{
			"Call": func(r barrier.Request) error {
				return db.Transaction(func(tx *gorm.DB) error {
					verdict, err := barrier.Call(t.Context(), tx, r)
					if err != nil || verdict != barrier.Run {
						return err
					}
					return reserve(tx)
				})
			},
			"Do": func(r barrier.Request) error {
				_, err := barrier.Do(t.Context(), db, r, reserve)
				return err
			},
		}
		for name, call := range by {
			open, planned := sagatest.GID(), sagatest.GID()
			_, err := tcc.Begin(t.Context(), b.orch, open)
			sagatest.Must(t, err)
			gate := b.away.hold(barrier.Try)
			told := make(chan error, 1)
			go func() {
				_, err := tcc.Execute(t.Context(), b.orch, planned, holdAway{2, 1})
				told <- err
			}()
			sagatest.Eventually(t, "it is in the log", func() bool {
				_, err := b.orch.Lookup(t.Context(), planned)
				return err == nil
			})
			finished := sagatest.GID()
			_, err = tcc.Execute(t.Context(), b.orch, finished, hold{2, 1})
			sagatest.Must(t, err)
			for _, key := range []barrier.Key{{GID: open, BranchID: "01"}, {GID: planned, BranchID: "02"}, {GID: finished, BranchID: "02"}} {
				if err := call(barrier.Request{Key: key, Op: barrier.Try}); !errors.Is(err, barrier.ErrUnnamed) || !strings.Contains(err.Error(), key.String()) {
					t.Errorf("%s of %s: %v", name, key, err)
				}
			}
			close(gate)
			sagatest.Must(t, <-told)
			b.away.block = nil
			_, err = b.orch.Cancel(t.Context(), open, "the process has died")
			sagatest.Must(t, err)
			b.books(db, 1, 100, 0, 0)

			// A transaction of an engine elsewhere: the log here does not know it.
			for _, op := range []barrier.Op{barrier.Try, barrier.Confirm} {
				if err := call(barrier.Request{Key: barrier.Key{GID: "elsewhere-" + name, BranchID: "01"}, Op: op}); err != nil {
					t.Errorf("%s, as a service that is called from elsewhere: %s: %v", name, op, err)
				}
			}
			sqltest.Exec(t, db, "UPDATE accounts SET credit = 100, held = 0 WHERE id = 1")
		}
	})
}

// A local transaction that has read before the transaction was begun is refused too:
// MySQL's default level would not show it.
func TestBarrierCallWithAnOldSnapshot(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		if db.Name() == "sqlite" {
			t.Skip("a local transaction keeps all others waiting")
		}
		tx := db.Begin()
		sagatest.Must(t, tx.Error)
		defer tx.Rollback()
		var n int
		sagatest.Must(t, tx.Raw("SELECT COUNT(*) FROM saga_transactions").Scan(&n).Error)
		gid := sagatest.GID()
		_, err := tcc.Begin(t.Context(), b.orch, gid)
		sagatest.Must(t, err)
		if verdict, err := barrier.Call(t.Context(), tx, barrier.Request{Key: barrier.Key{GID: gid, BranchID: "01"}, Op: barrier.Try}); !errors.Is(err, barrier.ErrUnnamed) {
			t.Errorf("%q, %v", verdict, err)
		}
	})
}

// tryHandle is a branch that lives where it is told.
type tryHandle struct{ *credit[hold] }

// A handle that is in a local transaction is refused wherever an engine would commit
// on it, with what to do.
func TestHandlesInATransaction(t *testing.T) {
	for _, prepared := range []bool{false, true} {
		for _, dialect := range []string{"sqlite", "mysql", "postgres"} {
			t.Run(dialect, func(t *testing.T) {
				t.Parallel()
				database := sqltest.Create(t, dialect)
				db := sqltest.Connect(t, database, &gorm.Config{PrepareStmt: prepared})
				sagatest.Must(t, schema.Migrate(t.Context(), db))
				orch := sagatest.Open(t, db, quick)
				var handles []*gorm.DB
				begun := db.Begin()
				sagatest.Must(t, begun.Error)
				defer begun.Rollback()
				handles = append(handles, begun, begun.Session(&gorm.Session{}), begun.WithContext(t.Context()), begun.Session(&gorm.Session{PrepareStmt: true}), begun.Session(&gorm.Session{NewDB: true}))
				for i, handle := range handles {
					_, openErr := embedded.Open(t.Context(), handle, quick)
					_, participantErr := participant.New(t.Context(), handle, participant.Config{})
					for where, err := range map[string]error{
						"Open":           openErr,
						"Register":       tcc.Register(orch, tryHandle{&credit[hold]{db: handle, read: func(hold) (int, int) { return 0, 0 }}}),
						"NewParticipant": participantErr,
					} {
						if !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), "the handle is in a local transaction: use the one that gorm.Open returned") {
							t.Errorf("%s, handle %d: %v", where, i, err)
						}
					}
				}
				sagatest.Must(t, begun.Rollback().Error)
				// The handle that gorm.Open returned is taken, in each form.
				for i, handle := range []*gorm.DB{db, db.Session(&gorm.Session{}), db.WithContext(t.Context()), db.Session(&gorm.Session{PrepareStmt: true})} {
					if _, err := embedded.Open(t.Context(), handle, quick); err != nil {
						t.Errorf("handle %d: %v", i, err)
					}
				}
			})
		}
	}
}
