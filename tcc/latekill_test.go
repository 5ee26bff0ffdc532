package tcc_test

import (
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// dieInTry is what the process does that is killed: it tries and waits.
func dieInTry(t *testing.T, c child) {
	db, err := gorm.Open(sqltest.Dialector(c.Database), &gorm.Config{})
	sagatest.Must(t, err)
	config := quick
	config.CallTimeout = lateTimeout
	orch := sagatest.Open(t, db, config)
	sagatest.Must(t, tcc.RegisterExternal(orch, webGateway{c.Gateway}))
	sagatest.Run(t, orch)
	_, err = tcc.Execute(t.Context(), orch, c.GID, holdLate{1, 30})
	t.Fatalf("not killed: %v", err)
}

const lateTimeout = 1500 * time.Millisecond

// A process that is killed during a Try leaves a mark: another instance calls Cancel
// when the time of the Try is over, and once more for a request that arrives late.
func TestProcessKilledInATry(t *testing.T) {
	if c, is := asChild(t); is {
		dieInTry(t, c)
	}
	for _, dialect := range []string{"mysql", "postgres"} {
		for name, late := range map[string]bool{"arrives before Cancel": false, "arrives after Cancel": true} {
			t.Run(dialect+", "+name, func(t *testing.T) {
				t.Parallel()
				database := sqltest.Create(t, dialect)
				db := sqltest.Connect(t, database, &gorm.Config{})
				sagatest.Must(t, schema.Migrate(t.Context(), db))
				gateway, gid := newWeb(t), sagatest.GID()
				config := quick
				config.CallTimeout = lateTimeout
				b := newBench(t, db, config)
				sagatest.Must(t, tcc.RegisterExternal(b.orch, webGateway{gateway.url}))

				process := startChild(t, child{Test: "TestProcessKilledInATry", Database: database, GID: gid, Gateway: gateway.url})
				<-gateway.called
				sagatest.Must(t, process.Process.Kill())
				process.Wait()
				found := b.reaches(gid, saga.Cancelling)
				if u := found.Branches[0].UnderWay; u == nil || u.Op != barrier.Try || u.Since.IsZero() || !u.Until.After(u.Since) {
					t.Errorf("under way: %+v", u)
				}
				want := "try cancel cancel"
				if late {
					want = "cancel try cancel"
					<-gateway.freed
				} else if got := gateway.so(); got != "" {
					t.Errorf("before the time of the Try is over: %s", got)
				}
				close(gateway.gate)
				<-gateway.held
				found = b.reaches(gid, saga.Cancelled)
				if got := gateway.so(); got != want {
					t.Errorf("the gateway saw %s, want %s", got, want)
				}
				if row := found.Branches[0].Barrier; row.UnderWay != nil || row.State != barrier.StateCancelled {
					t.Errorf("in the end %+v", row)
				}
			})
		}
	}
}
