package txlog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

func TestOneDecision(t *testing.T) {
	each(t, func(b bench) {
		b.begin("d", "me", time.Hour, time.Hour)
		b.want("another epoch", b.decide("d", 7, txlog.Confirming), txlog.ErrStale)
		b.want("the first", b.decide("d", 1, txlog.Confirming), nil)
		b.want("the other way", b.decide("d", 1, txlog.Cancelling), txlog.ErrStale)
		b.want("the other way, any epoch", b.decide("d", 0, txlog.Cancelling), txlog.ErrStale)
		b.want("again", b.decide("d", 1, txlog.Confirming), txlog.ErrStale)
		b.want("unknown", b.decide("x", 0, txlog.Confirming), txlog.ErrStale)
		if r := b.get("d"); r.State != txlog.Confirming || r.Epoch != 1 || r.DecidedBy != "test" || r.DecidedAt.IsZero() {
			b.Errorf("%+v", r)
		}

		for round := range 20 {
			gid := fmt.Sprintf("race-%d", round)
			b.begin(gid, "", time.Hour, time.Hour)
			won := make(chan string, 8)
			var wg sync.WaitGroup
			for i := range 8 {
				state := []string{txlog.Confirming, txlog.Cancelling}[i%2]
				wg.Go(func() {
					if err := b.decide(gid, 0, state); err == nil {
						won <- state
					} else if !errors.Is(err, txlog.ErrStale) {
						b.Error(err)
					}
				})
			}
			wg.Wait()
			close(won)
			first := <-won
			if more := len(won); more != 0 || b.get(gid).State != first || b.get(gid).Epoch != 2 {
				b.Errorf("%s: %d more decisions, %+v", gid, more, b.get(gid))
			}
		}
	})
}

// Decisions that follow each other have different times, in order. Ordered messages need that.
func TestTimesOfDecisionsAreInOrder(t *testing.T) {
	each(t, func(b bench) {
		const decisions = 50
		for i := range decisions {
			b.begin(fmt.Sprintf("open-%02d", i), "", time.Hour, time.Hour)
		}
		var want []string
		// One local transaction, so that many of them are within a millisecond.
		b.want("decide", b.run(func(ctx context.Context, tx *gorm.DB) error {
			for i := decisions - 1; i >= 0; i-- {
				open, written := fmt.Sprintf("open-%02d", i), fmt.Sprintf("written-%02d", i)
				want = append(want, open, written)
				decide := b.log.Decide(ctx, tx, txlog.Decision{GID: open, State: txlog.Confirming, By: "test", Owner: "me", Due: time.Hour})
				insert := b.log.Insert(ctx, tx, txlog.Start{GID: written, Pattern: "tcc", State: txlog.Confirming, Owner: "me", Deadline: time.Hour, Due: time.Hour,
					Branches: []txlog.Branch{{ID: "01", Kind: "k", Payload: "{}"}}})
				if err := errors.Join(decide, insert); err != nil {
					return err
				}
			}
			return nil
		}), nil)
		var got []string
		b.want("read", b.db.Raw("SELECT gid FROM saga_transactions ORDER BY decided_at, gid DESC").Scan(&got).Error, nil)
		if !slices.Equal(got, want) {
			b.Errorf("decided %v\nread    %v", want, got)
		}
		var times int
		b.want("count", b.db.Raw("SELECT COUNT(DISTINCT decided_at) FROM saga_transactions").Scan(&times).Error, nil)
		if times != 2*decisions {
			b.Errorf("%d times of %d decisions", times, 2*decisions)
		}
		if since := time.Since(b.get("open-00").DecidedAt).Abs(); since > time.Hour {
			b.Errorf("decided %s ago", since)
		}
	})
}

func TestConfirmNeedsTheDeadlineAhead(t *testing.T) {
	each(t, func(b bench) {
		b.begin("late", "", -time.Second, time.Hour)
		b.want("confirm", b.decide("late", 0, txlog.Confirming), txlog.ErrStale)
		b.want("join", b.join("late", "02", "{}"), txlog.ErrStale)
		b.want("cancel", b.decide("late", 0, txlog.Cancelling), nil)
	})
}

// A driver that has lost its epoch writes nothing any more.
func TestStaleDriverWritesNothing(t *testing.T) {
	each(t, func(b bench) {
		b.begin("s", "gone", time.Hour, 0)
		claimed, err := b.claim("me", time.Time{}, 10, func(string) bool { return false })
		if err != nil || len(claimed) != 1 || claimed[0].Epoch != 2 {
			b.Fatalf("%+v, %v", claimed, err)
		}
		b.want("decide", b.decide("s", 1, txlog.Confirming), txlog.ErrStale)
		b.want("decide, new epoch", b.decide("s", 2, txlog.Cancelling), nil)
		b.want("fail", b.fail("s", 1, 1), txlog.ErrStale)
		b.want("finish", b.finish("s", 1), txlog.ErrStale)
		if r := b.get("s"); r.State != txlog.Cancelling || r.Failures != 0 {
			b.Errorf("%+v", r)
		}
		b.want("finish, new epoch", b.finish("s", 2), nil)
		b.want("finish again", b.finish("s", 2), txlog.ErrStale)
		b.want("fail after the end", b.fail("s", 2, 1), txlog.ErrStale)
		if r := b.get("s"); r.State != txlog.Cancelled || !r.DueAt.IsZero() || r.FinishedAt.IsZero() {
			b.Errorf("%+v", r)
		}
	})
}

func TestInsertOnce(t *testing.T) {
	each(t, func(b bench) {
		b.begin("i", "me", time.Hour, time.Hour)
		b.want("again", b.insert(txlog.Start{GID: "i", State: txlog.Confirming}), txlog.ErrExists)
		b.want("other case", b.insert(txlog.Start{GID: "I", State: txlog.Confirming}), nil)
		if _, err := b.log.Get(b.Context(), b.db, "nobody"); !errors.Is(err, txlog.ErrNotFound) {
			b.Error(err)
		}
	})
}

// Joining and deciding exclude each other: a decision waits for a join under
// way, and no join comes after it.
func TestJoinAgainstDecision(t *testing.T) {
	each(t, func(b bench) {
		b.begin("j", "", time.Hour, time.Hour)
		b.want("join", b.join("j", "02", "{}"), nil)
		b.want("join again", b.join("j", "02", "{}"), nil)
		b.want("another payload", b.join("j", "02", "[]"), txlog.ErrExists)

		var leaving atomic.Bool // the join is about to commit
		decided := make(chan error)
		err := b.run(func(ctx context.Context, tx *gorm.DB) error {
			if _, err := b.log.Join(ctx, tx, txlog.Branch{GID: "j", ID: "03", Kind: "k", Payload: "{}"}, room); err != nil {
				return err
			}
			go func() {
				err := b.decide("j", 0, txlog.Confirming)
				if !leaving.Load() {
					err = errors.New("decided while a branch was joining")
				}
				decided <- err
			}()
			for range 300 { // a decision that does not wait has time enough
				if err := tx.Exec("SELECT 1").Error; err != nil {
					return err
				}
			}
			leaving.Store(true)
			return nil
		})
		b.want("join", err, nil)
		b.want("decide", <-decided, nil)
		b.want("join after the decision", b.join("j", "04", "{}"), txlog.ErrStale)
		if branches, err := b.branches("j"); err != nil || len(branches["j"]) != 3 {
			b.Errorf("%+v, %v", branches, err)
		}
	})
}

func TestAttemptsAreThinned(t *testing.T) {
	each(t, func(b bench) {
		b.begin("a", "me", time.Hour, time.Hour)
		b.want("decide", b.decide("a", 1, txlog.Confirming), nil)
		for n := 1; n <= txlog.KeptAttempts+5; n++ {
			b.want("fail", b.fail("a", 1, n), nil)
		}
		var attempts map[string][]txlog.Attempt
		err := b.run(func(ctx context.Context, tx *gorm.DB) (err error) {
			attempts, err = b.log.Attempts(ctx, tx, "a")
			return err
		})
		b.want("attempts", err, nil)
		if got := attempts["a"]; len(got) != txlog.KeptAttempts || got[0].Number != 6 || got[len(got)-1].Wait < 50*time.Minute {
			b.Errorf("%d attempts: %+v", len(got), got)
		}
		if r := b.get("a"); r.Failures != txlog.KeptAttempts+5 {
			b.Errorf("%+v", r)
		}
	})
}

// A driver that has nothing to write but the next due time of a transaction that is due already,
// as after an operator's retry, is not stale.
func TestFailOfWhatIsDue(t *testing.T) {
	each(t, func(b bench) {
		b.begin("a", "me", time.Hour, time.Hour)
		b.want("decide", b.decide("a", 1, txlog.Confirming), nil)
		b.want("retry", b.run(func(ctx context.Context, tx *gorm.DB) error { return b.log.Retry(ctx, tx, "a") }), nil)
		for range 3 {
			b.want("fail", b.run(func(ctx context.Context, tx *gorm.DB) error {
				return b.log.Fail(ctx, tx, txlog.Retry{GID: "a", Epoch: 1, Due: time.Hour}, nil)
			}), nil)
		}
		if r := b.get("a"); r.DueAt.Sub(r.DecidedAt) > time.Minute {
			b.Errorf("it is due %s after its decision", r.DueAt.Sub(r.DecidedAt))
		}
	})
}
