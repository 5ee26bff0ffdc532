package remote_test

import (
	"context"
	"sync/atomic"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// stalls are seats of a branch that ignores the error of a statement of its own,
// which loses a deadlock in one call.
type stalls struct{ Number int }

func (stalls) Branch() string { return "stalls.reserve" }

type careless struct {
	reserving[stalls]
	t     *testing.T
	armed atomic.Pointer[barrier.Op]
	lost  int
}

func (c *careless) Try(ctx context.Context, tx *gorm.DB, in stalls) error {
	c.tally(tx, barrier.Try)
	return c.reserving.Try(ctx, tx, in)
}

func (c *careless) Confirm(ctx context.Context, tx *gorm.DB, in stalls) error {
	c.tally(tx, barrier.Confirm)
	return c.reserving.Confirm(ctx, tx, in)
}

func (c *careless) Cancel(ctx context.Context, tx *gorm.DB, in stalls) error {
	c.tally(tx, barrier.Cancel)
	return c.reserving.Cancel(ctx, tx, in)
}

// tally loses a deadlock, if it is armed: the other one has done more work, so that
// MySQL does not choose it.
func (c *careless) tally(tx *gorm.DB, op barrier.Op) {
	armed := c.armed.Load()
	if armed == nil || *armed != op || !c.armed.CompareAndSwap(armed, nil) {
		return
	}
	c.lost++
	_ = tx.Exec("UPDATE tallies SET n = n + 1 WHERE id = 1").Error
	other := c.db.Begin()
	defer other.Rollback()
	other.Exec("INSERT INTO tallies SELECT seq, 0 FROM seq_10_to_500")
	other.Exec("UPDATE tallies SET n = n + 1 WHERE id = 2")
	met := make(chan error, 1)
	go func() { met <- other.Exec("UPDATE tallies SET n = n + 1 WHERE id = 1").Error }()
	if err := tx.Exec("UPDATE tallies SET n = n + 1 WHERE id = 2").Error; err == nil {
		c.t.Error("the branch should have lost the deadlock")
	}
	<-met
}

// A hosted branch that ignores a deadlock, after which MySQL has rolled everything
// back, has not answered yet: the call is made again as a whole.
func TestADeadlockThatAHostedBranchIgnores(t *testing.T) {
	t.Parallel()
	for _, op := range []barrier.Op{barrier.Try, barrier.Confirm, barrier.Cancel} {
		t.Run(string(op), func(t *testing.T) {
			t.Parallel()
			th := newTheatre(t, sqltest.Open(t, "mysql"), remote.HostConfig{})
			sqltest.Exec(t, th.db, "CREATE TABLE tallies (id INT PRIMARY KEY, n INT NOT NULL)")
			sqltest.Exec(t, th.db, "INSERT INTO tallies VALUES (1, 0), (2, 0)")
			c := &careless{reserving: reserving[stalls]{db: th.db, read: func(p stalls) (int, int) { return 1, p.Number }}, t: t}
			sagatest.Must(t, tcc.Register(th.host, c))
			service := newService(t, th.url(), remote.ServiceConfig{})
			a := newAgency(t, service)
			sagatest.Must(t, tcc.RegisterRemote[stalls](a.orch, service))
			c.armed.Store(&op)
			gid := sagatest.GID()
			tx, err := tcc.Begin(t.Context(), a.orch, gid)
			sagatest.Must(t, err)
			sagatest.Must(t, tx.Try(t.Context(), stalls{5}))
			state, barred := saga.Confirmed, "confirmed"
			if op == barrier.Cancel {
				state, barred = saga.Cancelled, "cancelled"
				_, err = tx.Cancel(t.Context(), "on purpose")
			} else {
				_, err = tx.Confirm(t.Context())
			}
			sagatest.Must(t, err)
			a.reaches(gid, state)
			if state == saga.Confirmed {
				th.holds(95, 0, 5)
			} else {
				th.holds(100, 0, 0)
			}
			var row string
			sagatest.Must(t, th.db.Raw("SELECT state FROM saga_barrier WHERE gid = ?", gid).Scan(&row).Error)
			if row != barred || c.lost != 1 {
				t.Errorf("the barrier says %q after %d deadlocks, want %q after 1", row, c.lost, barred)
			}
		})
	}
}
