package drive_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

var errPurpose = errors.New("on purpose")

// A round in which all calls succeed ends the transaction.
func TestAllSucceed(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, end := range []struct {
			decided, end saga.State
			op           string
		}{{saga.Confirming, saga.Confirmed, "confirm"}, {saga.Cancelling, saga.Cancelled, "cancel"}} {
			for _, kinds := range []string{"a", "a b", "external", "remote", "a external", "a b external remote"} {
				w := newWorld(t, db)
				list := strings.Fields(kinds)
				gid := end.op + "-" + strings.Join(list, "-")
				var made, rows, done []string
				for i, kind := range list {
					id := saga.BranchID(i + 1)
					made = append(made, end.op+" "+gid+"/"+id)
					if kind != "remote" {
						rows = append(rows, id+" "+string(end.end))
					}
				}
				transaction := w.Decided(end.decided, time.Minute, gid, list...)
				if got := w.round(transaction); got != end.end {
					t.Errorf("%s: %s", gid, got)
				}
				if got, want := w.MadeSorted(), strings.Join(made, ", "); got != want {
					t.Errorf("made %s, want %s", got, want)
				}
				if slices.Contains(list, "external") || slices.Contains(list, "remote") {
					// The commit of the branches in the log's database marks them.
					for i, kind := range list {
						if kind == "a" || kind == "b" {
							done = append(done, saga.BranchID(i+1))
						}
					}
				}
				w.expect(gid, end.end, strings.Join(rows, ", "), strings.Join(done, " "))
				if len(w.wakes)+len(w.alarms)+len(w.Attempts(gid)) > 0 {
					t.Errorf("%s: woken after %v, alarms %v", gid, w.wakes, w.alarms)
				}
			}
		}
	})
}

// A call that fails is repeated after a pause that doubles, up to a limit. The others are
// not repeated.
func TestOneFails(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		kinds := []string{"a", "b", "external", "remote"}
		for i, kind := range kinds {
			gid, id := "g-"+kind, saga.BranchID(i+1)
			transaction := w.Decided(saga.Confirming, time.Minute, gid, kinds...)
			w.Fail("confirm "+gid+"/"+id, errPurpose)
			var done []string
			for n := range kinds {
				if n != i {
					done = append(done, saga.BranchID(n+1))
				}
			}
			for n, pause := range []time.Duration{minBackoff, 2 * minBackoff, 4 * minBackoff, maxBackoff, maxBackoff} {
				if got := w.round(transaction); got != saga.Confirming {
					t.Errorf("%s: %s", kind, got)
				}
				if made := w.MadeSorted(); n > 0 && made != "confirm "+gid+"/"+id {
					t.Errorf("%s: made %s", kind, made)
				}
				w.expectDue(transaction, pause)
				attempts := w.Attempts(gid)
				if len(attempts) != n+1 {
					t.Fatalf("%s: %+v", kind, attempts)
				}
				last := attempts[n]
				if last.BranchID != id || last.Operation != "confirm" || last.Number != n+1 || !strings.Contains(last.Error, "on purpose") || last.Code != "" || last.Instance == "" {
					t.Errorf("%s: %+v", kind, last)
				}
				if wait := last.NextAt.Sub(last.FailedAt); wait < pause-time.Second || wait > pause+time.Second {
					t.Errorf("%s: attempt %d comes after %s, want %s", kind, n+2, wait, pause)
				}
				if w.Done(gid) != strings.Join(done, " ") || transaction.Steps[i].Failed != n+1 {
					t.Errorf("%s: %s are done, %+v", kind, w.Done(gid), transaction.Steps[i])
				}
			}
			w.Fail("confirm "+gid+"/"+id, nil)
			if got := w.round(transaction); got != saga.Confirmed || w.State(gid) != saga.Confirmed {
				t.Errorf("%s: %s in the end", kind, got)
			}
			w.MadeSorted()
		}
	})
}

// The first one of several branches that is due says when the transaction is due.
func TestABranchWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	transaction := w.Decided(saga.Cancelling, time.Minute, "g", "a", "b", "remote")
	transaction.Steps[0].Wait = 10 * time.Minute
	transaction.Steps[1].Wait = 20 * time.Millisecond // as good as due
	w.Fail("cancel g/03", errPurpose)
	if got := w.round(transaction); got != saga.Cancelling || w.MadeSorted() != "cancel g/02, cancel g/03" {
		t.Error(got)
	}
	w.expectDue(transaction, 10*time.Minute)
	w.expect("g", saga.Cancelling, "01 tried, 02 cancelled", "02")
	if transaction.Steps[0].Failed != 0 || len(w.Attempts("g")) != 1 {
		t.Errorf("%+v", w.Attempts("g"))
	}
}

// An operator's retry during a round is not lost: the round leaves the transaction due.
func TestARetryDuringARound(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		transaction := w.Decided(saga.Confirming, time.Minute, "g", "a", "remote")
		transaction.Steps[0].Wait = 10 * time.Minute // as it was before the retry
		w.Do("confirm g/02", func(ctx context.Context) error {
			w.In(func(tx *gorm.DB) error { return w.Kit.Log.Retry(ctx, tx, "g") })
			return nil
		})
		if got := w.round(transaction); got != saga.Confirming {
			t.Error(got)
		}
		if r := w.Record("g"); r.DueAt.Sub(r.DecidedAt) > 30*time.Second {
			t.Errorf("it is due %s after its decision", r.DueAt.Sub(r.DecidedAt))
		}
	})
}

// A transaction with a kind that is not known here is released to any instance, at once.
func TestAnUnknownKind(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		transaction := w.Decided(saga.Confirming, time.Hour, "g", "a", "remote")
		transaction.Steps[1].Branch = nil
		if got := w.round(transaction); got != saga.Confirming || w.Made() != "confirm g/01" {
			t.Error(got)
		}
		r := w.Record("g")
		if r.Owner != "" || r.DueAt.Sub(r.DecidedAt) > time.Minute || len(w.Attempts("g")) > 0 || r.Failures > 0 {
			t.Errorf("%+v", r)
		}
		w.expect("g", saga.Confirming, "01 confirmed", "01")
	})
}

// A branch of a paused kind is not called. The transaction stays with the instance.
func TestAPausedKind(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		w.In(func(tx *gorm.DB) error { return w.Kit.Log.PauseKind(t.Context(), tx, "remote") })
		ok(t, w.Kit.Paused.Read(t.Context()))
		transaction := w.Decided(saga.Confirming, time.Minute, "g", "a", "remote")
		if got := w.round(transaction); got != saga.Confirming || w.Made() != "confirm g/01" {
			t.Error(got)
		}
		w.expect("g", saga.Confirming, "01 confirmed", "01")
		r := w.Record("g")
		if r.Owner == "" || len(w.Attempts("g")) > 0 || transaction.Steps[1].Failed > 0 || transaction.Next < maxBackoff {
			t.Errorf("%+v, next after %s", r, transaction.Next)
		}
	})
}

// While the circuit of a kind is open, repeated calls wait, and first calls are made. When
// the circuit closes, the transaction that waits is called.
func TestAnOpenCircuit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	b, err := w.Registry.Branch("remote")
	ok(t, err)
	first := w.Decided(saga.Confirming, time.Minute, "first", "remote")
	w.Fail("confirm first/01", errPurpose)
	w.round(first)
	for _, gid := range []string{"x", "y"} {
		b.Breaker.Failure(gid) // the circuit opens after three
	}
	w.Made()
	if got := w.round(first); got != saga.Confirming || w.Made() != "" {
		t.Errorf("%s, and the branch was called", got)
	}
	if len(w.Attempts("first")) != 1 || first.Steps[0].Failed != 1 || first.Next <= 0 || first.Next > maxBackoff || w.wakes[0] != first.Next {
		t.Errorf("next after %s, woken after %v, %+v", first.Next, w.wakes, w.Attempts("first"))
	}
	second := w.Decided(saga.Confirming, time.Minute, "second", "remote")
	if got := w.round(second); got != saga.Confirmed || w.Made() != "confirm second/01" {
		t.Errorf("a first call: %s", got)
	}
	if !b.Breaker.TakeReleased("first") || b.Breaker.TakeReleased("second") {
		t.Error("the success has not released the transaction that waits, or another one")
	}
}

// A call that is not due yet is no failure.
func TestATryIsUnderWay(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		began, end := make(chan struct{}), make(chan struct{})
		w.Do("try g/02", func(context.Context) error { close(began); <-end; return nil })
		transaction := w.Decided(saga.Cancelling, time.Minute, "g", "a", "remote") // which has no barrier here
		external, err := w.Registry.Branch("external")
		ok(t, err)
		step := transaction.Steps[1]
		step.Kind, step.Branch = "external", external
		tried := make(chan error)
		go func() { tried <- w.Kit.Calls.Call(t.Context(), external, transaction.Call(step, barrier.Try)) }()
		<-began
		w.Made()
		if got := w.round(transaction); got != saga.Cancelling || w.Made() != "cancel g/01" {
			t.Error(got)
		}
		if transaction.Next <= 0 || transaction.Next > time.Second || len(w.Attempts("g")) > 0 || !strings.Contains(step.WaitReason, "its Try is under way") {
			t.Errorf("next after %s: %s", transaction.Next, step.WaitReason)
		}
		close(end)
		ok(t, <-tried)
		step.Wait = 0
		if got := w.round(transaction); got != saga.Cancelled {
			t.Error(got)
		}
		w.expect("g", saga.Cancelled, "01 cancelled, 02 cancelled", "01")
	})
}

// A failure from before the round counts as a call of it.
func TestAnEarlyFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	transaction := w.Decided(saga.Confirming, time.Minute, "g", "a", "b")
	transaction.Steps[1].BatchError = errPurpose
	if got := w.round(transaction); got != saga.Confirming || w.Made() != "confirm g/01" {
		t.Error(got)
	}
	if attempts := w.Attempts("g"); len(attempts) != 1 || attempts[0].BranchID != "02" || attempts[0].Number != 1 || transaction.Steps[1].BatchError != nil {
		t.Errorf("%+v", attempts)
	}
	w.expectDue(transaction, minBackoff)
}

// A round that is interrupted writes nothing: the log says all that others need.
func TestInterrupted(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, kind := range []string{"a", "external", "remote"} {
			w := newWorld(t, db)
			transaction := w.Decided(saga.Confirming, time.Minute, kind, kind)
			before := w.Record(kind)
			ctx, cancel := context.WithCancel(t.Context())
			w.Do("confirm "+kind+"/01", func(ctx context.Context) error { cancel(); <-ctx.Done(); return ctx.Err() })
			if got := w.roundWithin(ctx, transaction); got != saga.Confirming {
				t.Errorf("%s: %s", kind, got)
			}
			if after := w.Record(kind); after != before || len(w.Attempts(kind)) > 0 || len(w.wakes) > 0 || transaction.Next != 0 || transaction.Steps[0].Failed > 0 {
				t.Errorf("%s: %+v, before %+v", kind, after, before)
			}
		}
	})
}

// A driver whose transaction was taken over changes nothing in the log, and returns the
// state that it has there.
func TestTakenOver(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for gid, answer := range map[string]error{"succeeds": nil, "fails": errPurpose} {
			w := newWorld(t, db)
			transaction := w.Decided(saga.Confirming, time.Minute, gid, "a")
			w.Do("confirm "+gid+"/01", func(context.Context) error { return answer })
			ok(t, db.Exec("UPDATE saga_transactions SET epoch = 2 WHERE gid = ?", gid).Error)
			before := w.Record(gid)
			if got := w.round(transaction); got != saga.Confirming {
				t.Errorf("%s: %s", gid, got)
			}
			if after := w.Record(gid); after != before || len(w.Attempts(gid)) > 0 || len(w.wakes)+len(w.alarms) > 0 {
				t.Errorf("%s: %+v, before %+v", gid, after, before)
			}
			w.expect(gid, saga.Confirming, "01 tried", "")

			// The other one has finished it.
			ok(t, db.Exec("UPDATE saga_transactions SET state = 'confirmed' WHERE gid = ?", gid).Error)
			if got := w.round(transaction); got != saga.Confirmed {
				t.Errorf("%s: %s after it was finished", gid, got)
			}
		}
	})
}

// A transaction that was begun with branches is not finished without them.
func TestBranchesThatAreMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	transaction := w.Decided(saga.Confirming, time.Minute, "g", "a")
	transaction.Steps = nil
	if got := w.round(transaction); got != saga.Confirming {
		t.Error(got)
	}
	w.expect("g", saga.Confirming, "01 tried", "")
	transaction.Planned = false // as one that was opened, and then confirmed without branches
	if got := w.round(transaction); got != saga.Confirmed {
		t.Error(got)
	}
	w.expect("g", saga.Confirmed, "01 tried", "")
}
