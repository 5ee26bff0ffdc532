package txlog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// bench is a log, with everything in local transactions of its own.
type bench struct {
	*testing.T
	db  *gorm.DB
	log *txlog.Log
}

func each(t *testing.T, test func(b bench)) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		log, err := txlog.New(db)
		if err != nil {
			t.Fatal(err)
		}
		test(bench{t, db, log})
	})
}

func (b bench) run(work func(ctx context.Context, tx *gorm.DB) error) error {
	return local.Run(b.Context(), b.db, func(tx *gorm.DB) error { return work(b.Context(), tx) })
}

func (b bench) want(what string, got, want error) {
	b.Helper()
	if !errors.Is(got, want) || want == nil && got != nil {
		b.Errorf("%s: %v, want %v", what, got, want)
	}
}

// begin writes a transaction in the state trying, with one branch.
func (b bench) begin(gid, owner string, deadline, due time.Duration) {
	b.Helper()
	b.want("insert", b.insert(txlog.Start{GID: gid, Pattern: "tcc", State: txlog.Trying, Owner: owner, Deadline: deadline, Due: due,
		Branches: []txlog.Branch{{ID: "01", Kind: "k", Payload: "{}"}}}), nil)
}

func (b bench) insert(s txlog.Start) error {
	return b.run(func(ctx context.Context, tx *gorm.DB) error { return b.log.Insert(ctx, tx, s) })
}

func (b bench) decide(gid string, epoch int64, state string) error {
	return b.run(func(ctx context.Context, tx *gorm.DB) error {
		return b.log.Decide(ctx, tx, txlog.Decision{GID: gid, Epoch: epoch, State: state, By: "test", Owner: "me", Due: time.Hour})
	})
}

func (b bench) finish(gid string, epoch int64) error {
	return b.run(func(ctx context.Context, tx *gorm.DB) error { return b.log.Finish(ctx, tx, gid, epoch) })
}

func (b bench) fail(gid string, epoch int64, attempt int) error {
	return b.run(func(ctx context.Context, tx *gorm.DB) error {
		return b.log.Fail(ctx, tx, txlog.Retry{GID: gid, Epoch: epoch, Due: time.Hour}, []txlog.Failure{{BranchID: "01", Operation: "confirm", Attempt: attempt, Error: "no", Instance: "me", Next: time.Hour}})
	})
}

func (b bench) join(gid, id, payload string) error {
	return b.run(func(ctx context.Context, tx *gorm.DB) error {
		_, err := b.log.Join(ctx, tx, txlog.Branch{GID: gid, ID: id, Kind: "k", Payload: payload}, room)
		return err
	})
}

var room = txlog.Room{Branches: 99, Bytes: 1 << 20}

func (b bench) branches(gid string) (branches map[string][]txlog.Branch, err error) {
	err = b.run(func(ctx context.Context, tx *gorm.DB) (err error) {
		branches, err = b.log.BranchesIn(ctx, tx, gid)
		return err
	})
	return branches, err
}

// claim claims for an instance that knows the kind k.
func (b bench) claim(instance string, since time.Time, limit int, busy func(string) bool) ([]txlog.Claimed, error) {
	claims, err := b.log.Claim(b.Context(), txlog.Claim{Instance: instance, From: txlog.Position{Due: since}, Page: limit, Limit: limit, Bytes: 1 << 20, Due: time.Hour,
		Busy: busy, Knows: func(kind string) bool { return kind == "k" }})
	return claims.Claimed, err
}

func (b bench) get(gid string) txlog.Record {
	b.Helper()
	r, err := b.log.Get(b.Context(), b.db, gid)
	b.want("get "+gid, err, nil)
	return r
}

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

func TestClaim(t *testing.T) {
	nobody := func(string) bool { return false }
	each(t, func(b bench) {
		for _, id := range []string{"me", "alive"} {
			b.want("renew", b.log.Renew(b.Context(), txlog.Instance{ID: id, Host: "h", PID: 1}, time.Hour), nil)
		}
		b.want("renew", b.log.Renew(b.Context(), txlog.Instance{ID: "dead", Host: "h", PID: 1}, -time.Second), nil)
		b.begin("of-alive", "alive", time.Hour, 0)
		b.begin("of-dead", "dead", time.Hour, 0)
		b.begin("of-unknown", "unknown", time.Hour, 0)
		b.begin("of-me", "me", time.Hour, 0)
		b.begin("busy", "me", time.Hour, 0)
		b.begin("busy-late", "me", -time.Second, 0)
		b.begin("open", "", time.Hour, 0)
		b.begin("not-due", "dead", time.Hour, time.Hour)
		busy := func(gid string) bool { return gid == "busy" || gid == "busy-late" }
		claimed, err := b.claim("me", time.Time{}, 100, busy)
		b.want("claim", err, nil)
		got := map[string]int64{}
		for _, r := range claimed {
			got[r.GID] = r.Epoch
			if in := b.get(r.GID); in.Owner != "me" || in.Epoch != r.Epoch {
				b.Errorf("%+v", in)
			}
		}
		want := map[string]int64{"of-dead": 2, "of-unknown": 2, "of-me": 2, "busy-late": 2, "open": 2}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			b.Errorf("claimed %v, want %v", got, want)
		}
		if again, err := b.claim("me", time.Time{}, 100, nobody); err != nil || len(again) != 0 {
			b.Errorf("claimed again: %+v, %v", again, err)
		}
		b.want("resign", b.log.Resign(b.Context(), "alive", nil), nil)
		if after, err := b.claim("me", time.Time{}, 100, nobody); err != nil || len(after) != 1 || after[0].GID != "of-alive" {
			b.Errorf("after the other resigned: %+v, %v", after, err)
		}
		b.want("delete expired", b.log.DeleteExpired(b.Context(), 0), nil)
	})
}

// A claim takes the longest due first, and may leave out those that are due
// since before a time.
func TestClaimGoesOn(t *testing.T) {
	each(t, func(b bench) {
		for i := range 9 {
			b.begin(fmt.Sprintf("s-%d", i), "", time.Hour, time.Duration(i-10)*time.Second)
		}
		due := b.get("s-4").DueAt.Add(-time.Microsecond)
		var got []string
		for _, since := range []time.Time{due, due, {}} {
			claimed, err := b.claim("me", since, 3, func(string) bool { return false })
			b.want("claim", err, nil)
			for _, r := range claimed {
				got = append(got, r.GID)
			}
		}
		if want := "[s-4 s-5 s-6 s-7 s-8 s-0 s-1 s-2]"; fmt.Sprint(got) != want {
			b.Errorf("claimed %v, want %s", got, want)
		}
	})
}

// Claims at the same time share the work and never a transaction.
func TestClaimsAtOnce(t *testing.T) {
	each(t, func(b bench) {
		for i := range 60 {
			b.begin(fmt.Sprintf("c-%d", i), "", time.Hour, 0)
		}
		var mu sync.Mutex
		claims := map[string]int{}
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for {
					claimed, err := b.claim(fmt.Sprintf("instance-%d", i), time.Time{}, 5, func(string) bool { return false })
					if err != nil {
						b.Error(err)
					}
					if len(claimed) == 0 {
						return
					}
					mu.Lock()
					for _, r := range claimed {
						claims[r.GID]++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		// A claim steps around rows that another one has locked, and may find
		// none; what is left is there for the next.
		rest, err := b.claim("last", time.Time{}, 100, func(string) bool { return false })
		b.want("claim", err, nil)
		for _, r := range rest {
			claims[r.GID]++
		}
		for gid, n := range claims {
			if n != 1 {
				b.Errorf("%s was claimed %d times", gid, n)
			}
		}
		if len(claims) != 60 {
			b.Errorf("%d of 60 were claimed", len(claims))
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

// An instance leaves to others what it cannot drive, and does not look at it for
// ever; what is undecided is cancelled by anybody.
func TestClaimLeavesKindsThatAreUnknown(t *testing.T) {
	nobody := func(string) bool { return false }
	each(t, func(b bench) {
		for i, kind := range []string{"k", "other", "k", "other"} {
			b.want("insert", b.insert(txlog.Start{GID: fmt.Sprint("c-", i), State: txlog.Confirming, Deadline: time.Hour, Due: time.Duration(i-10) * time.Second,
				Branches: []txlog.Branch{{ID: "01", Kind: "k", Payload: "{}"}, {ID: "02", Kind: kind, Payload: "{}"}}}), nil)
		}
		b.want("insert", b.insert(txlog.Start{GID: "trying", State: txlog.Trying, Deadline: -time.Second, Due: -time.Second,
			Branches: []txlog.Branch{{ID: "01", Kind: "other", Payload: "{}"}}}), nil)
		claims, err := b.log.Claim(b.Context(), txlog.Claim{Instance: "me", Page: 10, Limit: 10, Bytes: 1 << 20, Due: time.Hour,
			Busy: nobody, Knows: func(kind string) bool { return kind == "k" }})
		b.want("claim", err, nil)
		var got []string
		for _, c := range claims.Claimed {
			got = append(got, c.GID)
		}
		if fmt.Sprint(got) != "[c-0 c-2 trying]" || len(claims.Foreign) != 2 || claims.Foreign[0].Kind != "other" || claims.More {
			b.Errorf("claimed %v, left %+v", got, claims.Foreign)
		}
		if r := b.get("c-1"); r.Owner != "" || r.Epoch != 1 {
			b.Errorf("it was touched: %+v", r)
		}
		raised, err := b.log.Unclaimed(b.Context(), "c-1", "nobody knows it")
		again, _ := b.log.Unclaimed(b.Context(), "c-1", "nobody knows it")
		if err != nil || !raised || again || b.get("c-1").Attention != "nobody knows it" {
			b.Errorf("raised %t, again %t, %v", raised, again, err)
		}
	})
}

// A claim takes over as much as it may read, and at least one; the rest is for
// the next.
func TestClaimHasABudget(t *testing.T) {
	nobody := func(string) bool { return false }
	each(t, func(b bench) {
		payload := `"` + strings.Repeat("x", 998) + `"`
		for i := range 10 {
			b.want("insert", b.insert(txlog.Start{GID: fmt.Sprint("b-", i), State: txlog.Confirming, Deadline: time.Hour, Due: time.Duration(i-20) * time.Second,
				Branches: []txlog.Branch{{ID: "01", Kind: "k", Payload: payload}, {ID: "02", Kind: "k", Payload: payload}}}), nil)
		}
		all := map[string]bool{}
		for n, from := 0, (txlog.Position{}); n < 20; n++ {
			claims, err := b.log.Claim(b.Context(), txlog.Claim{Instance: "me", From: from, Page: 100, Limit: 100, Bytes: 7000, Due: time.Hour,
				Busy: nobody, Knows: func(string) bool { return true }})
			b.want("claim", err, nil)
			if len(claims.Claimed) > 3 || len(claims.Claimed) == 0 && len(all) < 10 {
				b.Fatalf("%d were claimed after %d", len(claims.Claimed), len(all))
			}
			for _, c := range claims.Claimed {
				all[c.GID] = true
				if len(c.Branches) != 2 {
					b.Errorf("%s was claimed with %d branches", c.GID, len(c.Branches))
				}
			}
			if from = claims.Last; !claims.More {
				break
			}
		}
		if len(all) != 10 {
			b.Errorf("%d of 10 were claimed", len(all))
		}
		claims, err := b.log.Claim(b.Context(), txlog.Claim{Instance: "other", Page: 100, Limit: 100, Bytes: 1, Due: time.Hour, Busy: nobody, Knows: func(string) bool { return true }})
		if err != nil || len(claims.Claimed) != 0 {
			b.Errorf("claimed again: %+v, %v", claims, err)
		}
	})
}

func TestRoomOfATransaction(t *testing.T) {
	each(t, func(b bench) {
		b.begin("r", "", time.Hour, time.Hour) // one branch of 2 bytes
		join := func(id string, room txlog.Room) error {
			return b.run(func(ctx context.Context, tx *gorm.DB) error {
				_, err := b.log.Join(ctx, tx, txlog.Branch{GID: "r", ID: id, Kind: "k", Payload: `"ü"`}, room)
				return err
			})
		}
		b.want("too many branches", join("02", txlog.Room{Branches: 1, Bytes: 100}), txlog.ErrFull)
		b.want("too many bytes", join("02", txlog.Room{Branches: 9, Bytes: 5}), txlog.ErrFull)
		b.want("just enough", join("02", txlog.Room{Branches: 2, Bytes: 6}), nil)
		b.want("named already", join("02", txlog.Room{Branches: 2, Bytes: 6}), nil)
	})
}

// Any number of transactions of other instances that came due at the same moment
// hide none behind them.
func TestClaimPassesForeignOnesOfTheSameTime(t *testing.T) {
	each(t, func(b bench) {
		var starts []txlog.Start
		for i := range 10 {
			kind := "other"
			if i == 8 {
				kind = "k"
			}
			starts = append(starts, txlog.Start{GID: fmt.Sprint("p-", i), State: txlog.Confirming, Deadline: time.Hour, Due: -time.Second,
				Branches: []txlog.Branch{{ID: "01", Kind: kind, Payload: "{}"}}})
		}
		b.want("insert", b.run(func(ctx context.Context, tx *gorm.DB) error { return b.log.Insert(ctx, tx, starts...) }), nil)
		at := "2001-02-03 04:05:06.000"
		if err := b.db.Exec("UPDATE saga_transactions SET due_at = ?", at).Error; err != nil {
			b.Fatal(err)
		}
		var got []string
		for n, from := 0, (txlog.Position{}); n < 10; n++ {
			claims, err := b.log.Claim(b.Context(), txlog.Claim{Instance: "me", From: from, Page: 3, Limit: 3, Bytes: 1 << 20, Due: time.Hour,
				Busy: func(string) bool { return false }, Knows: func(kind string) bool { return kind == "k" }})
			b.want("claim", err, nil)
			for _, c := range claims.Claimed {
				got = append(got, c.GID)
			}
			if from = claims.Last; !claims.More {
				break
			}
		}
		if fmt.Sprint(got) != "[p-8]" {
			b.Errorf("claimed %v", got)
		}
	})
}
