package tcc_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// killPoints are the points at which the process of Execute is killed, and the end of the
// transaction.
var killPoints = map[string]saga.State{
	"before the work": saga.Cancelled, "in the work": saga.Cancelled, "after the COMMIT": saga.Confirmed, "after the decision": saga.Confirmed,
}

// stopInConfirm is a branch that stops the process in its Confirm.
type stopInConfirm struct {
	*credit[hold]
	stop func()
}

func (s stopInConfirm) Confirm(context.Context, *gorm.DB, hold) error {
	s.stop()
	return errOnPurpose
}

// dieWhileDeciding is what the process does that is killed. It stops at a point, and tells so.
func dieWhileDeciding(t *testing.T, c child) {
	address, point, _ := strings.Cut(c.Gateway, "#")
	stop := func(at string) {
		if at == point {
			_, err := http.Get(address)
			t.Errorf("not killed: %v", err)
		}
	}
	db, err := gorm.Open(sqltest.Dialector(c.Database), &gorm.Config{})
	sagatest.Must(t, err)
	orch := sagatest.Open(t, db, quick)
	ordersDB, loss := sqltest.ConnectLossy(t, c.Orders)
	sagatest.Must(t, orch.Register(saga.NewDatabase("orders", ordersDB)))
	branch := &credit[hold]{db: db, read: func(p hold) (int, int) { return p.Account, p.Cents }}
	sagatest.Must(t, tcc.Register(orch, stopInConfirm{branch, func() { stop("after the decision") }}))
	sagatest.Run(t, orch)
	loss.After(func() { stop("after the COMMIT") })
	_, err = tcc.ExecuteWith(t.Context(), orch, c.GID, saga.Options{LocalWorkIn: "orders", LocalWork: func(ctx context.Context, tx *gorm.DB) error {
		stop("before the work")
		if err := tx.Exec("INSERT INTO orders VALUES (?)", c.GID).Error; err != nil {
			return err
		}
		stop("in the work")
		return nil
	}}, hold{1, 1})
	t.Fatalf("not killed: %v", err)
}

// A process that is killed around the COMMIT that decides leaves the transaction to another
// instance, which asks.
func TestProcessKilledWhileABranchDecides(t *testing.T) {
	if c, is := asChild(t); is {
		dieWhileDeciding(t, c)
	}
	for _, dialect := range []string{"mysql", "postgres"} {
		for point, end := range killPoints {
			t.Run(dialect+", "+point, func(t *testing.T) {
				t.Parallel()
				database, ordersDatabase := sqltest.Create(t, dialect), sqltest.Create(t, "sqlite")
				db := sqltest.Connect(t, database, &gorm.Config{})
				sagatest.Must(t, schema.Migrate(t.Context(), db))
				ordersDB := sqltest.Connect(t, ordersDatabase, &gorm.Config{})
				sagatest.Must(t, schema.Migrate(t.Context(), ordersDB))
				b := newDecidingBench(t, db, ordersDB, quick)
				reached, gate := make(chan struct{}), make(chan struct{})
				server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(reached); <-gate }))
				t.Cleanup(server.Close)
				t.Cleanup(func() { close(gate) })
				gid := sagatest.GID()
				process := startChild(t, child{Test: "TestProcessKilledWhileABranchDecides", Database: database, Orders: ordersDatabase, GID: gid, Gateway: server.URL + "#" + point})
				<-reached
				sagatest.Must(t, process.Process.Kill())
				process.Wait()
				b.ends(gid, end)
			})
		}
	}
}

// The database of the branch that decides is down. The transaction stays undecided, is raised
// to attention, and is decided when the database is back, as the database says.
func TestDatabaseThatDecidesIsDown(t *testing.T) {
	for _, dialect := range []string{"mysql", "postgres"} {
		for name, committed := range map[string]bool{"committed": true, "not committed": false} {
			t.Run(dialect+", "+name, func(t *testing.T) {
				t.Parallel()
				testDatabaseThatDecidesIsDown(t, dialect, committed)
			})
		}
	}
}

func testDatabaseThatDecidesIsDown(t *testing.T, dialect string, committed bool) {
	database := sqltest.Create(t, dialect)
	direct := sqltest.Connect(t, database, &gorm.Config{})
	sagatest.Must(t, schema.Migrate(t.Context(), direct))
	log := sqltest.Open(t, map[string]string{"mysql": "postgres", "postgres": "mysql"}[dialect])
	b := newDecidingBench(t, log, direct, quick)
	sagatest.Must(t, b.orch.Stop(t.Context()))
	config, alarms := alarmed()
	config.AttentionAttempts = 3
	b.orch = b.open(config)
	through, way := connectCut(t, database)
	b.knowOrders(b.orch, through)

	gid := sagatest.GID()
	gate := b.out.hold(barrier.Try)
	g := b.executeGone(direct, gid, saga.Options{}, hold{1, 1}, holdOut{1, 1})
	sagatest.Eventually(t, "the Try is under way", func() bool { return b.out.called(barrier.Try) > 0 })
	if committed {
		// The lock keeps the process from writing the decision, until another one has the
		// transaction.
		lock := log.Begin()
		sagatest.Must(t, lock.Exec("UPDATE saga_transactions SET epoch = 2, owner = '', due_at = created_at WHERE gid = ?", gid).Error)
		close(gate)
		sagatest.Eventually(t, "the order is committed", func() bool { return ordered(t, direct, gid) })
		way.set(true)
		sagatest.Must(t, lock.Commit().Error)
	}
	way.set(true)
	sagatest.Run(t, b.orch)
	if a := alarm(t, alarms); a.GID != gid || a.State != saga.Trying || !strings.Contains(a.Why, "asking the branch that decides, 03, orders.place, has failed 3 times") {
		t.Errorf("%+v", a)
	}
	for _, cancel := range []func() (saga.Outcome, error){
		func() (saga.Outcome, error) { return b.orch.Cancel(t.Context(), gid, "") },
		func() (saga.Outcome, error) { return b.orch.Decide(t.Context(), gid, saga.Cancelling, alice) },
	} {
		if outcome, err := cancel(); !errors.Is(err, saga.ErrUnknown) {
			t.Errorf("cancelled: %+v, %v", outcome, err)
		}
	}
	found := b.reaches(gid, saga.Trying)
	if attempts := found.Branches[2].Attempts; len(attempts) < 3 || attempts[0].Operation != barrier.Ask || found.Attention == "" {
		t.Errorf("%+v, attempts %+v", found.Summary, attempts)
	}
	way.set(false)
	end := saga.Confirmed
	if !committed {
		end = saga.Cancelled
		b.reaches(gid, saga.Cancelling)
		close(gate)
	}
	b.ends(gid, end)
	if err := <-g.told; errors.Is(err, saga.ErrCancelled) == committed {
		t.Errorf("told %v", err)
	}
	if found := b.reaches(gid, end); found.Attention != "" {
		t.Errorf("in the end %+v", found.Summary)
	}
}
