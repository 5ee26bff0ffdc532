package txlog_test

import (
	"context"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// nest begins a nested transaction with one branch.
func (b bench) nest(gid string, deadline, due time.Duration) {
	b.Helper()
	b.begin(gid, "", deadline, due)
	b.want("nest", b.run(func(ctx context.Context, tx *gorm.DB) error { return b.log.Nest(ctx, tx, gid, "log/"+gid+"/01") }), nil)
}

func (b bench) tried(gid string) {
	b.Helper()
	b.want("tried", b.run(func(ctx context.Context, tx *gorm.DB) error { return b.log.Tried(ctx, tx, gid, "01") }), nil)
}

func (b bench) prepare(gid string, due time.Duration) error {
	return b.run(func(ctx context.Context, tx *gorm.DB) error { return b.log.Prepare(ctx, tx, gid, due) })
}

// Prepare has an effect once, on a nested transaction that is open, with all branches tried.
func TestPrepare(t *testing.T) {
	each(t, func(b bench) {
		b.begin("plain", "", time.Hour, time.Hour)
		b.tried("plain")
		b.want("one that is not nested", b.prepare("plain", time.Hour), txlog.ErrStale)
		b.nest("a", time.Hour, time.Hour)
		b.want("with a branch that is not tried", b.prepare("a", time.Hour), txlog.ErrStale)
		b.tried("a")
		b.want("an open one", b.prepare("a", time.Hour), nil)
		b.want("twice", b.prepare("a", time.Hour), txlog.ErrStale)
		if r := b.get("a"); !r.Waits() || r.PreparedAt.IsZero() || r.Epoch != 2 || r.Parent != "log/a/01" || r.DueAt.IsZero() {
			b.Errorf("it is %+v", r)
		}
		b.want("a branch more", b.join("a", "02", "{}"), txlog.ErrStale)
		b.nest("late", 0, time.Hour)
		b.tried("late")
		b.want("past the deadline", b.prepare("late", time.Hour), txlog.ErrStale)
		b.nest("decided", time.Hour, time.Hour)
		b.tried("decided")
		b.want("decide", b.decide("decided", 1, txlog.Cancelling), nil)
		b.want("a decided one", b.prepare("decided", time.Hour), txlog.ErrStale)
		b.want("an unknown one", b.prepare("none", time.Hour), txlog.ErrStale)
	})
}

// A driver that claimed the transaction before it was prepared cannot decide it. Without an
// epoch, it can be confirmed past its deadline.
func TestDecideAPreparedTransaction(t *testing.T) {
	each(t, func(b bench) {
		for _, state := range []string{txlog.Confirming, txlog.Cancelling} {
			b.nest(state, time.Hour, time.Hour)
			b.tried(state)
			b.want("prepare", b.prepare(state, time.Hour), nil)
			b.want("age", b.db.Exec("UPDATE saga_transactions SET deadline_at = created_at, attention = 'why' WHERE gid = ?", state).Error, nil)
			if r := b.get(state); r.Expired || r.Attention != "why" {
				b.Errorf("past its deadline it is %+v", r)
			}
			b.want("under the epoch before", b.decide(state, 1, txlog.Cancelling), txlog.ErrStale)
			b.want("decide", b.decide(state, 0, state), nil)
			b.want("twice", b.decide(state, 0, txlog.Cancelling), txlog.ErrStale)
			if r := b.get(state); r.State != state || r.Attention != "" || r.Waits() {
				b.Errorf("it is %+v", r)
			}
		}
	})
}

// A claim leaves a prepared transaction undecided. It is due again later, and needs
// attention, which the first claim reports.
func TestClaimLeavesAPreparedTransaction(t *testing.T) {
	each(t, func(b bench) {
		b.nest("prepared", time.Hour, time.Hour)
		b.tried("prepared")
		b.want("prepare", b.prepare("prepared", 0), nil)
		b.nest("open", time.Hour, 0)
		claim := func() txlog.Claims {
			claims, err := b.log.Claim(b.Context(), txlog.Claim{Instance: "me", Page: 10, Limit: 10, Bytes: 1 << 20, Due: time.Hour, Waiting: txlog.Waiting{Attention: "why"},
				Busy: func(gid string) bool { return gid == "prepared" }, Knows: func(string) bool { return true }})
			b.want("claim", err, nil)
			return claims
		}
		first := claim()
		if len(first.Claimed) != 1 || first.Claimed[0].GID != "open" || len(first.Waiting) != 1 || first.Waiting[0] != "prepared" {
			b.Errorf("the first claim is %+v", first)
		}
		if again := claim(); len(again.Claimed) != 0 || len(again.Waiting) != 0 {
			b.Errorf("the second claim is %+v", again)
		}
		if r := b.get("prepared"); !r.Waits() || r.Owner != "" || r.Epoch != 2 || r.Attention != "why" || r.DueAt.IsZero() {
			b.Errorf("it is %+v", r)
		}
		b.want("decide", b.decide("prepared", 0, txlog.Confirming), nil)
		if r := b.get("prepared"); r.State != txlog.Confirming {
			b.Errorf("it is %+v", r)
		}
	})
}
