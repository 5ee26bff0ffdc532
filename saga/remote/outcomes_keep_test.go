package remote_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/participant"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// call makes a call of the theatre without the network.
func (th *theatre) call(gid, caller string, op barrier.Op) error {
	return th.host.Call(th.t.Context(), saga.Call{GID: gid, BranchID: "01", Kind: "seats.reserve", Op: op, Caller: caller, Payload: []byte(two)})
}

// An input is kept from the Try to the Confirm or Cancel, and for callers with a name only.
func TestInputsAreKept(t *testing.T) {
	eachInDoubt(t, func(t *testing.T, d *inDoubt) {
		th := d.theatre
		expect := func(when string, want int) {
			t.Helper()
			if got := inputsIn(t, th.db); got != want {
				t.Errorf("%s: %d inputs, want %d", when, got, want)
			}
		}
		sagatest.Must(t, th.call("a", "log", barrier.Try))
		sagatest.Must(t, th.call("a", "log", barrier.Try))
		expect("a Try and a duplicate", 1)
		sagatest.Must(t, th.call("b", "log", barrier.Cancel))
		expect("an empty rollback", 1)
		if err := th.call("b", "log", barrier.Try); !errors.Is(err, barrier.ErrSuspended) {
			t.Error(err)
		}
		expect("a late Try", 1)
		sagatest.Must(t, th.call("c", "", barrier.Try))
		sagatest.Must(t, th.call("d", "-", barrier.Try))
		expect("callers without a name, such as a DTM server", 1)
		if err := th.call("a", "other", barrier.Confirm); !errors.Is(err, barrier.ErrConflict) {
			t.Error(err)
		}
		expect("a conflict", 1)
		th.seats.fail = func(barrier.Op) error { return errOnPurpose }
		if err := th.call("a", "log", barrier.Confirm); !errors.Is(err, errOnPurpose) {
			t.Error(err)
		}
		if err := th.call("e", "log", barrier.Try); !errors.Is(err, errOnPurpose) {
			t.Error(err)
		}
		expect("a Confirm and a Try that fail", 1)
		th.seats.fail = nil
		sagatest.Must(t, th.call("a", "log", barrier.Confirm))
		sagatest.Must(t, th.call("a", "log", barrier.Confirm))
		sagatest.Must(t, th.call("c", "", barrier.Cancel))
		sagatest.Must(t, th.call("d", "-", barrier.Cancel))
		expect("the ends", 0)
	})
}

// A host that does not ask writes no input.
func TestHostThatDoesNotAskKeepsNothing(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		th := newTheatre(t, db, remote.HostConfig{})
		sagatest.Must(t, th.call("a", "log", barrier.Try))
		if got := inputsIn(t, db); got != 0 {
			t.Errorf("%d inputs", got)
		}
	})
}

// An input that a process has left which does not ask is removed: when its branch is next in
// the row, and with the barrier row.
func TestInputsThatAreLeft(t *testing.T) {
	eachInDoubt(t, func(t *testing.T, d *inDoubt) {
		silent, err := remote.NewHost(t.Context(), d.theatre.db, remote.HostConfig{Name: "theatre", Keys: keys("a"), CallTimeout: time.Millisecond, Window: 10 * time.Second})
		sagatest.Must(t, err)
		sagatest.Must(t, registerSeats(silent))
		confirm := func(gid string) {
			t.Helper()
			err := barrierDo(t, d.theatre.db, barrier.Request{Key: barrier.Key{GID: gid, BranchID: "01"}, Op: barrier.Confirm, Caller: "@" + d.logID(), Kind: "seats.reserve", Input: []byte(two)})
			sagatest.Must(t, err)
		}
		sagatest.Must(t, d.theatre.call("a", d.logID(), barrier.Try))
		confirm("a")
		if ended, err := d.ask(d.theatre.host); ended != 0 || err != nil {
			t.Errorf("%d, %v", ended, err)
		}
		if got := inputsIn(t, d.theatre.db); got != 0 || d.told.Load() != 0 {
			t.Errorf("%d inputs are left, %d questions", got, d.told.Load())
		}
		sagatest.Must(t, d.theatre.call("b", d.logID(), barrier.Try))
		sagatest.Must(t, d.theatre.call("c", d.logID(), barrier.Try))
		confirm("b")
		old := agedBarrier(t, d.theatre.db)
		if removed, err := silent.Clean(t.Context(), old/2); removed != 2 || err != nil { // a and b
			t.Errorf("removed %d, %v", removed, err)
		}
		var left []string
		sagatest.Must(t, d.theatre.db.Raw("SELECT gid FROM saga_inputs").Scan(&left).Error)
		if len(left) != 1 || left[0] != "c" {
			t.Errorf("left %v", left)
		}
	})
}

// agedBarrier makes the barrier rows older.
func agedBarrier(t *testing.T, db *gorm.DB) time.Duration {
	t.Helper()
	sqltest.Exec(t, db, map[string]string{
		"sqlite":   "UPDATE saga_barrier SET confirmed_at = strftime('%Y-%m-%d %H:%M:%f', confirmed_at, '-48 hours')",
		"mysql":    "UPDATE saga_barrier SET confirmed_at = confirmed_at - INTERVAL 48 HOUR",
		"postgres": "UPDATE saga_barrier SET confirmed_at = confirmed_at - INTERVAL '48 hours'",
	}[db.Dialector.Name()])
	return 48 * time.Hour
}

func barrierDo(t *testing.T, db *gorm.DB, request barrier.Request) error {
	_, err := barrier.Do(t.Context(), db, request, func(*gorm.DB) error { return nil })
	return err
}

// A COMMIT of the host is not answered. The input is there if and only if the branch is in
// doubt, and the branch ends once.
func TestOutcomeWithUnansweredCommits(t *testing.T) {
	for _, committed := range []bool{false, true} {
		for in := 1; in <= 4; in++ {
			db, loss := sqltest.OpenLossy(t)
			d := newInDoubt(t, sqltest.Open(t, "sqlite"), db, keys("a")...)
			tx := d.tried()
			_, err := tx.Confirm(t.Context())
			sagatest.Must(t, err)
			makeDue(t, db)
			loss.Arm(in, committed)
			_, err = d.theatre.host.AskOutcomes(t.Context())
			loss.Arm(0, false)
			t.Logf("COMMIT %d from now, committed %t: %v", in, committed, err)
			var tried int
			sagatest.Must(t, db.Raw("SELECT COUNT(*) FROM saga_barrier WHERE state = 'tried'").Scan(&tried).Error)
			if got := inputsIn(t, db); got != tried {
				t.Errorf("%d branches are tried, and %d inputs are there", tried, got)
			}
			if tried > 0 {
				d.ends(98, 0, 2)
			}
			d.theatre.holds(98, 0, 2)
		}
	}
}

// A host that two engines call asks the one that has the log.
func TestOutcomesOfTwoEngines(t *testing.T) {
	eachInDoubt(t, func(t *testing.T, d *inDoubt) {
		other := newInDoubt(t, sqltest.Open(t, "sqlite"), sqltest.Open(t, "sqlite"), keys("a")...)
		tx := d.tried()
		_, err := tx.Confirm(t.Context())
		sagatest.Must(t, err)
		// The engine of this log is not reached: the other one has no say.
		host := d.host(other.asked(keys("a")...), unreached(t))
		if ended, err := d.ask(host); ended != 0 || err == nil || errors.Is(err, saga.ErrOtherLog) {
			t.Errorf("%d, %v", ended, err)
		}
		host = d.host(unreached(t), other.asked(keys("a")...), d.asked(keys("a")...))
		if ended, err := d.ask(host); ended != 1 || err != nil {
			t.Errorf("%d, %v", ended, err)
		}
		d.theatre.holds(98, 0, 2)
	})
}

// unreached is an engine at a port on which nobody listens.
func unreached(t *testing.T) participant.Outcomes {
	t.Helper()
	engine, err := remote.NewEngine("http://"+closedPort(t)+"/outcomes", remote.EngineConfig{Name: "agency", Keys: keys("a")})
	sagatest.Must(t, err)
	return engine
}

// Run asks again and again. A branch in a database of its own is asked for, too.
func TestRunAsks(t *testing.T) {
	t.Parallel()
	d := newInDoubt(t, sqltest.Open(t, "sqlite"), sqltest.Open(t, "sqlite"), keys("a")...)
	host, err := remote.NewHost(t.Context(), sqltest.Open(t, "sqlite"), remote.HostConfig{Name: "theatre", Keys: keys("a"),
		Outcomes: []participant.Outcomes{d.asked(keys("a")...)}, AskAfter: 10 * time.Millisecond})
	sagatest.Must(t, err)
	sagatest.Must(t, tcc.Register(host, &reserving[seats]{db: d.theatre.db, read: func(p seats) (int, int) { return p.Row, p.Number }}))
	tx := d.tried()
	makeDue(t, d.theatre.db)
	_, err = tx.Confirm(t.Context())
	sagatest.Must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- host.Run(ctx) }()
	sagatest.Eventually(t, "the end of the branch", func() bool { return inputsIn(t, d.theatre.db) == 0 })
	stop()
	sagatest.Must(t, <-ended)
	d.theatre.holds(98, 0, 2)
}
