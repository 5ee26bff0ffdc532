package txlog_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

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
		sagatest.Must(b, b.db.Exec("UPDATE saga_transactions SET due_at = ?", at).Error)
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
