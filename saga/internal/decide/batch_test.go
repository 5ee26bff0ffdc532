package decide_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/decide"
	"github.com/tccsaga/tccsaga/saga/internal/test/parts"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

func gids(prefix string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(prefix, i))
	}
	return all
}

// Plans of the same kinds share a commit, and go on to their end in it.
func TestABatch(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, 10)
		all := gids("g", 3)
		for i, got := range w.batch(all, "a", "b") {
			if got.State != saga.Confirmed || got.Cause != nil || got.GID != all[i] {
				t.Errorf("%+v", got)
			}
			w.expect(all[i], saga.Confirmed, "01 confirmed, 02 confirmed", "")
		}
	})
}

func TestABatchNeedsOneCommit(t *testing.T) {
	t.Parallel()
	db, loss := sqltest.OpenLossy(t)
	w := newWorld(t, db, 10)
	_, before := loss.Traffic()
	w.batch(gids("g", 5), "a", "b")
	if _, after := loss.Traffic(); after-before != 1 {
		t.Errorf("%d commits", after-before)
	}
}

// Each caller in a batch learns of its own transaction: one whose Try is rejected, or fails,
// or whose Confirm fails. It holds up no other. In the second batch rejections are expected,
// and each member has a savepoint.
func TestABatchWithFailures(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, 10)
		failure := errors.New("on purpose")
		for _, round := range []string{"first", "second"} {
			all := gids(round, 6)
			w.Fail("try "+all[1]+"/01", short)
			w.Fail("try "+all[2]+"/02", short)
			w.Fail("try "+all[3]+"/01", failure)
			w.Fail("try "+all[4]+"/02", failure)
			w.Fail("confirm "+all[5]+"/02", failure)
			for i, got := range w.batch(all, "a", "b") {
				switch i {
				case 0:
					if got.State != saga.Confirmed || got.Cause != nil {
						t.Errorf("%+v", got)
					}
					w.expect(all[i], saga.Confirmed, "01 confirmed, 02 confirmed", "")
				case 5:
					if got.State != saga.Confirming || got.Cause != nil {
						t.Errorf("%+v", got)
					}
					w.expect(all[i], saga.Confirming, "01 tried, 02 tried", "")
				default:
					expectRefused(t, w, all[i], got, map[int]string{1: "01", 2: "02", 3: "01", 4: "02"}[i], i <= 2)
				}
			}
		}
	})
}

// expectRefused expects a transaction whose Try was refused and left nothing.
func expectRefused(t *testing.T, w *world, gid string, got decide.Decision, branch string, rejected bool) {
	t.Helper()
	code := saga.CodeFailed
	if rejected {
		code = "short"
	}
	var rejection *saga.Rejection
	if got.State != saga.Cancelled || got.Code != code || got.BranchID != branch || errors.As(got.Cause, &rejection) != rejected {
		t.Errorf("%+v", got)
	}
	w.expect(gid, saga.Cancelled, "", "")
	if r := w.Record(gid); r.Code != code || r.BranchID != branch || r.Reason != got.Reason {
		t.Errorf("%+v", r)
	}
}

// A branch that judges many members at once rejects some of them in the shared commit.
func TestABatchWithWorkBatch(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, 10)
		sizes := map[int]int{}
		w.Register(saga.NewLocal("bulk", parts.Encode, saga.Local{Work: w.Work,
			WorkBatch: func(ctx context.Context, _ *gorm.DB, _ barrier.Op, calls []saga.BatchCall) ([]error, error) {
				sizes[len(calls)]++
				failures := make([]error, len(calls))
				for i, c := range calls {
					failures[i] = w.Call(ctx, c.Call)
				}
				return failures, nil
			}}))
		for _, kinds := range [][]string{{"bulk"}, {"a", "bulk"}, {"bulk", "a"}} {
			for _, round := range []string{"first", "second"} {
				all := gids(fmt.Sprint(len(kinds), kinds[0], round), 4)
				branch := "01"
				if kinds[0] == "a" {
					branch = "02"
				}
				w.Fail("try "+all[2]+"/"+branch, short)
				for i, got := range w.batch(all, kinds...) {
					if i == 2 {
						expectRefused(t, w, all[i], got, branch, true)
						continue
					}
					if got.State != saga.Confirmed {
						t.Errorf("%v: %+v", kinds, got)
					}
					rows := "01 confirmed, 02 confirmed"
					w.expect(all[i], saga.Confirmed, rows[:len("01 confirmed")+len(", 02 confirmed")*(len(kinds)-1)], "")
				}
			}
		}
		if sizes[4] == 0 {
			t.Errorf("the batches have the sizes %v", sizes)
		}
	})
}

// A gid in use, and a caller who has gone, hold up no other.
func TestABatchWithoutSome(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, 10)
		w.Decided(saga.Confirming, time.Hour, "g1", "a")
		gone, leave := context.WithCancel(t.Context())
		contexts := []context.Context{t.Context(), t.Context(), gone, t.Context()}
		transactions := make([]*txn.Txn, len(contexts))
		for i := range contexts {
			transactions[i] = w.Prepare(fmt.Sprint("g", i), "a", "b")
		}
		key, _ := w.Decider.Shared.Key(transactions[0].Steps)
		w.Gather(key, len(contexts)+1)
		decisions := make([]decide.Decision, len(contexts))
		done := make(chan int)
		start := func(i int) {
			decisions[i] = w.Decide(contexts[i], transactions[i], w.Start(transactions[i]), nil)
			done <- i
		}
		for i := range contexts {
			go start(i)
		}
		for tick := time.NewTicker(time.Millisecond); w.Waiting(key) < len(contexts); <-tick.C {
		}
		leave()
		last := w.Prepare("last", "a", "b")
		if got := w.Decide(t.Context(), last, w.Start(last), nil); got.State != saga.Confirmed {
			t.Errorf("%+v", got)
		}
		for range contexts {
			<-done
		}
		for _, i := range []int{0, 3} {
			if decisions[i].State != saga.Confirmed || decisions[i].Cause != nil {
				t.Errorf("%+v", decisions[i])
			}
		}
		if got := decisions[1]; got.State.Decided() || !errors.Is(got.Cause, txlog.ErrExists) {
			t.Errorf("a gid in use: %+v", got)
		}
		w.expect("g1", saga.Confirming, "01 tried", "")
		if got := decisions[2]; got.State.Decided() || !errors.Is(got.Cause, context.Canceled) {
			t.Errorf("a caller who has gone: %+v", got)
		}
		w.expect("g2", "", "", "")
	})
}
