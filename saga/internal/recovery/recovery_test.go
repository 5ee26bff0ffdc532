package recovery_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/drive"
	"github.com/tccsaga/tccsaga/saga/internal/recovery"
	"github.com/tccsaga/tccsaga/saga/internal/test/parts"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// world has a Recovery and a branches: "a" in the log's database, and "remote".
type world struct {
	*parts.Kit
	parts.Script
	*recovery.Recovery
	waker    *recovery.Waker
	stopping chan struct{}
	alarms   chan string // gids with why they were raised to attention
	markers  int
	t        testing.TB
}

func newWorld(t testing.TB, db *gorm.DB, change func(*recovery.Parts)) *world {
	t.Helper()
	w := &world{Kit: parts.New(t, db), waker: recovery.NewWaker(time.Second), stopping: make(chan struct{}), alarms: make(chan string, 100), t: t}
	k := w.Kit
	alarm := func(t *txn.Txn) { w.alarms <- t.GID + ": " + t.Attention }
	driver := drive.New(drive.Parts{DB: db, Log: k.Log, LogID: k.LogID, Reader: k.Reader, Calls: k.Calls, Shared: k.Shared(1), Commits: k.Commits(1),
		Life: k.Life, Paused: k.Paused, InFlight: k.InFlight, Logger: k.Logger, Instance: parts.Instance,
		CallTimeout: parts.CallTimeout, MinBackoff: time.Hour, MaxBackoff: time.Hour, AttentionAttempts: 100, AttentionAge: time.Hour,
		Again: func(t *txn.Txn, postponed bool) { w.Again(t, postponed) }, Alarm: alarm})
	p := recovery.Parts{DB: db, Log: k.Log, Builder: k.Builder, Drive: driver.Drive, Alarm: alarm, Life: k.Life, InFlight: k.InFlight, Warn: k.Warn,
		Instance: parts.Instance, Stopping: w.stopping, Lease: time.Minute, PollEvery: 5 * time.Millisecond, CallTimeout: parts.CallTimeout,
		AttentionAge: time.Hour, Workers: 10, MaxBytes: 1 << 20}
	change(&p)
	w.Recovery = recovery.New(p, w.waker)
	w.Local("a", &w.Script)
	w.Remote("remote", &w.Script) // whose calls hold no lock
	return w
}

func unchanged(*recovery.Parts) {}

// poll lets recovery work until the end of the test, or until stop is called.
func (w *world) poll() (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan struct{})
	go func() {
		w.Poll(ctx)
		close(ended)
	}()
	stop = func() {
		cancel()
		<-ended
		w.Kit.InFlight.Drain(context.WithoutCancel(w.t.Context()))
	}
	w.t.Cleanup(stop)
	return stop
}

// await waits until a transaction is in a state.
func (w *world) await(gid string, state saga.State) {
	w.t.Helper()
	record, err := w.Reader.Await(w.t.Context(), gid, func(s saga.State) bool { return s == state || s.Finished() })
	ok(w.t, err)
	if record.State != string(state) {
		w.t.Fatalf("%s is %s, want %s", gid, record.State, state)
	}
}

// called returns a channel that is closed when the branch of a transaction is confirmed.
// Unlike await it locks nothing, so that no claim steps around the transaction.
func (w *world) called(gid string) <-chan struct{} {
	called := make(chan struct{})
	w.Do("confirm "+gid+"/01", func(context.Context) error { close(called); return nil })
	return called
}

// sweep waits until recovery has looked at all that was due before.
func (w *world) sweep() {
	w.t.Helper()
	w.markers++
	gid := fmt.Sprint("marker-", w.markers)
	w.Decided(saga.Confirming, 0, gid, "a")
	w.await(gid, saga.Confirmed)
}

// expect compares a transaction with its state, and its epoch: 1 if nobody took it over.
func (w *world) expect(gid string, state saga.State, epoch int64) {
	w.t.Helper()
	if r := w.Record(gid); r.State != string(state) || r.Epoch != epoch {
		w.t.Errorf("%s is %s under epoch %d, want %s under %d", gid, r.State, r.Epoch, state, epoch)
	}
}

// Recovery takes over what is due, of nobody, of this instance, or of one that is gone. It
// leaves what is not due, what this instance drives, and what an instance with a lease has.
func TestWhatIsDue(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, unchanged)
		ok(t, w.Kit.Log.Renew(t.Context(), txlog.Instance{ID: "alive", Host: "h", PID: 1}, time.Hour))
		w.Decided(saga.Confirming, 0, "confirming", "a")
		w.Decided(saga.Cancelling, 0, "cancelling", "a")
		w.Decided(saga.Confirming, 0, "of-nobody", "a")
		w.Decided(saga.Confirming, 0, "of-one-that-is-gone", "a")
		w.Decided(saga.Confirming, 0, "of-one-that-is-alive", "a")
		for gid, owner := range map[string]string{"of-nobody": "", "of-one-that-is-gone": "gone", "of-one-that-is-alive": "alive"} {
			ok(t, db.Exec("UPDATE saga_transactions SET owner = ? WHERE gid = ?", owner, gid).Error)
		}
		w.Decided(saga.Confirming, time.Hour, "not-due", "a")
		w.Decided(saga.Confirming, 0, "in-flight", "a")
		entry, _ := w.Kit.InFlight.Start("in-flight")
		defer w.Kit.InFlight.Release(entry)
		w.poll()
		w.sweep()
		w.await("confirming", saga.Confirmed)
		w.await("cancelling", saga.Cancelled)
		w.await("of-nobody", saga.Confirmed)
		w.await("of-one-that-is-gone", saga.Confirmed)
		for _, gid := range []string{"confirming", "of-nobody", "of-one-that-is-gone"} {
			w.expect(gid, saga.Confirmed, 2)
		}
		w.expect("cancelling", saga.Cancelled, 2)
		w.expect("of-one-that-is-alive", saga.Confirming, 1)
		w.expect("not-due", saga.Confirming, 1)
		w.expect("in-flight", saga.Confirming, 1)
		if r := w.Record("in-flight"); r.DueAt.Sub(r.DecidedAt) < 30*time.Second {
			t.Error("what is in flight was not put off")
		}
	})
}

// trying writes an undecided transaction whose branch is tried.
func (w *world) trying(gid, owner string, deadline time.Duration) {
	w.t.Helper()
	transaction := w.Prepare(gid, "a")
	start := w.Start(transaction)
	start.Owner, start.Deadline, start.Due = owner, deadline, 0
	w.Insert(start)
	w.Barrier(transaction, transaction.Steps[0], "try")
}

// Nobody decides any more what is undecided at its deadline, or whose process is gone: it is
// cancelled.
func TestPresumedAbort(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, unchanged)
		w.trying("late", "", 0)
		w.trying("late-and-gone", "gone", 0)
		w.trying("gone", "gone", time.Hour)
		w.trying("late-in-flight", parts.Instance, 0)
		entry, _ := w.Kit.InFlight.Start("late-in-flight")
		defer w.Kit.InFlight.Release(entry)
		w.poll()
		for gid, want := range map[string]string{
			"late": "deadline deadline", "late-and-gone": "deadline deadline", "gone": "recovery gone", "late-in-flight": "deadline deadline"} {
			w.await(gid, saga.Cancelled)
			r := w.Record(gid)
			if got := r.DecidedBy + " " + r.Code; got != want || r.Reason == "" || r.Owner != parts.Instance {
				t.Errorf("%s: %+v", gid, r)
			}
			if rows := w.Rows(db, gid); rows != "01 cancelled" {
				t.Errorf("%s: %s", gid, rows)
			}
		}
	})
}

// An undecided transaction with a kind that is not known here is cancelled, and driven by
// an instance that knows the kind.
func TestPresumedAbortOfAnUnknownKind(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, unchanged)
		w.trying("g", "", 0)
		ok(t, db.Exec("UPDATE saga_branches SET kind = 'elsewhere' WHERE gid = 'g'").Error)
		w.poll()
		w.await("g", saga.Cancelling)
		w.sweep()
		if r := w.Record("g"); r.Owner != "" || r.Attention != "" || r.Epoch != 2 || w.Rows(db, "g") != "01 tried" {
			t.Errorf("%+v, %s", r, w.Rows(db, "g"))
		}
	})
}

// A paused transaction is cancelled at its deadline, and not driven.
func TestPresumedAbortOfAPausedTransaction(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, unchanged)
		w.trying("g", "", 0)
		w.Decided(saga.Confirming, 0, "decided", "a")
		for _, gid := range []string{"g", "decided"} {
			w.In(func(tx *gorm.DB) error { return w.Kit.Log.Pause(t.Context(), tx, gid) })
		}
		w.poll()
		w.await("g", saga.Cancelling)
		w.sweep()
		w.expect("g", saga.Cancelling, 2)
		w.expect("decided", saga.Confirming, 1)
		if made := w.Made(); strings.Contains(made, " g/") || strings.Contains(made, "decided") {
			t.Errorf("made %s", made)
		}
	})
}

// Transactions that wait for long for an instance that knows their kinds are raised to
// attention, each once. They hold up no other.
func TestForeignTransactions(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, unchanged)
		const overdue = 12 // more than one claim raises
		var want, got []string
		for n := range overdue {
			gid := fmt.Sprintf("overdue-%02d", n)
			w.Decided(saga.Confirming, 0, gid, "a")
			w.Age(db, gid, 2*time.Hour, "saga_transactions", "due_at")
			want = append(want, gid+": kind: no instance that runs knows the kind of branch elsewhere: register it, or an alias for it")
		}
		w.Decided(saga.Confirming, 0, "young", "a")
		ok(t, db.Exec("UPDATE saga_branches SET kind = 'elsewhere'").Error)
		stop := w.poll()
		for range overdue {
			got = append(got, <-w.alarms)
		}
		w.sweep()
		w.sweep()
		stop()
		if slices.Sort(got); !slices.Equal(got, want) || len(w.alarms) > 0 {
			t.Errorf("raised %q, and %d more", got, len(w.alarms))
		}
		for n := range overdue {
			w.expect(fmt.Sprintf("overdue-%02d", n), saga.Confirming, 1)
		}
		if r := w.Record("young"); r.Attention != "" || r.Epoch != 1 {
			t.Errorf("%+v", r)
		}
	})
}

// MakeDue wakes recovery, which drives what this instance has put off.
func TestMakeDue(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, func(p *recovery.Parts) { p.PollEvery = 24 * time.Hour })
		first, ours := w.called("first"), w.called("ours")
		w.Decided(saga.Confirming, 0, "first", "a")
		w.Decided(saga.Confirming, time.Hour, "ours", "a")
		w.Decided(saga.Confirming, time.Hour, "not-named", "a")
		w.Decided(saga.Confirming, time.Hour, "taken", "a")
		ok(t, db.Exec("UPDATE saga_transactions SET owner = 'other' WHERE gid = 'taken'").Error)
		w.poll()
		<-first
		w.MakeDue([]string{"ours", "taken", "first", "unknown"})
		<-ours
		w.await("ours", saga.Confirmed)
		w.expect("not-named", saga.Confirming, 1)
		w.expect("taken", saga.Confirming, 1)
		if r := w.Record("taken"); r.DueAt.Sub(r.DecidedAt) < time.Minute {
			t.Error("another instance's transaction was made due")
		}
	})
}

// A claim that comes between the end of a round and the release of its entry postpones the
// transaction. It is due again at once, and not when a lease has passed.
func TestAPostponedTransactionIsDueAgain(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, unchanged)
		w.Decided(saga.Confirming, 0, "g", "a")
		entry, _ := w.Kit.InFlight.Start("g")
		w.poll()
		w.sweep()
		w.expect("g", saga.Confirming, 1)
		postponed := w.Kit.InFlight.Release(entry)
		w.Again(&txn.Txn{GID: "g", Next: time.Hour}, postponed)
		w.await("g", saga.Confirmed)
	})
}

// A wake-up makes recovery look before its time.
func TestWaker(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"), func(p *recovery.Parts) { p.PollEvery = 24 * time.Hour })
	first, second := w.called("first"), w.called("second")
	w.Decided(saga.Confirming, 0, "first", "a")
	w.poll()
	<-first
	w.Decided(saga.Confirming, 0, "second", "a")
	for range 3 { // more than are taken in
		w.waker.After(0)
	}
	<-second
}

// Recovery drives a bounded number of transactions at once, and bytes of their payloads.
func TestWorkersAndBytes(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for name, change := range map[string]func(*recovery.Parts){
			"workers": func(p *recovery.Parts) { p.Workers = 1 },
			"bytes":   func(p *recovery.Parts) { p.MaxBytes = 2 }, // a payload has 4
		} {
			w := newWorld(t, db, change)
			began, end := make(chan string), make(chan struct{})
			gids := []string{name + "-1", name + "-2", name + "-3"}
			for n, gid := range gids {
				w.Do("confirm "+gid+"/01", func(context.Context) error {
					select {
					case began <- gid:
					case <-t.Context().Done():
					}
					select {
					case <-end:
					case <-t.Context().Done():
					}
					return nil
				})
				w.Decided(saga.Confirming, 0, gid, "remote")
				w.Age(db, gid, time.Duration(len(gids)-n)*time.Second, "saga_transactions", "due_at")
			}
			stop := w.poll()
			for n, gid := range gids { // the longest due first
				if first := <-began; first != gid {
					t.Fatalf("%s: %s is called", name, first)
				}
				for _, later := range gids[n+1:] {
					if epoch := w.Record(later).Epoch; epoch != 1 {
						t.Fatalf("%s: %s was taken over", name, later)
					}
				}
				end <- struct{}{}
				w.await(gid, saga.Confirmed)
			}
			stop()
		}
	})
}

// Poll ends when nothing new is begun, and with its context. It takes nothing over then.
func TestPollEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"), func(p *recovery.Parts) { p.PollEvery = 24 * time.Hour })
	called := w.called("g")
	w.Decided(saga.Confirming, 0, "g", "a")
	ended := make(chan struct{})
	go func() { w.Poll(t.Context()); close(ended) }()
	<-called
	close(w.stopping)
	<-ended

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.Decided(saga.Confirming, 0, "h", "a")
	w.Poll(ctx)
	w.expect("h", saga.Confirming, 1)
	w.Kit.InFlight.Drain(t.Context()) // nothing is taken over any more
	w.Poll(t.Context())
	if w.Rows(w.Kit.DB, "h") != "01 tried" || w.Kit.InFlight.Has("h") {
		t.Error("h was driven")
	}
}

// A transaction that fails is due after its backoff, and not before.
func TestAFailureIsPutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"), unchanged)
	w.Fail("confirm g/01", errors.New("on purpose"))
	w.Decided(saga.Confirming, 0, "g", "a")
	stop := w.poll()
	w.sweep()
	w.sweep()
	stop()
	if attempts := w.Attempts("g"); len(attempts) != 1 {
		t.Errorf("%+v", attempts)
	}
	w.expect("g", saga.Confirming, 2)
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
