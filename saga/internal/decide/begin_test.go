package decide_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// Plans whose first branches are resident begin in a shared commit, also if other branches follow.
func TestBeginsShareACommit(t *testing.T) {
	t.Parallel()
	db, loss := sqltest.OpenLossy(t)
	w := newWorld(t, db, 10)
	const n = 5
	begun := make(chan int, n)
	w.Do("try g0/03", func(context.Context) error {
		_, commits := loss.Traffic()
		begun <- commits
		return nil
	})
	_, before := loss.Traffic()
	for _, got := range w.batch(gids("g", n), "a", "b", "remote") {
		if got.State != saga.Confirming || got.Cause != nil {
			t.Errorf("%+v", got)
		}
	}
	if after := <-begun; after-before > 2 { // of others, a decision may be written
		t.Errorf("%d commits before the first call of a service", after-before)
	}
	for i := range n {
		w.expect(fmt.Sprint("g", i), saga.Confirming, "01 tried, 02 tried", "")
	}
}

// Each member learns of its own transaction, and holds up no other: one whose first Try is
// rejected or fails is recorded as cancelled, and its other branches are not called. In the second
// batch rejections are expected.
func TestABatchOfBegins(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, 10)
		for _, round := range []string{"first", "second"} {
			all := gids(round, 6)
			w.Fail("try "+all[1]+"/01", short)
			w.Fail("try "+all[2]+"/02", short)
			w.Fail("try "+all[3]+"/01", errors.New("on purpose"))
			w.Fail("try "+all[4]+"/03", short)
			for i, got := range w.batch(all, "a", "b", "remote") {
				switch i {
				case 0, 5:
					if got.State != saga.Confirming || got.Cause != nil {
						t.Errorf("%+v", got)
					}
					w.expect(all[i], saga.Confirming, "01 tried, 02 tried", "")
				case 4:
					if got.State != saga.Cancelling || !errors.Is(got.Cause, short) {
						t.Errorf("%+v", got)
					}
					w.expect(all[i], saga.Cancelling, "01 tried, 02 tried", "")
				default:
					expectRefused(t, w, all[i], got, map[int]string{1: "01", 2: "02", 3: "01"}[i], i <= 2)
				}
			}
			for _, i := range []int{1, 2, 3} {
				if attempts := w.Attempts(all[i]); len(attempts) > 1 {
					t.Errorf("%+v", attempts)
				}
			}
		}
	})
}

// A gid that is in use is left as it is, and the others of its batch begin.
func TestAGIDInUseInABatchOfBegins(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db, 10)
		w.Decided(saga.Confirming, time.Minute, "g1", "a")
		for i, got := range w.batch(gids("g", 3), "a", "remote") {
			if used := i == 1; used == (got.Cause == nil) {
				t.Errorf("%d: %+v", i, got)
			}
		}
		w.expect("g0", saga.Confirming, "01 tried", "")
		w.expect("g2", saga.Confirming, "01 tried", "")
	})
}

// A shared COMMIT that is not answered is made certain, whether it was made or not: each member
// goes on with its own transaction.
func TestAnUnansweredBegin(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3} {
		for _, committed := range []bool{true, false} {
			db, loss := sqltest.OpenLossy(t)
			w := newWorld(t, db, 10)
			loss.Arm(1, committed)
			for _, got := range w.batch(gids("g", n), "a", "remote") {
				if got.State != saga.Confirming || got.Cause != nil || got.Taken {
					t.Errorf("%d members, made: %v: %+v", n, committed, got)
				}
			}
			loss.Arm(0, false)
			if loss.Count() != 1 {
				t.Errorf("%d COMMITs were not answered", loss.Count())
			}
			for _, gid := range gids("g", n) {
				w.expect(gid, saga.Confirming, "01 tried", "")
			}
		}
	}
}
