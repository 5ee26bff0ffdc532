package txlog_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

func nobody(string) bool { return false }

// confirming writes a transaction that is decided.
func (b bench) confirming(gid string, due time.Duration) {
	b.Helper()
	b.want("insert", b.insert(txlog.Start{GID: gid, State: txlog.Confirming, Deadline: time.Hour, Due: due,
		Branches: []txlog.Branch{{ID: "01", Kind: "k", Payload: "{}"}}}), nil)
}

// finishAll ends transactions together, and rolls back if one of them cannot be.
func (b bench) finishAll(epoch int64, gids ...string) error {
	return b.run(func(ctx context.Context, tx *gorm.DB) error { return b.log.FinishAll(ctx, tx, epoch, gids) })
}

// A shared end is of all, or of none: a driver that has lost one of them, to
// another driver or to the end, is told so.
func TestFinishAll(t *testing.T) {
	each(t, func(b bench) {
		for _, gid := range []string{"ours-1", "ours-2", "ours-3", "ours-4"} {
			b.confirming(gid, time.Hour)
		}
		b.confirming("taken", 0)
		claimed, err := b.claim("other", time.Time{}, 10, nobody)
		if err != nil || len(claimed) != 1 || claimed[0].Epoch != 2 {
			b.Fatalf("%+v, %v", claimed, err)
		}
		b.want("one was taken over", b.finishAll(1, "ours-1", "taken"), txlog.ErrStale)
		b.want("one is unknown", b.finishAll(1, "ours-1", "nobody"), txlog.ErrStale)
		for _, gid := range []string{"ours-1", "taken"} {
			if r := b.get(gid); r.State != txlog.Confirming || r.DueAt.IsZero() {
				b.Errorf("%+v", r)
			}
		}
		b.want("all are ours", b.finishAll(1, "ours-1", "ours-2"), nil)
		b.want("one is finished", b.finishAll(1, "ours-3", "ours-2"), txlog.ErrStale)
		b.want("all are finished", b.finishAll(1, "ours-1", "ours-2"), txlog.ErrStale)
		b.begin("undecided", "", time.Hour, time.Hour)
		b.want("one is undecided", b.finishAll(1, "ours-4", "undecided"), txlog.ErrStale)
		for _, gid := range []string{"ours-1", "ours-2"} {
			if r := b.get(gid); r.State != txlog.Confirmed || r.FinishedAt.IsZero() {
				b.Errorf("%+v", r)
			}
		}
		// A single end has the same guards.
		b.want("finish again", b.finish("ours-1", 1), txlog.ErrStale)
		b.want("finish what is undecided", b.finish("undecided", 1), txlog.ErrStale)
		if r := b.get("ours-1"); r.State != txlog.Confirmed {
			b.Errorf("%+v", r)
		}
	})
}

// A claim takes over as many as it may, and says that there are more.
func TestClaimHasALimit(t *testing.T) {
	each(t, func(b bench) {
		for i := range 5 {
			b.confirming(fmt.Sprint("l-", i), time.Duration(i-10)*time.Second)
		}
		claims, err := b.log.Claim(b.Context(), txlog.Claim{Instance: "me", Page: 100, Limit: 2, Bytes: 1 << 20, Due: time.Hour, Busy: nobody, Knows: func(string) bool { return true }})
		if err != nil || len(claims.Claimed) != 2 || !claims.More {
			b.Fatalf("%+v, %v", claims, err)
		}
		claims, err = b.log.Claim(b.Context(), txlog.Claim{Instance: "me", From: claims.Last, Page: 100, Limit: 3, Bytes: 1 << 20, Due: time.Hour, Busy: nobody, Knows: func(string) bool { return true }})
		if err != nil || len(claims.Claimed) != 3 || claims.More {
			b.Errorf("%+v, %v", claims, err)
		}
	})
}

// A transaction that has more bytes than a claim may read is claimed by itself, with
// all of its branches.
func TestClaimTakesOneWhateverItHas(t *testing.T) {
	each(t, func(b bench) {
		large := txlog.Start{GID: "large", State: txlog.Confirming, Deadline: time.Hour, Due: -2 * time.Second}
		for i := range 3 {
			large.Branches = append(large.Branches, txlog.Branch{ID: fmt.Sprint(i), Kind: "k", Payload: `"` + strings.Repeat("x", 1000) + `"`})
		}
		b.want("insert", b.insert(large), nil)
		b.confirming("small", -time.Second)
		claims, err := b.log.Claim(b.Context(), txlog.Claim{Instance: "me", Page: 10, Limit: 10, Bytes: 10, Due: time.Hour, Busy: nobody, Knows: func(string) bool { return true }})
		if err != nil || len(claims.Claimed) != 1 || claims.Claimed[0].GID != "large" || len(claims.Claimed[0].Branches) != 3 || !claims.More {
			b.Errorf("%+v, %v", claims, err)
		}
	})
}

// What is busy is put off by no more than its deadline allows, as long as it is
// undecided.
func TestPutOffNoFurtherThanTheDeadline(t *testing.T) {
	each(t, func(b bench) {
		b.begin("undecided", "me", time.Minute, 0)
		b.begin("undecided, later", "me", 2*time.Hour, 0)
		b.want("insert", b.insert(txlog.Start{GID: "decided", State: txlog.Confirming, Deadline: time.Minute}), nil)
		claimed, err := b.claim("me", time.Time{}, 10, func(string) bool { return true })
		if err != nil || len(claimed) != 0 {
			b.Fatalf("%+v, %v", claimed, err)
		}
		if r := b.get("undecided"); !r.DueAt.Equal(r.DeadlineAt) {
			b.Errorf("due at %s, and its deadline is %s", r.DueAt, r.DeadlineAt)
		}
		for _, gid := range []string{"undecided, later", "decided"} {
			if r := b.get(gid); r.DueAt.Sub(r.CreatedAt) < 59*time.Minute || r.DueAt.Sub(r.CreatedAt) > 61*time.Minute {
				b.Errorf("%s is due at %s, an hour later than %s", gid, r.DueAt, r.CreatedAt)
			}
		}
	})
}

// Cleaning takes what is finished, and whose end and deadline are both older than
// the retention.
func TestWhatIsOld(t *testing.T) {
	each(t, func(b bench) {
		const old, young = 2 * time.Hour, time.Minute
		for _, c := range []struct {
			gid             string
			state           string
			ended, deadline time.Duration // ago
		}{
			{"old", txlog.Confirmed, old, old},
			{"old and cancelled", txlog.Cancelled, old, old},
			{"just finished", txlog.Confirmed, young, old},
			{"deadline just passed", txlog.Confirmed, old, young},
			{"deadline ahead", txlog.Confirmed, old, -old},
			{"unfinished", txlog.Confirming, 0, old},
			{"undecided", txlog.Trying, 0, old},
		} {
			b.want("insert", b.insert(txlog.Start{GID: c.gid, State: c.state, Deadline: -c.deadline, Due: time.Hour}), nil)
			if c.ended > 0 {
				b.backdate(c.gid, c.ended)
			}
		}
		want := []string{"old", "old and cancelled"}
		aged, last, err := b.log.Aged(b.Context(), 100, time.Hour)
		if err != nil || last != "" || !slices.Equal(aged, want) {
			b.Errorf("aged are %q, %v", aged, err)
		}
		var locked []string
		b.want("lock", b.run(func(ctx context.Context, tx *gorm.DB) error {
			all, err := b.log.LockOld(ctx, tx, time.Hour, []string{"old", "old and cancelled", "just finished", "deadline just passed", "deadline ahead", "unfinished", "undecided", "nobody"})
			for _, o := range all {
				locked = append(locked, o.GID)
				if o.Finished < time.Hour || o.Finished > 3*time.Hour {
					b.Errorf("%s finished %s ago", o.GID, o.Finished)
				}
			}
			return err
		}), nil)
		if slices.Sort(locked); !slices.Equal(locked, want) {
			b.Errorf("old are %q", locked)
		}
	})
}

// backdate moves the end of a transaction into the past.
func (b bench) backdate(gid string, age time.Duration) {
	b.Helper()
	past := map[string]string{
		"mysql":    fmt.Sprintf("UTC_TIMESTAMP(6) - INTERVAL %d SECOND", int(age.Seconds())),
		"postgres": fmt.Sprintf("clock_timestamp() - INTERVAL '%d seconds'", int(age.Seconds())),
		"sqlite":   fmt.Sprintf("strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '-%d seconds')", int(age.Seconds())),
	}[b.db.Name()]
	b.want("backdate", b.db.Exec("UPDATE saga_transactions SET finished_at = "+past+" WHERE gid = ?", gid).Error, nil)
}

// A branch is named once, with one kind and one payload.
func TestABranchIsNamedOnce(t *testing.T) {
	each(t, func(b bench) {
		b.begin("n", "", time.Hour, time.Hour)
		for what, other := range map[string]txlog.Branch{
			"another kind":    {GID: "n", ID: "01", Kind: "other", Payload: "{}"},
			"another payload": {GID: "n", ID: "01", Kind: "k", Payload: "[]"},
		} {
			b.want(what, b.run(func(ctx context.Context, tx *gorm.DB) error {
				_, err := b.log.Join(ctx, tx, other, room)
				return err
			}), txlog.ErrExists)
		}
	})
}

// Reads on which a decision rests wait for a writer that is about to commit, as a
// plain read on a replica would not.
func TestReadsThatDecideLock(t *testing.T) {
	reads := map[string]func(b bench, ctx context.Context, tx *gorm.DB) error{
		"record": func(b bench, ctx context.Context, tx *gorm.DB) error {
			_, err := b.log.GetLocked(ctx, tx, "r")
			return err
		},
		"branches": func(b bench, ctx context.Context, tx *gorm.DB) error {
			_, err := b.log.LockedBranches(ctx, tx, "r")
			return err
		},
		"named": func(b bench, ctx context.Context, tx *gorm.DB) error {
			_, _, err := b.log.Named(ctx, tx, "r", "01")
			return err
		},
		"old": func(b bench, ctx context.Context, tx *gorm.DB) error {
			_, err := b.log.LockOld(ctx, tx, 0, []string{"r"})
			return err
		},
	}
	each(t, func(b bench) {
		if b.db.Name() == "sqlite" {
			return // it has one lock, which every transaction of the framework takes
		}
		b.begin("r", "", time.Hour, time.Hour)
		holder := b.db.Begin()
		defer holder.Rollback()
		b.want("hold", holder.Exec("UPDATE saga_transactions SET pattern = 'x' WHERE gid = 'r'").Error, nil)
		b.want("hold", holder.Exec("UPDATE saga_branches SET kind = 'k' WHERE gid = 'r'").Error, nil)
		impatient := map[string]string{"mysql": "SET SESSION innodb_lock_wait_timeout = 0", "postgres": "SET LOCAL lock_timeout = '50ms'"}[b.db.Name()]
		for name, read := range reads {
			tx := b.db.Begin()
			b.want("impatience", tx.Exec(impatient).Error, nil)
			if err := read(b, b.Context(), tx); err == nil {
				b.Errorf("%s: it was read although somebody is writing it", name)
			}
			if b.db.Name() == "mysql" { // the connection goes back to the pool
				b.want("patience", tx.Exec("SET SESSION innodb_lock_wait_timeout = DEFAULT").Error, nil)
			}
			tx.Rollback()
		}
	})
}
