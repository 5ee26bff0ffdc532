package remote_test

import (
	"errors"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// eachInDoubt runs a test on every database, with the log and the branches in databases of
// their own, and with signatures.
func eachInDoubt(t *testing.T, test func(t *testing.T, d *inDoubt)) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		test(t, newInDoubt(t, sqltest.Open(t, db.Dialector.Name()), db, keys("a")...))
	})
}

// The engine has decided and does not reach the host. The host asks, and ends its branch.
func TestOutcomeEndsAReservation(t *testing.T) {
	eachInDoubt(t, func(t *testing.T, d *inDoubt) {
		for _, confirm := range []bool{true, false} {
			tx := d.tried()
			state := saga.Cancelled
			if err := d.waits(); err != nil {
				t.Errorf("undecided: %v", err)
			}
			if confirm {
				state = saga.Confirmed
				_, err := tx.Confirm(t.Context())
				sagatest.Must(t, err)
				d.ends(98, 0, 2)
			} else {
				_, err := tx.Cancel(t.Context(), "never mind")
				sagatest.Must(t, err)
				d.ends(100, 0, 0)
			}
			d.reachable(true)
			sagatest.Reach(t, d.engine, tx.GID(), state)
			if ended, err := d.ask(d.theatre.host); ended != 0 || err != nil {
				t.Errorf("once more: %d, %v", ended, err)
			}
			sqltest.Exec(t, d.theatre.db, "UPDATE things SET unused = 100, held = 0, used = 0")
		}
	})
}

// A transaction that the log does not have was never decided to be confirmed: presumed abort.
func TestOutcomeOfAnUnknownTransaction(t *testing.T) {
	eachInDoubt(t, func(t *testing.T, d *inDoubt) {
		tx := d.tried()
		sqltest.Exec(t, d.logDB, "DELETE FROM saga_transactions WHERE gid = ?", tx.GID())
		d.ends(100, 0, 0)
	})
}

// An engine with another log says nothing about a transaction.
func TestOutcomeInAnotherLog(t *testing.T) {
	eachInDoubt(t, func(t *testing.T, d *inDoubt) {
		tx := d.tried()
		own := d.engine
		d.engine = sagatest.Open(t, sqltest.Open(t, "sqlite"), quick)
		if err := d.waits(); !errors.Is(err, saga.ErrOtherLog) {
			t.Errorf("%v", err)
		}
		sagatest.Must(t, d.engine.Stop(t.Context()))
		d.engine = own
		_, err := tx.Confirm(t.Context())
		sagatest.Must(t, err)
		d.ends(98, 0, 2)
	})
}

// The engine is down for a while. The host waits.
func TestOutcomeOfAnEngineThatIsDown(t *testing.T) {
	eachInDoubt(t, func(t *testing.T, d *inDoubt) {
		tx := d.tried()
		_, err := tx.Confirm(t.Context())
		sagatest.Must(t, err)
		address := d.asks.Listener.Addr().String()
		d.asks.Close()
		if err := d.waits(); err == nil {
			t.Error("nobody has answered, and there is no error")
		}
		d.asks = listenAt(t, address, d.asks.Config.Handler)
		d.ends(98, 0, 2)
	})
}
