package call_test

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/test/parts"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// world is a Caller with branches on a real database.
type world struct {
	*parts.Kit
	parts.Script
	t testing.TB
}

func newWorld(t testing.TB, db *gorm.DB) *world { return &world{Kit: parts.New(t, db), t: t} }

// call makes a call of the only branch of the transaction g.
func (w *world) call(b *txn.Branch, op barrier.Op) error {
	return w.Calls.Call(w.t.Context(), b, w.of(b, op))
}

func (w *world) of(b *txn.Branch, op barrier.Op) saga.Call {
	return saga.Call{GID: "g", BranchID: "01", Kind: b.Kind, Op: op, Caller: w.LogID, Attempt: 1, Payload: []byte("1")}
}

func (w *world) row() *barrier.Row {
	w.t.Helper()
	rows, err := barrier.Look(w.t.Context(), w.DB, "g")
	ok(w.t, err)
	if len(rows) == 0 {
		return nil
	}
	return &rows[0]
}

// marked returns the operation that the barrier row says is under way or has an unknown
// end, and whether its time is over.
func (w *world) marked() (op barrier.Op, over bool) {
	w.t.Helper()
	if row := w.row(); row != nil && row.UnderWay != nil {
		return row.UnderWay.Op, row.UnderWay.Left <= 0
	}
	return "", true
}

func (w *world) expect(state, made string) {
	w.t.Helper()
	if got := w.Rows(w.DB, "g"); got != state {
		w.t.Errorf("the barrier has %q, want %q", got, state)
	}
	if got := w.Made(); got != made {
		w.t.Errorf("made %q, want %q", got, made)
	}
}

// The work of a call and its barrier row are one.
func TestApartWithWork(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		ok(t, db.Exec("CREATE TABLE things (id INT PRIMARY KEY)").Error)
		things := func() (n int64) { ok(t, db.Table("things").Count(&n).Error); return n }
		b := w.Register(saga.NewLocal("k", parts.Encode, saga.Local{Work: func(ctx context.Context, tx *gorm.DB, c saga.Call) error {
			ok(t, tx.Exec("INSERT INTO things VALUES (?)", things()).Error)
			return w.Work(ctx, tx, c)
		}}))
		failure := errors.New("on purpose")
		w.Fail("try g/01", failure)
		if err := w.call(b, barrier.Try); !errors.Is(err, failure) || err.Error() != "on purpose" {
			t.Error(err)
		}
		w.expect("", "try g/01")
		if things() != 0 {
			t.Error("a Try that failed has left its work")
		}
		w.Fail("try g/01", nil)
		ok(t, w.call(b, barrier.Try))
		ok(t, w.call(b, barrier.Try))
		w.expect("01 tried", "try g/01")
		ok(t, w.call(b, barrier.Confirm))
		ok(t, w.call(b, barrier.Confirm))
		w.expect("01 confirmed", "confirm g/01")
		if err := w.call(b, barrier.Cancel); !errors.Is(err, barrier.ErrConflict) {
			t.Error(err)
		}
		w.expect("01 confirmed", "")
		if n := w.row().TurnedAway; n != 3 || things() != 2 {
			t.Errorf("%d calls were turned away, and there are %d things", n, things())
		}
	})
}

// Cancel before Try is an empty rollback, and the Try is refused.
func TestApartSuspends(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		for _, b := range []*txn.Branch{w.Local("local", &w.Script), w.External("external", &w.Script)} {
			ok(t, w.call(b, barrier.Cancel))
			if err := w.call(b, barrier.Try); !errors.Is(err, barrier.ErrSuspended) {
				t.Errorf("%s: %v", b.Kind, err)
			}
			w.expect("01 suspended", "")
			ok(t, db.Exec("DELETE FROM saga_barrier").Error)
		}
	})
}

// A Caller with a prefix is another caller for the barrier.
func TestThePrefixOfACaller(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	b := w.Local("k", &w.Script)
	elsewhere := call.New(call.Config{Timeout: timeout, Logger: w.Logger, Instance: "other", Prefix: "@"})
	ok(t, elsewhere.Call(t.Context(), b, w.of(b, barrier.Try)))
	if got := w.row().Caller; got != "@"+w.LogID {
		t.Errorf("the row is of %s", got)
	}
	if err := w.call(b, barrier.Confirm); !errors.Is(err, barrier.ErrConflict) {
		t.Error(err)
	}
}

// A Try that acts outside of the database is marked while it is made. Its end is noted, if
// it is known.
func TestAnExternalTry(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		lost := &net.OpError{Op: "read", Err: errors.New("connection reset")}
		for _, c := range []struct {
			name  string
			f     func() error
			known bool
		}{
			{"success", func() error { return nil }, true},
			{"a rejection", func() error { return saga.Reject(lost) }, true},
			{"a failure", func() error { return errors.New("on purpose") }, true},
			{"a lost connection", func() error { return lost }, false},
			{"the end of the answer", func() error { return io.ErrUnexpectedEOF }, false},
			{"a panic", func() error { panic("on purpose") }, false},
			{"the end of the goroutine", func() error { runtime.Goexit(); return nil }, false},
			{"a request that was given up", func() error { return context.Canceled }, false},
		} {
			w := newWorld(t, db)
			b := w.External("k", &w.Script)
			w.Do("try g/01", func(context.Context) error {
				if op, over := w.marked(); op != barrier.Try || over {
					t.Errorf("%s: while it is made, the mark is %q, over: %v", c.name, op, over)
				}
				return c.f()
			})
			err := w.call(b, barrier.Try)
			if (err == nil) != (c.name == "success") {
				t.Errorf("%s: %v", c.name, err)
			}
			op, over := w.marked()
			if c.known != (op == "") || !over {
				t.Errorf("%s: the mark is %q, over: %v", c.name, op, over)
			}
			w.expect("01 tried", "try g/01")
			if err := w.call(b, barrier.Try); !errors.Is(err, saga.ErrOngoing) {
				t.Errorf("%s: made again: %v", c.name, err)
			}
			w.expect("01 tried", "")

			// If its end is unknown, it may arrive late: Cancel comes twice.
			err = w.call(b, barrier.Cancel)
			var notYet *call.NotYetError
			if c.known != (err == nil) || !c.known && !errors.As(err, &notYet) {
				t.Errorf("%s: cancelled: %v", c.name, err)
			}
			w.expect("01 cancelled", "cancel g/01")
			if !c.known {
				if err = w.call(b, barrier.Cancel); !errors.As(err, &notYet) || notYet.Wait <= 0 || !errors.Is(err, saga.ErrOngoing) {
					t.Errorf("%s: cancelled once more too early: %v", c.name, err)
				}
				w.expect("01 cancelled", "")
				w.Age(db, "g", time.Second, "saga_barrier", "call_until")
				ok(t, w.call(b, barrier.Cancel))
				w.expect("01 cancelled", "cancel g/01")
				ok(t, w.call(b, barrier.Cancel))
				w.expect("01 cancelled", "")
			}
			ok(t, db.Exec("DELETE FROM saga_barrier").Error)
		}
	})
}

// Cancel does not overtake a Try that is under way.
func TestCancelWaitsForAnExternalTry(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		b := w.External("k", &w.Script)
		began, end := make(chan struct{}), make(chan struct{})
		w.Do("try g/01", func(context.Context) error { close(began); <-end; return nil })
		tried := make(chan error, 1)
		go func() { tried <- w.call(b, barrier.Try) }()
		<-began
		var notYet *call.NotYetError
		if err := w.call(b, barrier.Cancel); !errors.As(err, &notYet) || notYet.Wait <= 0 || notYet.Wait > time.Second || !strings.Contains(err.Error(), "its Try is under way") {
			t.Error(err)
		}
		w.expect("01 tried", "try g/01")
		close(end)
		ok(t, <-tried)
		ok(t, w.call(b, barrier.Cancel))
		w.expect("01 cancelled", "cancel g/01")
	})
}

// A Try that returns after its time was over, when Cancel has come, is cancelled once more.
func TestAnExternalTryThatReturnsLate(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		b := w.External("k", &w.Script)
		w.Do("try g/01", func(context.Context) error {
			// As after a pause of the process: the time of the mark is over, and Cancel comes.
			w.Age(db, "g", time.Second, "saga_barrier", "call_until")
			var notYet *call.NotYetError
			if err := w.call(b, barrier.Cancel); !errors.As(err, &notYet) {
				t.Errorf("cancelled meanwhile: %v", err)
			}
			return nil
		})
		ok(t, w.call(b, barrier.Try))
		w.expect("01 cancelled", "try g/01, cancel g/01, cancel g/01")
		if op, _ := w.marked(); op != "" {
			t.Errorf("the mark is %q", op)
		}
	})
}

// A Confirm or Cancel outside of the database is made if the barrier says that it is due,
// and is made again until its row is written.
func TestAnExternalConfirm(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		b := w.External("k", &w.Script)
		if err := w.call(b, barrier.Confirm); !errors.Is(err, barrier.ErrConflict) {
			t.Errorf("without a Try: %v", err)
		}
		w.expect("", "")
		ok(t, w.call(b, barrier.Try))
		failure := errors.New("on purpose")
		w.Do("confirm g/01", func(context.Context) error {
			if op, over := w.marked(); op != barrier.Confirm || over {
				t.Errorf("while it is made, the mark is %q, over: %v", op, over)
			}
			return failure
		})
		if err := w.call(b, barrier.Confirm); err != failure {
			t.Error(err)
		}
		w.expect("01 tried", "try g/01, confirm g/01")
		if op, _ := w.marked(); op != "" {
			t.Errorf("after a failure, the mark is %q", op)
		}
		w.Fail("confirm g/01", nil)
		ok(t, w.call(b, barrier.Confirm))
		ok(t, w.call(b, barrier.Confirm))
		w.expect("01 confirmed", "confirm g/01")
		if op, _ := w.marked(); op != "" {
			t.Errorf("in the end, the mark is %q", op)
		}
	})
}

// The Work of a call gets the receipt of its effect.
func TestTheReceiptOfAnEffect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	var got []any
	b := w.Register(saga.NewLocal("k", parts.Encode, saga.Local{
		Work:    func(_ context.Context, _ *gorm.DB, c saga.Call) error { got = append(got, c.Receipt); return nil },
		Effects: map[barrier.Op]saga.Effect{barrier.Confirm: func(context.Context, saga.Call) (any, error) { return "receipt", nil }}}))
	ok(t, w.call(b, barrier.Try))
	ok(t, w.call(b, barrier.Confirm))
	if len(got) != 2 || got[0] != nil || got[1] != "receipt" {
		t.Errorf("the receipts are %v", got)
	}
}

// A Try commits between the look at the barrier, which has found nothing to cancel, and the
// write of the row: Cancel begins anew, and makes its effect.
func TestATryComesInBetween(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "postgres") // whose locking read does not see a row that is being inserted
	w := newWorld(t, db)
	b := w.External("k", &w.Script)
	trying := db.Begin()
	defer trying.Rollback()
	_, err := barrier.Call(t.Context(), trying, call.Request(w.of(b, barrier.Try)))
	ok(t, err)
	cancelled := make(chan error, 1)
	go func() { cancelled <- w.call(b, barrier.Cancel) }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for waiting := 0; waiting == 0; <-tick.C {
		ok(t, db.Raw("SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()").Scan(&waiting).Error)
	}
	ok(t, trying.Commit().Error)
	ok(t, <-cancelled)
	w.expect("01 cancelled", "cancel g/01")
}
