package remote_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// The engine and the host make the call that is due at the same time: it runs once.
func TestOutcomeAndCallAtOnce(t *testing.T) {
	eachInDoubt(t, func(t *testing.T, d *inDoubt) {
		for round := range 10 {
			tx := d.tried()
			op, state := barrier.Confirm, saga.Confirmed
			var err error
			if round%2 == 0 {
				_, err = tx.Confirm(t.Context())
			} else {
				op, state = barrier.Cancel, saga.Cancelled
				_, err = tx.Cancel(t.Context(), "never mind")
			}
			sagatest.Must(t, err)
			makeDue(t, d.theatre.db)
			d.reachable(true)
			start := make(chan struct{})
			var both sync.WaitGroup
			both.Go(func() {
				<-start
				if _, err := d.theatre.host.AskOutcomes(t.Context()); err != nil {
					t.Errorf("the host: %v", err)
				}
			})
			both.Go(func() {
				<-start
				call := saga.Call{GID: tx.GID(), BranchID: "01", Kind: "seats.reserve", Op: op, Caller: d.logID(), Payload: []byte(two)}
				if err := d.service.Call(t.Context(), call); err != nil {
					t.Errorf("the engine: %v", err)
				}
			})
			close(start)
			both.Wait()
			sagatest.Reach(t, d.engine, tx.GID(), state)
			if op == barrier.Confirm {
				d.theatre.holds(98, 0, 2)
			} else {
				d.theatre.holds(100, 0, 0)
			}
			if got := inputsIn(t, d.theatre.db); got != 0 {
				t.Fatalf("%d inputs are left", got)
			}
			sqltest.Exec(t, d.theatre.db, "UPDATE things SET unused = 100, held = 0, used = 0")
		}
	})
}

// Two processes of a host share the branches: each branch is asked for once.
func TestOutcomesOfTwoProcesses(t *testing.T) {
	eachInDoubt(t, func(t *testing.T, d *inDoubt) {
		const n = 40
		var all []*tcc.Transaction
		for range n {
			tx, err := tcc.Begin(t.Context(), d.engine, sagatest.GID())
			sagatest.Must(t, err)
			sagatest.Must(t, tx.Try(t.Context(), seats{Row: 1, Number: 1}))
			all = append(all, tx)
		}
		d.reachable(false)
		for _, tx := range all {
			_, err := tx.Confirm(t.Context())
			sagatest.Must(t, err)
		}
		makeDue(t, d.theatre.db)
		ended := make([]int, 2)
		var processes sync.WaitGroup
		for i, host := range []*remote.Host{d.theatre.host, d.host(d.asked(keys("a")...))} {
			processes.Go(func() {
				var err error
				if ended[i], err = host.AskOutcomes(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		processes.Wait()
		t.Logf("ended %v", ended)
		if ended[0]+ended[1] != n || d.told.Load() != n {
			t.Errorf("ended %v, and %d questions were answered, want %d", ended, d.told.Load(), n)
		}
		d.theatre.holds(100-n, 0, n)
	})
}

// A Confirm that fails on the host is made again when the host asks again, and a conflict
// stays for a person.
func TestOutcomeWhoseCallFails(t *testing.T) {
	eachInDoubt(t, func(t *testing.T, d *inDoubt) {
		tx := d.tried()
		_, err := tx.Confirm(t.Context())
		sagatest.Must(t, err)
		failing := true
		d.theatre.seats.fail = func(barrier.Op) error {
			if failing {
				return errOnPurpose
			}
			return nil
		}
		if err := d.waits(); err == nil || !strings.Contains(err.Error(), "on purpose") || !strings.Contains(err.Error(), tx.GID()) {
			t.Errorf("%v", err)
		}
		failing = false
		sqltest.Exec(t, d.theatre.db, "UPDATE saga_barrier SET kind = 'other' WHERE gid = ?", tx.GID())
		if err := d.waits(); err == nil || !strings.Contains(err.Error(), "other") {
			t.Errorf("%v", err)
		}
		sqltest.Exec(t, d.theatre.db, "UPDATE saga_barrier SET kind = 'seats.reserve' WHERE gid = ?", tx.GID())
		d.ends(98, 0, 2)
	})
}

// A branch of an external system: no question while its Try is under way, and Cancel once
// more for a Try that arrives late.
func TestOutcomeOfAnExternalBranch(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		d := newInDoubtWith(t, sqltest.Open(t, db.Dialector.Name()), db, remote.HostConfig{CallTimeout: 500 * time.Millisecond}, keys("a")...)
		gateway := newCards()
		gateway.stray = true
		sagatest.Must(t, tcc.RegisterExternal(d.theatre.host, gateway))
		tx, err := tcc.Begin(t.Context(), d.engine, sagatest.GID())
		sagatest.Must(t, err)
		told := make(chan error, 1)
		go func() { told <- tx.Try(t.Context(), card{100}) }()
		<-gateway.called
		if ended, err := d.ask(d.theatre.host); ended != 0 || err != nil {
			t.Errorf("while its Try is under way: %d, %v", ended, err)
		}
		questions := d.told.Load()
		if err := <-told; err == nil {
			t.Error("the caller of the Try was told of a success")
		}
		if questions != 0 {
			t.Errorf("%d questions while its Try was under way", questions)
		}
		d.reachable(false)
		_, err = tx.Cancel(t.Context(), "it failed")
		sagatest.Must(t, err)
		sagatest.Eventually(t, "the first Cancel", func() bool {
			ended, err := d.ask(d.theatre.host)
			if ended != 0 || err != nil {
				t.Errorf("ended %d, %v", ended, err)
			}
			return gateway.so() == "free"
		})
		if got := inputsIn(t, db); got != 1 {
			t.Fatalf("%d inputs, want 1: its Cancel is called once more", got)
		}
		close(gateway.gate)
		gateway.arrivals.Wait()
		sagatest.Eventually(t, "the second Cancel", func() bool {
			_, err := d.ask(d.theatre.host)
			sagatest.Must(t, err)
			return gateway.so() == "free held free" && inputsIn(t, db) == 0
		})
	})
}
