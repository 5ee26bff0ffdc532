package tcc_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// orders makes a table of the user's own, and returns local work that writes a row into it.
func orders(t *testing.T, db *gorm.DB) func(gid string) func(context.Context, *gorm.DB) error {
	t.Helper()
	sqltest.Exec(t, db, "CREATE TABLE orders (id VARCHAR(64) PRIMARY KEY)")
	return func(gid string) func(context.Context, *gorm.DB) error {
		return func(_ context.Context, tx *gorm.DB) error { return tx.Exec("INSERT INTO orders VALUES (?)", gid).Error }
	}
}

func ordered(t *testing.T, db *gorm.DB, gid string) bool {
	t.Helper()
	var n int64
	sagatest.Must(t, db.Raw("SELECT COUNT(*) FROM orders WHERE id = ?", gid).Scan(&n).Error)
	return n == 1
}

// Local work takes effect if and only if the transaction is decided to be confirmed,
// wherever its branches live.
func TestLocalWork(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		order := orders(t, db)
		sqltest.Exec(t, db, "UPDATE accounts SET credit = 1000")
		sqltest.Exec(t, b.other, "UPDATE accounts SET credit = 1000")
		for name, plan := range map[string][]tcc.Payload{
			"here": {hold{1, 1}}, "away": {holdAway{1, 1}}, "out": {holdOut{1, 1}}, "here, away": {hold{1, 1}, holdAway{1, 1}},
			"away, here": {holdAway{1, 1}, hold{1, 1}}, "here, out, here": {hold{1, 1}, holdOut{1, 1}, hold{2, 1}},
		} {
			gid := sagatest.GID()
			for range 2 { // the second time it is only asked for
				outcome, err := tcc.ExecuteWith(t.Context(), b.orch, gid, saga.Options{LocalWork: order(gid)}, plan...)
				if err != nil || outcome.State != saga.Confirmed || !ordered(t, db, gid) {
					t.Errorf("%s: %+v, %v, ordered %t", name, outcome, err, ordered(t, db, gid))
				}
			}

			for how, c := range map[string]struct {
				work func(ctx context.Context, tx *gorm.DB) error
				code string
			}{
				"fails":   {func(ctx context.Context, tx *gorm.DB) error { return errors.New("on purpose") }, saga.CodeFailed},
				"rejects": {func(ctx context.Context, tx *gorm.DB) error { return tcc.RejectCode("no.room", errors.New("no room")) }, "no.room"},
				"panics":  {func(ctx context.Context, tx *gorm.DB) error { panic("on purpose") }, saga.CodeFailed},
			} {
				gid := sagatest.GID()
				outcome, err := tcc.ExecuteWith(t.Context(), b.orch, gid, saga.Options{LocalWork: func(ctx context.Context, tx *gorm.DB) error {
					return errors.Join(order(gid)(ctx, tx), c.work(ctx, tx))
				}}, plan...)
				if !errors.Is(err, saga.ErrCancelled) || outcome.Code != c.code || !strings.Contains(outcome.Reason, "local work") && how != "rejects" {
					t.Errorf("%s, work that %s: %+v, %v", name, how, outcome, err)
				}
				b.reaches(gid, saga.Cancelled)
				if ordered(t, db, gid) {
					t.Errorf("%s, work that %s: it has an effect", name, how)
				}
			}

			gid = sagatest.GID()
			_, err := tcc.ExecuteWith(t.Context(), b.orch, gid, saga.Options{LocalWork: order(gid)}, append(plan, hold{2, 1 << 20})...)
			if !errors.Is(err, saga.ErrCancelled) || ordered(t, db, gid) {
				t.Errorf("%s, and a Try that rejects: %v, ordered %t", name, err, ordered(t, db, gid))
			}
			b.reaches(gid, saga.Cancelled)
		}
		for _, d := range []*gorm.DB{db, b.other} {
			var held int
			sagatest.Must(t, d.Raw("SELECT SUM(held) FROM accounts").Scan(&held).Error)
			if held != 0 {
				t.Errorf("%d is still held", held)
			}
		}
	})
}

// Confirm of an open transaction runs local work with the decision. If the work fails, the
// transaction stays open; after the decision, or the deadline, it does not run.
func TestConfirmWithLocalWork(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		order := orders(t, db)
		gid := sagatest.GID()
		tx := b.begin(gid, saga.Options{})
		failing := func(ctx context.Context, tx *gorm.DB) error {
			return errors.Join(order(gid)(ctx, tx), errors.New("on purpose"))
		}
		if outcome, err := tx.ConfirmWith(t.Context(), saga.Options{LocalWork: failing}); err == nil || errors.Is(err, saga.ErrUnknown) || !strings.Contains(err.Error(), "on purpose") {
			t.Errorf("work that fails: %+v, %v", outcome, err)
		}
		if found, err := b.orch.Lookup(t.Context(), gid); err != nil || found.State != saga.Trying || ordered(t, db, gid) {
			t.Errorf("after work that failed: %+v, %v, ordered %t", found, err, ordered(t, db, gid))
		}
		for range 2 {
			if outcome, err := tx.ConfirmWith(t.Context(), saga.Options{LocalWork: order(gid)}); err != nil || outcome.State != saga.Confirmed || !ordered(t, db, gid) {
				t.Errorf("%+v, %v, ordered %t", outcome, err, ordered(t, db, gid))
			}
		}

		late := sagatest.GID()
		lateTx := b.begin(late, saga.Options{})
		sqltest.Exec(t, db, "UPDATE saga_transactions SET deadline_at = created_at, due_at = created_at WHERE gid = ?", late)
		b.reaches(late, saga.Cancelled)
		if _, err := lateTx.ConfirmWith(t.Context(), saga.Options{LocalWork: order(late)}); !errors.Is(err, saga.ErrCancelled) || ordered(t, db, late) {
			t.Errorf("after the deadline: %v, ordered %t", err, ordered(t, db, late))
		}
	})
}

// Whichever COMMIT goes unanswered, made or not made, the local work has its effect if and
// only if the caller is told that the transaction is confirmed.
func TestUnansweredCommitsWithLocalWork(t *testing.T) {
	t.Parallel()
	db, loss := sqltest.OpenLossy(t)
	config := quick
	config.Poll, config.Lease = maxDuration/4, maxDuration/4
	b := newBench(t, db, config)
	order := orders(t, db)
	sqltest.Exec(t, b.db, "UPDATE accounts SET credit = 100000")
	sqltest.Exec(t, b.other, "UPDATE accounts SET credit = 100000")
	for name, plan := range map[string][]tcc.Payload{"here": {hold{1, 1}}, "away": {holdAway{1, 1}}, "here, away, here": {hold{1, 1}, holdAway{1, 1}, hold{2, 1}}} {
		for _, made := range []bool{false, true} {
			for nth := 1; ; nth++ {
				lost, gid := loss.Count(), sagatest.GID()
				loss.Arm(nth, made)
				_, err := tcc.ExecuteWith(t.Context(), b.orch, gid, saga.Options{LocalWork: order(gid)}, plan...)
				loss.Arm(0, false)
				if errors.Is(err, saga.ErrUnknown) {
					_, err = tcc.Execute(t.Context(), b.orch, gid, plan...)
				}
				if got := ordered(t, db, gid); got != (err == nil) || err != nil && !errors.Is(err, saga.ErrCancelled) {
					t.Errorf("%s, COMMIT %d, made %t: ordered %t, told %v", name, nth, made, got, err)
				}
				if loss.Count() == lost {
					break
				}
			}
		}
	}
	if loss.Count() < 10 {
		t.Errorf("only %d COMMITs were lost", loss.Count())
	}
}

// A plan in the caller's own local transaction is executed if and only if the caller
// commits, in any number, by gorm and by database/sql.
func TestExecuteIn(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		config := quick
		config.Poll = time.Hour // none comes by itself
		b := newBench(t, db, config)
		order := orders(t, db)
		pool, err := db.DB()
		sagatest.Must(t, err)
		errBack := errors.New("the caller rolls back")
		ways := map[string]func(commit bool, execute func(in func(gid string, plan ...tcc.Payload) (saga.Outcome, error)) error) error{
			"gorm": func(commit bool, execute func(func(string, ...tcc.Payload) (saga.Outcome, error)) error) error {
				return db.Transaction(func(tx *gorm.DB) error {
					err := execute(func(gid string, plan ...tcc.Payload) (saga.Outcome, error) {
						sagatest.Must(t, order(gid)(t.Context(), tx))
						return tcc.ExecuteIn(t.Context(), b.orch, tx, gid, plan...)
					})
					if err == nil && !commit {
						err = errBack
					}
					return err
				})
			},
			"database/sql": func(commit bool, execute func(func(string, ...tcc.Payload) (saga.Outcome, error)) error) error {
				tx, err := pool.BeginTx(t.Context(), nil)
				sagatest.Must(t, err)
				defer tx.Rollback()
				err = execute(func(gid string, plan ...tcc.Payload) (saga.Outcome, error) {
					_, err := tx.ExecContext(t.Context(), "INSERT INTO orders VALUES ('"+gid+"')")
					sagatest.Must(t, err)
					return tcc.ExecuteInSQL(t.Context(), b.orch, tx, gid, plan...)
				})
				if err == nil && !commit {
					err = errBack
				}
				if err != nil {
					return err
				}
				return tx.Commit()
			},
		}
		for name, way := range ways {
			sqltest.Exec(t, db, "UPDATE accounts SET credit = 100, held = 0, spent = 0")
			for _, commit := range []bool{false, true} {
				first, second := sagatest.GID(), sagatest.GID()
				err := way(commit, func(in func(string, ...tcc.Payload) (saga.Outcome, error)) error {
					for _, gid := range []string{first, second} {
						if outcome, err := in(gid, hold{1, 30}, hold{2, 10}); err != nil || outcome.State != saga.Confirmed {
							return fmt.Errorf("%+v, %w", outcome, err)
						}
					}
					return nil
				})
				if !commit && !errors.Is(err, errBack) || commit && err != nil {
					t.Fatalf("%s, commit %t: %v", name, commit, err)
				}
				for _, gid := range []string{first, second} {
					if _, err := b.orch.Lookup(t.Context(), gid); errors.Is(err, saga.ErrNotFound) == commit || ordered(t, db, gid) != commit {
						t.Errorf("%s, commit %t: %v, ordered %t", name, commit, err, ordered(t, db, gid))
					}
				}
				if !commit {
					b.books(db, 1, 100, 0, 0)
					continue
				}
				b.books(db, 1, 40, 0, 60)
				b.books(db, 2, 80, 0, 20)
				// Again, in another local transaction: nothing new.
				sagatest.Must(t, db.Transaction(func(tx *gorm.DB) error {
					outcome, err := tcc.ExecuteIn(t.Context(), b.orch, tx, first, hold{1, 30}, hold{2, 10})
					if err == nil && outcome.State != saga.Confirmed {
						err = fmt.Errorf("%+v", outcome)
					}
					return err
				}))
				b.books(db, 1, 40, 0, 60)
				if err := db.Transaction(func(tx *gorm.DB) error {
					_, err := tcc.ExecuteIn(t.Context(), b.orch, tx, first, hold{1, 31})
					return err
				}); !errors.Is(err, saga.ErrMismatch) {
					t.Errorf("%s: another plan: %v", name, err)
				}
				// A Try that rejects is the caller's to know.
				err = way(true, func(in func(string, ...tcc.Payload) (saga.Outcome, error)) error {
					_, err := in(sagatest.GID(), hold{1, 1 << 20})
					return err
				})
				var rejection *saga.Rejection
				if !errors.As(err, &rejection) {
					t.Errorf("%s: a Try that rejects: %v", name, err)
				}
				b.books(db, 1, 40, 0, 60)
			}
		}
	})
}

// What is left to confirm follows after the commit, and not only at the next poll.
func TestExecuteInFollowsTheCommit(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		config := quick
		config.Poll = time.Hour // none comes by itself
		b := newBench(t, db, config)
		var sent atomic.Int64
		sagatest.Must(t, b.orch.Register(saga.NewLocal("letter", func(any) ([]byte, error) { return []byte("{}"), nil }, saga.Local{
			Work: func(context.Context, *gorm.DB, saga.Call) error { return nil },
			Effects: map[barrier.Op]saga.Effect{barrier.Confirm: func(context.Context, saga.Call) (any, error) {
				sent.Add(1)
				return nil, nil
			}},
		})))
		var written []string
		for range 3 {
			sagatest.Must(t, db.Transaction(func(tx *gorm.DB) error {
				for range 2 {
					gid := sagatest.GID()
					outcome, err := b.orch.ExecuteIn(t.Context(), tx, saga.Plan{GID: gid, Pattern: "tcc", Steps: []saga.Step{{Kind: "letter"}}})
					if err != nil || outcome.State != saga.Confirming {
						return fmt.Errorf("%+v, %w", outcome, err)
					}
					written = append(written, gid)
				}
				return nil
			}))
		}
		for _, gid := range written {
			b.reaches(gid, saga.Confirmed)
		}
		if n := sent.Load(); n != int64(len(written)) {
			t.Errorf("%d effects of %d", n, len(written))
		}
	})
}

// What cannot be executed in the caller's local transaction is refused, and nothing is
// written.
// A barrier row that an earlier transaction has left is no permission to skip a Try.
func TestExecuteInAfterAnEarlierTransaction(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		ctx := t.Context()
		request := barrier.Request{Key: barrier.Key{GID: "earlier", BranchID: "01"}, Op: barrier.Try, Kind: "credit.hold"}
		if err := db.Transaction(func(tx *gorm.DB) error {
			_, err := barrier.Call(ctx, tx, request)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		err := db.Transaction(func(tx *gorm.DB) error {
			_, err := tcc.ExecuteIn(ctx, b.orch, tx, "earlier", hold{1, 1})
			return err
		})
		if !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), "take a new gid") {
			t.Errorf("%v", err)
		}
		if _, err := b.orch.Lookup(ctx, "earlier"); !errors.Is(err, saga.ErrNotFound) {
			t.Errorf("something was written: %v", err)
		}
		b.books(db, 1, 100, 0, 0)
	})
}

func TestExecuteInRefuses(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	b := newBench(t, db, quick)
	ctx := t.Context()
	in := func(db *gorm.DB, payloads ...tcc.Payload) error {
		return db.Transaction(func(tx *gorm.DB) error {
			_, err := tcc.ExecuteIn(ctx, b.orch, tx, "refused", payloads...)
			return err
		})
	}
	executed := func(tx *gorm.DB, options saga.Options) error {
		_, err := b.orch.ExecuteIn(ctx, tx, saga.Plan{GID: "refused", Pattern: "tcc", Options: options, Steps: []saga.Step{{Kind: "credit.hold", Input: hold{1, 1}}}})
		return err
	}
	_, sqlErr := tcc.ExecuteInSQL(ctx, b.orch, nil, "refused", hold{1, 1})
	for says, err := range map[string]error{
		"not in the engine's own database": in(db, hold{1, 1}, holdAway{1, 1}),
		"branch 02, credit.out":            in(db, hold{1, 1}, holdOut{1, 1}),
		"not in a local transaction":       executed(db, saga.Options{}),
		"of another pool":                  in(b.other, hold{1, 1}),
		"is nil":                           sqlErr,
		"LocalWork has no use":             executed(db, saga.Options{LocalWork: func(context.Context, *gorm.DB) error { return nil }}),
		"the timeout is negative":          executed(db, saga.Options{Timeout: -1}),
		"0 branches":                       in(db),
	} {
		if !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	if _, err := b.orch.Lookup(ctx, "refused"); !errors.Is(err, saga.ErrNotFound) {
		t.Errorf("something was written: %v", err)
	}
	b.books(db, 1, 100, 0, 0)
}
