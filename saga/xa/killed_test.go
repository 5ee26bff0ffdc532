package xa_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/saga/xa"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// pausing is the engine of a child. It stops at calls of the branches.
type pausing struct {
	saga.Engine
	at func(call saga.Call, make func() error) error
}

func (p pausing) Register(b saga.Branch) error {
	service := b.Shape().(interface {
		saga.Remote
		Database() *gorm.DB
	})
	return p.Engine.Register(saga.NewRemote(b.Kind(), b.Encoder(), pausingService{service, p.at}))
}

type pausingService struct {
	inner interface {
		saga.Remote
		Database() *gorm.DB
	}
	at func(call saga.Call, make func() error) error
}

func (s pausingService) Database() *gorm.DB { return s.inner.Database() }
func (s pausingService) Call(ctx context.Context, call saga.Call) error {
	return s.at(call, func() error { return s.inner.Call(ctx, call) })
}

// The steps at which a process is killed, and what becomes of its transaction, which adds 5 to
// the first number and 7 to the second one.
var steps = []struct {
	name     string
	prepared int // branches, when the process is killed
	done     int // branches that have ended then
	then     saga.State
}{
	{"before START", 0, 0, saga.Cancelled},
	{"after START", 0, 0, saga.Cancelled},
	{"after the work", 0, 0, saga.Cancelled},
	{"after PREPARE", 1, 0, saga.Cancelled},
	{"before the decision", 2, 0, saga.Cancelled},
	{"after the decision", 2, 0, saga.Confirmed},
	{"after one COMMIT", 1, 1, saga.Confirmed},
	{"after the decision to cancel", 1, 0, saga.Cancelled},
	{"after the ROLLBACK", 0, 1, saga.Cancelled},
}

var killedConfig = embedded.Config{Lease: 2 * time.Second}

// dieAt is what the process does that is killed.
func dieAt(t *testing.T, c child) {
	// Not with sqltest.Connect, which would log.
	db, err := gorm.Open(sqltest.Dialector(c.Database), &gorm.Config{})
	sagatest.Must(t, err)
	work := func(step string, id int) func(context.Context, *gorm.DB, add) error {
		return func(_ context.Context, _ *gorm.DB, in add) error {
			if c.Step == step && in.ID == id {
				stop()
			}
			return nil
		}
	}
	b := adder{before: work("after START", 1), after: func(ctx context.Context, tx *gorm.DB, in add) error {
		if in.ID == 2 && (c.Step == "after the decision to cancel" || c.Step == "after the ROLLBACK") {
			return tcc.Reject(errors.New("on purpose"))
		}
		return errors.Join(work("after the work", 1)(ctx, tx, in), work("after PREPARE", 2)(ctx, tx, in))
	}}
	e := sagatest.Open(t, db, killedConfig)
	d := open(t, db)
	sagatest.Must(t, xa.Register(pausing{e, func(call saga.Call, make func() error) error {
		// The branches end at the same time. Only the first one goes on.
		first, trying := call.BranchID == "01", call.Op == barrier.Try
		switch c.Step {
		case "before START":
			stop()
		case "after the decision", "after the decision to cancel":
			if !trying {
				stop()
			}
		case "after one COMMIT", "after the ROLLBACK":
			if !trying && !first {
				select {}
			}
		}
		err := make()
		if c.Step == "before the decision" && trying && !first ||
			(c.Step == "after one COMMIT" || c.Step == "after the ROLLBACK") && !trying && err == nil {
			stop()
		}
		return err
	}}, d, b))
	sagatest.Run(t, e)
	_, err = tcc.Execute(t.Context(), e, c.GID, add{1, 5}, add{2, 7})
	t.Fatalf("not killed: %v", err)
}

// A process is killed at each step. Until another one ends its transaction, nobody sees the
// work. Then all of it is there, or nothing, and no prepared transaction is left.
func TestProcessKilledAtEachStep(t *testing.T) {
	if c, is := asChild(t); is {
		dieAt(t, c)
	}
	for _, dialect := range servers {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			for _, s := range steps {
				t.Run(s.name, func(t *testing.T) { killedAt(t, dialect, s.name, s.prepared, s.done, s.then) })
			}
		})
	}
}

func killedAt(t *testing.T, dialect, step string, inDoubt, done int, then saga.State) {
	database := sqltest.Create(t, dialect)
	db := sqltest.Connect(t, database, &gorm.Config{})
	sagatest.Must(t, schema.Migrate(t.Context(), db))
	numbers(t, db)
	gid := gidOf(t, db)
	killAt(t, "TestProcessKilledAtEachStep", child{database, gid, step})

	if got := len(prepared(t, db, gid)); got != inDoubt {
		t.Errorf("%d branches are prepared, want %d", got, inDoubt)
	}
	seen := 0
	if then == saga.Confirmed {
		seen = 5 * done
	}
	if one, two := number(t, db, 1), number(t, db, 2); one != seen || two != 0 {
		t.Errorf("before its end the numbers are %d and %d", one, two)
	}
	e := sagatest.Open(t, db, killedConfig)
	sagatest.Must(t, xa.Register(e, open(t, db), adder{}))
	sagatest.Run(t, e)
	found := sagatest.Reach(t, e, gid, then)
	one, two, row := 0, 0, barrier.StateCancelled
	if then == saga.Confirmed {
		one, two, row = 5, 7, barrier.StateConfirmed
	}
	if a, b := number(t, db, 1), number(t, db, 2); a != one || b != two {
		t.Errorf("the numbers are %d and %d, want %d and %d", a, b, one, two)
	}
	if left := prepared(t, db, gid); len(left) != 0 || locked(db, 1) || locked(db, 2) {
		t.Errorf("left are %v", left)
	}
	for i, b := range found.Branches {
		want := row
		if row == barrier.StateCancelled && i >= max(inDoubt, done) {
			want = barrier.StateSuspended // the Try was rolled back, or never came
		}
		if b.Barrier == nil || b.Barrier.State != want || b.Barrier.Explain() == "" {
			t.Errorf("branch %s: %+v, want %s", b.ID, b.Barrier, want)
		}
	}
}
