package enlist_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/enlist"
	"github.com/tccsaga/tccsaga/saga/internal/inflight"
	"github.com/tccsaga/tccsaga/saga/internal/test/parts"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// world has a Watcher that tells what it drives.
type world struct {
	*parts.Kit
	*enlist.Watcher
	driven   chan *txn.Txn
	stopping chan struct{}
	t        testing.TB
}

func newWorld(t testing.TB, db *gorm.DB, change func(*enlist.Parts)) *world {
	t.Helper()
	w := &world{Kit: parts.New(t, db), driven: make(chan *txn.Txn, 100), stopping: make(chan struct{}), t: t}
	w.Local("a", &parts.Script{})
	w.Local("b", &parts.Script{})
	p := enlist.Parts{DB: db, Log: w.Log, Life: w.Life, InFlight: w.Kit.InFlight, Warn: w.Warn, Instance: parts.Instance, Stopping: w.stopping,
		For: time.Hour, Most: 100, MaxBytes: 1 << 20,
		Drive: func(_ context.Context, t *txn.Txn, entry *inflight.Entry) saga.State {
			w.Kit.InFlight.Release(entry)
			w.driven <- t
			return saga.Confirmed
		}}
	change(&p)
	w.Watcher = enlist.New(p)
	return w
}

func unchanged(*enlist.Parts) {}

// confirming returns the row of a transaction that is decided with its first commit.
func (w *world) confirming(t *txn.Txn) txlog.Start {
	start := w.Start(t)
	start.State, start.DecidedBy = txlog.Confirming, txlog.ByCaller
	return start
}

func (w *world) watch(t *txn.Txn) {
	w.t.Helper()
	x := w.Reserve(w.t.Context(), t, w.confirming(t).Digest)
	if x == nil {
		w.t.Fatalf("there is no room for %s", t.GID)
	}
	x.Watch()
}

// drives checks that the next transaction that is driven is this one.
func (w *world) drives(gid string) *txn.Txn {
	w.t.Helper()
	t := <-w.driven
	if t.GID != gid {
		w.t.Fatalf("%s is driven, want %s", t.GID, gid)
	}
	return t
}

func (w *world) holds(n int) {
	w.t.Helper()
	sagatest.Eventually(w.t, "the room that is given back", func() bool { return w.Held() == n })
}

var errBack = errors.New("the user rolls back")

// A transaction is driven once its commit shows it, by the driver that wrote it.
func TestWatch(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, unchanged)
		one, two := w.Prepare("one", "a"), w.Prepare("two", "a", "b")
		w.In(func(tx *gorm.DB) error {
			for _, t := range []*txn.Txn{one, two} {
				if err := w.Log.Insert(w.t.Context(), tx, w.confirming(t)); err != nil {
					return err
				}
				w.watch(t)
			}
			return nil
		})
		for range 2 {
			got := <-w.driven
			if got != one && got != two || got.State != saga.Confirming || !got.Fresh || got.Epoch != 1 || got.Decided.IsZero() {
				t.Errorf("driven: %+v", got)
			}
		}
		w.holds(0)
	})
}

// Only what this instance has committed, and nobody has claimed, is driven: not what was
// rolled back, also if the gid is begun again with another plan.
func TestWatchedInVain(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, unchanged)
		back := w.Prepare("back", "a")
		err := db.Transaction(func(tx *gorm.DB) error {
			return errors.Join(w.Log.Insert(t.Context(), tx, w.confirming(back)), errBack)
		})
		if !errors.Is(err, errBack) || errors.Is(err, txlog.ErrExists) {
			t.Fatal(err)
		}
		w.Insert(w.confirming(w.Prepare("back", "b")))
		other := w.confirming(w.Prepare("other", "a"))
		other.Owner = "instance-2"
		w.Insert(other)
		for _, gid := range []string{"claimed", "finished"} {
			w.Insert(w.confirming(w.Prepare(gid, "a")))
		}
		sqltest.Exec(t, db, "UPDATE saga_transactions SET epoch = 2 WHERE gid = 'claimed'")
		sqltest.Exec(t, db, "UPDATE saga_transactions SET state = 'confirmed' WHERE gid = 'finished'")
		w.watch(back)
		for _, gid := range []string{"other", "claimed", "finished"} {
			w.watch(w.Prepare(gid, "a"))
		}
		for _, gid := range []string{"last", "very-last"} { // each after a look for those before it
			last := w.Prepare(gid, "a")
			w.Insert(w.confirming(last))
			w.watch(last)
			w.drives(gid)
		}
		w.holds(4)
		close(w.stopping)
		w.holds(0)
	})
}

// What another call of this process drives is left to it.
func TestWatchedInFlight(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"), unchanged)
	entry, _ := w.Kit.InFlight.Start("g")
	g := w.Prepare("g", "a")
	w.Insert(w.confirming(g))
	w.watch(g)
	w.holds(0)
	w.Kit.InFlight.Release(entry)
	if len(w.driven) > 0 {
		t.Error("it is driven twice at once")
	}
}

// A commit that comes too late is left to recovery.
func TestWatchEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"), func(p *enlist.Parts) { p.For = time.Millisecond })
	w.watch(w.Prepare("late", "a"))
	w.holds(0)
	w.Insert(w.confirming(w.Prepare("late", "a")))
	if len(w.driven) > 0 {
		t.Error("it is driven before its commit")
	}
}

// There is room for a number of transactions and of bytes, and for one that is larger.
func TestRoom(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"), func(p *enlist.Parts) { p.Most, p.MaxBytes = 3, 10 })
	sized := func(bytes int) *enlist.Expected {
		t := w.Prepare("g", "a")
		t.Steps[0].Payload = make([]byte, bytes)
		return w.Reserve(w.t.Context(), t, "digest")
	}
	large := sized(100)
	if large == nil || sized(0) != nil {
		t.Error("a large transaction is not alone")
	}
	large.Drop()
	first, second := sized(5), sized(5)
	if first == nil || second == nil || sized(1) != nil {
		t.Error("the limit of bytes")
	}
	third := sized(0)
	if third == nil || sized(0) != nil {
		t.Error("the limit of transactions")
	}
	for _, x := range []*enlist.Expected{first, second, third} {
		x.Drop()
	}
	if w.Held() != 0 || sized(10) == nil {
		t.Error("room is not given back")
	}
}
