package decide_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/test/parts"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

var short = saga.RejectCode("short", errors.New("none left"))

// A plan in the log's database alone needs one commit, with the Confirms.
func TestAPlanInTheLogsDatabase(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, 10)
		transaction, got := w.run("g", "a", "b")
		if got.State != saga.Confirmed || got.Cause != nil || got.Taken || !transaction.Fresh {
			t.Errorf("%+v", got)
		}
		w.made("try g/01, try g/02, confirm g/01, confirm g/02")
		w.expect("g", saga.Confirmed, "01 confirmed, 02 confirmed", "")
		if !transaction.Steps[0].Done || !transaction.Steps[1].Done {
			t.Error("the steps are not done")
		}
		if r := w.Record("g"); r.DecidedBy != txlog.ByCaller || r.Owner != parts.Instance || r.Digest != transaction.Digest("tcc") {
			t.Errorf("%+v", r)
		}
	})
}

// Without batches, the decision has a commit of its own.
func TestAPlanAlone(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, 1)
		_, got := w.run("g", "a", "b")
		if got.State != saga.Confirming || got.Cause != nil {
			t.Errorf("%+v", got)
		}
		w.made("try g/01, try g/02")
		w.expect("g", saga.Confirming, "01 tried, 02 tried", "")
		w.Fail("try h/02", short)
		_, got = w.run("h", "a", "b")
		if got.State != saga.Cancelled || got.Cause != short || got.Code != "short" || got.BranchID != "02" || got.Reason != "b: none left" {
			t.Errorf("%+v", got)
		}
		w.expect("h", saga.Cancelled, "", "")
	})
}

// A branch with an effect for its Confirm is tried with the others, and confirmed later.
func TestAConfirmWithAnEffectComesLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"), 10)
	w.Register(saga.NewLocal("sent", parts.Encode, saga.Local{Work: w.Work, Effects: map[barrier.Op]saga.Effect{barrier.Confirm: w.Effect}}))
	transaction, got := w.run("g", "sent", "a")
	if got.State != saga.Confirming || got.Cause != nil || !transaction.Fresh {
		t.Errorf("%+v", got)
	}
	w.made("try g/01, try g/02, confirm g/02")
	w.expect("g", saga.Confirming, "01 tried, 02 confirmed", "02")
}

// A Confirm that fails does not change the decision of the Trys.
func TestAConfirmThatFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"), 10)
	failure := errors.New("on purpose")
	w.Fail("confirm g/02", failure)
	transaction, got := w.run("g", "a", "b")
	if got.State != saga.Confirming || got.Cause != nil || transaction.Steps[1].BatchError == nil || !strings.Contains(transaction.Steps[1].BatchError.Error(), "on purpose") {
		t.Errorf("%+v, %v", got, transaction.Steps[1].BatchError)
	}
	w.expect("g", saga.Confirming, "01 tried, 02 tried", "")
}

// The Trys come in the order of the plan, wherever they are made.
func TestAPlanInSeveralPlaces(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, kinds := range []string{"a external", "external a", "a external b", "external a external", "remote", "a b remote", "remote a b", "external"} {
			w := newWorld(t, db, 10)
			list := strings.Fields(kinds)
			gid := strings.ReplaceAll(kinds, " ", "-")
			var made, rows []string
			for i, kind := range list {
				id := saga.BranchID(i + 1)
				made = append(made, "try "+gid+"/"+id)
				if kind != "remote" {
					rows = append(rows, id+" tried")
				}
			}
			transaction, got := w.run(gid, list...)
			if got.State != saga.Confirming || got.Cause != nil || transaction.Fresh || transaction.State != saga.Confirming {
				t.Errorf("%s: %+v", kinds, got)
			}
			w.made(strings.Join(made, ", "))
			w.expect(gid, saga.Confirming, strings.Join(rows, ", "), "")
		}
	})
}

// A Try that fails, in each position of a plan. The branches after it are not tried; those
// that have reserved nothing are done.
func TestATryThatFails(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, c := range []struct {
			fails            string
			state            saga.State
			made, rows, done string
		}{
			// With the commit that begins the transaction, so that nothing was begun.
			{"01", saga.Cancelled, "01", "", ""},
			{"02", saga.Cancelled, "01 02", "", ""},
			// Apart: it may have reserved something.
			{"03", saga.Cancelling, "01 02 03", "01 tried, 02 tried, 03 tried", "04 05 06"},
			{"04", saga.Cancelling, "01 02 03 04", "01 tried, 02 tried, 03 tried", "05 06"},
			// With the commit that decides, which is rolled back.
			{"05", saga.Cancelling, "01 02 03 04 05", "01 tried, 02 tried, 03 tried", "05 06"},
			{"06", saga.Cancelling, "01 02 03 04 05 06", "01 tried, 02 tried, 03 tried", "05 06"},
		} {
			w := newWorld(t, db, 10)
			gid := "fails-" + c.fails
			w.Fail("try "+gid+"/"+c.fails, short)
			kinds := []string{"a", "b", "external", "remote", "a", "b"}
			transaction, got := w.run(gid, kinds...)
			index := int(c.fails[1] - '1')
			want := saga.Outcome{GID: gid, State: c.state, Reason: kinds[index] + ": none left", Code: "short", BranchID: c.fails}
			if got.Outcome != want || !errors.Is(got.Cause, short) || got.Taken {
				t.Errorf("%s: %+v", c.fails, got)
			}
			w.made("try " + gid + "/" + strings.ReplaceAll(c.made, " ", ", try "+gid+"/"))
			w.expect(gid, c.state, c.rows, c.done)
			if r := w.Record(gid); r.Reason != want.Reason || r.Code != "short" || r.BranchID != c.fails || r.DecidedBy != txlog.ByCaller {
				t.Errorf("%s: %+v", c.fails, r)
			}
			for _, s := range transaction.Steps {
				if c.state == saga.Cancelling && s.Done != strings.Contains(c.done, s.ID) {
					t.Errorf("%s: step %s is done: %v", c.fails, s.ID, s.Done)
				}
			}
			attempts := w.Attempts(gid)
			if c.state == saga.Cancelling && (len(attempts) != 1 || attempts[0].BranchID != c.fails || attempts[0].Operation != "try" || attempts[0].Code != "short") {
				t.Errorf("%s: the failed attempts are %+v", c.fails, attempts)
			}
		}
	})
}

// A Try in conflict has reserved nothing: its branch is not cancelled.
func TestATryInConflict(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, 10)
		request := barrier.Request{Key: barrier.Key{GID: "g", BranchID: "02"}, Op: barrier.Try, Caller: "somebody", Kind: "external", Input: []byte("null")}
		_, err := barrier.Do(t.Context(), db, request, func(*gorm.DB) error { return nil })
		ok(t, err)
		_, got := w.run("g", "a", "external")
		if got.State != saga.Cancelling || !errors.Is(got.Cause, barrier.ErrConflict) || got.Code != saga.CodeConflict {
			t.Errorf("%+v", got)
		}
		w.expect("g", saga.Cancelling, "01 tried, 02 tried", "02")
	})
}

// The deadline ends a Try, and the transaction is cancelled because of it.
func TestTheDeadlineEndsATry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"), 10)
	w.Do("try g/02", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	transaction := w.Prepare("g", "a", "external")
	start := w.Start(transaction)
	start.Deadline = 200 * time.Millisecond
	got := w.Decide(t.Context(), transaction, start, nil)
	if got.State != saga.Cancelling || !errors.Is(got.Cause, txn.ErrDeadline) || got.Code != saga.CodeDeadline || strings.Count(got.Reason, txn.ErrDeadline.Error()) != 1 {
		t.Errorf("%+v", got)
	}
	w.expect("g", saga.Cancelling, "01 tried, 02 tried", "")
}

// The database's clock decides whether a confirmation is in time.
func TestTheDeadlineOfTheDatabase(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, kinds := range [][]string{{"external"}, {"external", "a"}} {
			w := newWorld(t, db, 10)
			gid := strings.Join(kinds, "-")
			w.Do("try "+gid+"/01", func(context.Context) error {
				w.Age(db, gid, time.Second, "saga_transactions", "deadline_at")
				return nil
			})
			_, got := w.run(gid, kinds...)
			if got.State != saga.Cancelling || !errors.Is(got.Cause, txn.ErrDeadline) || got.Code != saga.CodeDeadline {
				t.Errorf("%+v", got)
			}
			w.expect(gid, saga.Cancelling, "01 tried", "")
		}
	})
}

// The end of the caller's context cancels a transaction that was begun.
func TestTheCallerGoes(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, 10)
		ctx, cancel := context.WithCancel(t.Context())
		w.Do("try g/01", func(ctx context.Context) error { cancel(); <-ctx.Done(); return errors.New("cut off") })
		transaction := w.Prepare("g", "external", "remote")
		got := w.Decide(ctx, transaction, w.Start(transaction), nil)
		if got.State != saga.Cancelling || !errors.Is(got.Cause, context.Canceled) || got.Code != saga.CodeGone {
			t.Errorf("%+v", got)
		}
		w.made("try g/01")
		w.expect("g", saga.Cancelling, "01 tried", "02")

		// Nothing is begun for a caller who has gone before.
		for _, kinds := range [][]string{{"a"}, {"a", "remote"}, {"remote"}} {
			transaction := w.Prepare("h", kinds...)
			got := w.Decide(ctx, transaction, w.Start(transaction), nil)
			if got.State.Decided() || !errors.Is(got.Cause, context.Canceled) {
				t.Errorf("%v: %+v", kinds, got)
			}
			w.made("")
			w.expect("h", "", "", "")
		}
	})
}

// A gid that is in use is left as it is.
func TestAGIDInUse(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, 10)
		w.Decided(saga.Confirming, time.Minute, "g", "a")
		for _, kinds := range [][]string{{"a", "b"}, {"a", "external"}, {"external"}} {
			_, got := w.run("g", kinds...)
			if got.State.Decided() || !errors.Is(got.Cause, txlog.ErrExists) || got.Taken {
				t.Errorf("%v: %+v", kinds, got)
			}
			w.made("")
			w.expect("g", saga.Confirming, "01 tried", "")
		}
		// Also the same plan of the same instance is another execution.
		alone := newWorld(t, db, 1)
		if _, got := alone.run("g", "a"); got.State.Decided() || !errors.Is(got.Cause, txlog.ErrExists) {
			t.Errorf("the same plan: %+v", got)
		}
	})
}

// A transaction that another instance has taken over is left to it, and has its decision.
func TestTaken(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for gid, answer := range map[string]error{"succeeds": nil, "fails": short} {
			w := newWorld(t, db, 10)
			w.Do("try "+gid+"/01", func(context.Context) error {
				decision := txlog.Decision{GID: gid, State: txlog.Cancelling, Reason: "taken over", Code: saga.CodeGone, By: txlog.ByRecovery, Owner: "other", Due: time.Hour}
				w.In(func(tx *gorm.DB) error { return w.Kit.Log.Decide(t.Context(), tx, decision) })
				return answer
			})
			_, got := w.run(gid, "external", "a")
			want := saga.Outcome{GID: gid, State: saga.Cancelling, Reason: "taken over", Code: saga.CodeGone}
			if !got.Taken || got.Outcome != want || got.Cause != nil {
				t.Errorf("%s: %+v", gid, got)
			}
			// A Cancel may have waited for the end of the Try.
			r := w.Record(gid)
			if r.Owner != "other" || r.DueAt.After(r.DecidedAt.Add(time.Minute)) {
				t.Errorf("%s: %+v", gid, r)
			}
			w.expect(gid, saga.Cancelling, "01 tried", "")
		}
	})
}

// An unanswered COMMIT of a decision is made certain, whether it was made or not.
func TestAnUnansweredDecision(t *testing.T) {
	t.Parallel()
	for _, kinds := range [][]string{{"a"}, {"a", "external"}, {"external", "a"}} {
		for _, committed := range []bool{true, false} {
			for in := 1; in <= 8; in++ {
				db, loss := sqltest.OpenLossy(t)
				w := newWorld(t, db, 10)
				transaction := w.Prepare("g", kinds...)
				start := w.Start(transaction)
				loss.Arm(in, committed)
				got := w.Decide(t.Context(), transaction, start, nil)
				loss.Arm(0, false)
				state := w.State("g")
				// A member of a batch meets its own transaction, which the engine follows.
				met := committed && errors.Is(got.Cause, txlog.ErrExists)
				if !state.Decided() || got.State != state && !met || met && len(kinds) > 1 || got.Taken {
					t.Errorf("%v, COMMIT %d, made: %v: %+v, and in the log it is %s", kinds, in, committed, got, state)
				}
				if loss.Count() == 0 {
					break
				}
			}
		}
	}
}

func TestMakeCancelDue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"), 10)
	for _, state := range []saga.State{saga.Confirming, saga.Cancelling} {
		w.Decided(state, time.Hour, string(state), "a")
		w.MakeCancelDue(t.Context(), string(state))
		r := w.Record(string(state))
		if due := r.DueAt.Before(r.DecidedAt.Add(time.Minute)); due != (state == saga.Cancelling) {
			t.Errorf("%s is due: %v", state, due)
		}
	}
}
