package tcc_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// An instance that lacks a kind leaves what has it to one that does not: it keeps
// nothing confirming, whoever of the two comes first.
func TestInstanceThatLacksAKind(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		lacking := quick
		lacking.Poll = 5 * time.Millisecond // it looks more often
		for range 3 {
			sagatest.Run(t, b.openLess(lacking, func(o *embedded.Engine) { sagatest.Must(t, tcc.Register(o, b.here)) }))
		}
		b.away.fail(barrier.Confirm, 3, errOnPurpose)
		var gids []string
		for range 5 {
			gid := sagatest.GID()
			_, err := tcc.Execute(t.Context(), b.orch, gid, hold{1, 1}, holdAway{1, 1})
			sagatest.Must(t, err)
			gids = append(gids, gid)
		}
		for _, gid := range gids {
			found := b.reaches(gid, saga.Confirmed)
			for _, branch := range found.Branches {
				for _, a := range branch.Attempts {
					if a.Instance != b.orch.Instance() {
						t.Errorf("a failed attempt by another instance: %+v", a)
					}
				}
			}
		}
		b.books(db, 1, 95, 0, 5)
		b.books(b.other, 1, 95, 0, 5)
	})
}

// A process that only decides, without any kind of branch, hands over at once: the
// instance that knows the kinds is not waited for until a lease has run out.
func TestProcessThatOnlyDecides(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		config := quick
		config.Lease = time.Minute // nothing is taken over by its end
		b := newBench(t, db, config)
		admin := b.openLess(config, nil)
		sagatest.Run(t, admin)
		ctx := t.Context()
		for name, decide := range map[string]func(gid string) (saga.State, error){
			"confirm": func(gid string) (saga.State, error) {
				tx, err := tcc.Join(ctx, admin, gid)
				sagatest.Must(t, err)
				_, err = tx.Confirm(ctx)
				return saga.Confirmed, err
			},
			"cancel": func(gid string) (saga.State, error) {
				tx, err := tcc.Join(ctx, admin, gid)
				sagatest.Must(t, err)
				_, err = tx.Cancel(ctx, "by an admin")
				return saga.Cancelled, err
			},
			"decide": func(gid string) (saga.State, error) {
				_, err := admin.Decide(ctx, gid, saga.Confirming, alice)
				return saga.Confirmed, err
			},
			"retry": func(gid string) (saga.State, error) {
				b.away.fail(barrier.Cancel, 1, errOnPurpose)
				_, err := admin.Decide(ctx, gid, saga.Cancelling, alice)
				sagatest.Must(t, err)
				sagatest.Eventually(t, "a failure", func() bool { return b.away.called(barrier.Cancel) > 0 })
				err = admin.Retry(ctx, gid, alice)
				if err != nil && b.reaches(gid, saga.Cancelled) != nil {
					err = nil // it was faster
				}
				return saga.Cancelled, err
			},
		} {
			gid := sagatest.GID()
			tx, err := tcc.Begin(ctx, b.orch, gid)
			sagatest.Must(t, err)
			sagatest.Must(t, tx.Try(ctx, hold{1, 1}))
			sagatest.Must(t, tx.Try(ctx, holdAway{1, 1}))
			end, err := decide(gid)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if found := b.reaches(gid, end); found.Attention != "" {
				t.Errorf("%s: %s", name, found.Attention)
			}
		}
		// A deadline, met by the one that knows nothing.
		alone := b.openLess(config, nil)
		gid := sagatest.GID()
		tx, err := tcc.BeginWith(ctx, b.orch, gid, saga.Options{Timeout: 50 * time.Millisecond})
		sagatest.Must(t, err)
		sagatest.Must(t, tx.Try(ctx, holdAway{1, 1}))
		sagatest.Run(t, alone)
		b.reaches(gid, saga.Cancelled)
		b.books(db, 1, 98, 0, 2)
		b.books(b.other, 1, 98, 0, 2)
	})
}

// Where nobody knows a kind, a person is asked for after AttentionAge, not before;
// and an instance that knows it goes on at once.
func TestKindThatNobodyKnows(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		config, alarms := alarmed()
		config.AttentionAge, config.Lease = 2*time.Second, 200*time.Millisecond
		b := newBench(t, db, quick)
		gid := sagatest.GID()
		tx, err := tcc.Begin(t.Context(), b.orch, gid)
		sagatest.Must(t, err)
		sagatest.Must(t, tx.Try(t.Context(), holdAway{1, 30}))
		sagatest.Must(t, b.orch.Stop(t.Context()))
		admin := b.openLess(config, nil)
		sagatest.Run(t, admin)
		began := time.Now()
		_, err = admin.Decide(t.Context(), gid, saga.Confirming, alice)
		sagatest.Must(t, err)
		got := alarm(t, alarms)
		if got.GID != gid || !strings.Contains(got.Why, "no instance that runs knows the kind of branch credit.away") {
			t.Errorf("%+v", got)
		}
		if waited := time.Since(began); waited < config.AttentionAge/2 {
			t.Errorf("raised after %s", waited)
		}
		if listed, err := admin.List(t.Context(), saga.Filter{Attention: true}); err != nil || len(listed) != 1 || listed[0].Owner != "" {
			t.Errorf("%+v, %v", listed, err)
		}
		sagatest.Run(t, b.open(quick))
		if found := b.reaches(gid, saga.Confirmed); found.Attention != "" || len(alarms) != 0 {
			t.Errorf("%q, %d more alarms", found.Attention, len(alarms))
		}
		b.books(b.other, 1, 70, 0, 30)
	})
}

// Thousands that an instance cannot drive, all due at the same moment, keep none
// waiting that it can; and it does not look at them all the time.
func TestManyForeign(t *testing.T) {
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			const many = 5000
			b := newBench(t, sqltest.Open(t, dialect), quick)
			sagatest.Must(t, b.orch.Stop(t.Context()))
			var transactions, branches []string
			for i := range many {
				transactions = append(transactions, fmt.Sprintf("('foreign-%d', 'tcc', 'confirming', 'd', '', '', '', 'caller', '', '', 1, 0, '2020-01-01', '2020-01-01', '2020-01-01', '2020-01-01')", i))
				branches = append(branches, fmt.Sprintf("('foreign-%d', '01', 'credit.retired', '{}')", i))
			}
			sqltest.Exec(t, b.db, "INSERT INTO saga_transactions (gid, pattern, state, digest, reason, reason_code, reason_branch, decided_by, attention, owner, epoch, failures, created_at, deadline_at, due_at, decided_at) VALUES "+strings.Join(transactions, ", "))
			sqltest.Exec(t, b.db, "INSERT INTO saga_branches (gid, branch_id, kind, payload) VALUES "+strings.Join(branches, ", "))

			dead := b.open(dying()) // leaves one that comes after all of these
			gate := b.away.hold(barrier.Confirm)
			gid := sagatest.GID()
			_, err := tcc.ExecuteWith(t.Context(), dead, gid, saga.Options{ReturnDecided: true}, holdAway{1, 30})
			sagatest.Must(t, err)
			config := quick
			config.AttentionAge = time.Hour * 24 * 365 * 50
			b.orch = b.open(config)
			sagatest.Run(t, b.orch)
			close(gate)
			b.reaches(gid, saga.Confirmed)
			var left int
			sagatest.Must(t, b.db.Raw("SELECT COUNT(*) FROM saga_transactions WHERE gid LIKE 'foreign-%' AND owner = '' AND epoch = 1 AND attention = '' AND due_at < '2021-01-01'").Scan(&left).Error)
			if left != many {
				t.Errorf("%d of %d are as they were", left, many)
			}
		})
	}
}

// The kind that is missing is looked for in what is begun, not only in what is
// claimed: an instance that joins a transaction needs its kind.
func TestTryOfAKindThatIsUnknownHere(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick)
	admin := b.openLess(quick, nil)
	sagatest.Run(t, admin)
	gid := sagatest.GID()
	sagatest.Must(t, admin.Begin(context.Background(), saga.Opening{GID: gid, Pattern: "tcc"}))
	if err := admin.Try(t.Context(), gid, "01", saga.Step{Kind: "credit.hold", Input: hold{1, 1}}); err == nil || !strings.Contains(err.Error(), `"credit.hold" is not registered in this process`) {
		t.Errorf("%v", err)
	}
	tx, err := tcc.Join(t.Context(), b.orch, gid)
	sagatest.Must(t, err)
	sagatest.Must(t, tx.Try(t.Context(), hold{1, 1}))
	_, err = admin.Confirm(t.Context(), gid, saga.Options{})
	sagatest.Must(t, err)
	b.reaches(gid, saga.Confirmed)
}
