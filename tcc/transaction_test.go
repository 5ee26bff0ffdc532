package tcc_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// Confirm returns with the decision, while a branch is still being confirmed, whether the
// transaction was begun or joined with the option. A Timeout is an option of Begin only.
func TestConfirmReturnsDecided(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick)
	ctx, decided := t.Context(), saga.Options{ReturnDecided: true}
	for name, transaction := range map[string]func(gid string) *tcc.Transaction{
		"begun": func(gid string) *tcc.Transaction { return b.begin(gid, decided) },
		"joined": func(gid string) *tcc.Transaction {
			b.begin(gid, saga.Options{})
			tx, err := tcc.JoinWith(ctx, b.orch, gid, decided)
			sagatest.Must(t, err)
			return tx
		},
	} {
		gid := sagatest.GID()
		tx := transaction(gid)
		gate := b.here.hold(barrier.Confirm)
		if outcome, err := tx.Confirm(ctx); err != nil || outcome.State != saga.Confirming {
			t.Errorf("%s: %+v, %v", name, outcome, err)
		}
		close(gate)
		b.reaches(gid, saga.Confirmed)
	}
	if _, err := tcc.JoinWith(ctx, b.orch, "any", saga.Options{Timeout: time.Second}); !errors.Is(err, saga.ErrInvalid) {
		t.Errorf("joined with a timeout: %v", err)
	}
	if _, err := b.orch.Confirm(ctx, "any", saga.Options{Timeout: time.Second}); !errors.Is(err, saga.ErrInvalid) {
		t.Errorf("confirmed with a timeout: %v", err)
	}
}

func TestDecisionThatComesLater(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		ctx := t.Context()

		confirmed := sagatest.GID()
		b.begin(confirmed, saga.Options{})
		b.books(b.db, 1, 70, 30, 0)
		b.books(b.other, 1, 80, 20, 0)
		// The decision comes from another instance, and twice.
		other := b.open(quick)
		sagatest.Run(t, other)
		for range 2 {
			tx, err := tcc.Join(ctx, other, confirmed)
			sagatest.Must(t, err)
			outcome, err := tx.Confirm(ctx)
			if err != nil || outcome.State != saga.Confirmed {
				t.Fatalf("%+v, %v", outcome, err)
			}
		}
		b.books(b.db, 1, 70, 0, 30)
		b.books(b.other, 1, 80, 0, 20)

		tx, err := tcc.Join(ctx, b.orch, confirmed)
		sagatest.Must(t, err)
		if _, err := tx.Cancel(ctx, "too late"); !errors.Is(err, saga.ErrConfirmed) {
			t.Errorf("Cancel after Confirm: %v", err)
		}
		if err := tx.Try(ctx, hold{1, 1}); !errors.Is(err, saga.ErrNotOpen) {
			t.Errorf("Try after the decision: %v", err)
		}

		cancelled := sagatest.GID()
		tx = b.begin(cancelled, saga.Options{})
		for range 2 {
			outcome, err := tx.Cancel(ctx, "the customer left")
			if err != nil || outcome.State != saga.Cancelled || outcome.Reason != "the customer left" {
				t.Fatalf("%+v, %v", outcome, err)
			}
		}
		if _, err := tx.Confirm(ctx); !errors.Is(err, saga.ErrCancelled) {
			t.Errorf("Confirm after Cancel: %v", err)
		}
		b.books(b.db, 1, 70, 0, 30)
		b.books(b.other, 1, 80, 0, 20)
		if got := b.out.at(cancelled + "/03"); got != "free" {
			t.Errorf("the gateway says %q", got)
		}
	})
}

func TestDeadlineCancels(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		gid := sagatest.GID()
		tx := b.begin(gid, saga.Options{})
		sqltest.Exec(t, db, "UPDATE saga_transactions SET deadline_at = created_at, due_at = created_at WHERE gid = ?", gid)
		found := b.reaches(gid, saga.Cancelled)
		if found.DecidedBy != "deadline" {
			t.Errorf("decided by %q", found.DecidedBy)
		}
		b.books(b.db, 1, 100, 0, 0)
		b.books(b.other, 1, 100, 0, 0)
		if _, err := tx.Confirm(t.Context()); !errors.Is(err, saga.ErrCancelled) {
			t.Errorf("Confirm after the deadline: %v", err)
		}
	})
}

// Once the deadline has passed, a Confirm is too late even if no instance has
// been there to cancel.
func TestConfirmAfterTheDeadlineWithNobodyThere(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		slow := quick
		slow.Poll, slow.Lease = time.Hour, time.Hour
		b := newBench(t, db, slow)
		gid := sagatest.GID()
		tx := b.begin(gid, saga.Options{Timeout: time.Hour})
		past := map[string]string{"mysql": "'2020-01-01 00:00:00'", "postgres": "'2020-01-01 00:00:00+00'", "sqlite": "'2020-01-01 00:00:00.000'"}
		sqltest.Exec(t, db, "UPDATE saga_transactions SET deadline_at = "+past[db.Dialector.Name()]+" WHERE gid = ?", gid)
		if err := tx.Try(t.Context(), hold{2, 1}); !errors.Is(err, saga.ErrNotOpen) {
			t.Errorf("Try after the deadline: %v", err)
		}
		tx, err := tcc.Join(t.Context(), b.orch, gid)
		sagatest.Must(t, err)
		outcome, err := tx.Confirm(t.Context())
		if !errors.Is(err, saga.ErrCancelled) || outcome.State != saga.Cancelled {
			t.Errorf("%+v, %v", outcome, err)
		}
		b.books(b.db, 1, 100, 0, 0)
	})
}

// A request that is repeated runs again from its start and changes nothing.
func TestBeginAndTryAreRepeatable(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		gid := sagatest.GID()
		for range 3 {
			tx, err := tcc.Begin(t.Context(), b.orch, gid)
			sagatest.Must(t, err)
			sagatest.Must(t, tx.Try(t.Context(), hold{1, 30}))
			sagatest.Must(t, tx.Try(t.Context(), holdAway{1, 20}))
			sagatest.Must(t, tx.Try(t.Context(), holdOut{1, 10}))
		}
		if calls := b.out.called(barrier.Try); calls != 1 {
			t.Errorf("the gateway was called %d times", calls)
		}
		b.books(b.db, 1, 70, 30, 0)
		b.books(b.other, 1, 80, 20, 0)

		tx, err := tcc.Begin(t.Context(), b.orch, gid)
		sagatest.Must(t, err)
		if err := tx.Try(t.Context(), hold{1, 31}); !errors.Is(err, saga.ErrMismatch) {
			t.Errorf("another payload under the same branch id: %v", err)
		}
		resumed, err := tcc.Join(t.Context(), b.orch, gid)
		sagatest.Must(t, err)
		sagatest.Must(t, resumed.Try(t.Context(), hold{2, 5})) // goes on after what is there
		b.books(b.db, 2, 95, 5, 0)
	})
}

func TestRejectedTryOfAnOpenTransaction(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick)
	gid := sagatest.GID()
	tx := b.begin(gid, saga.Options{})
	if err := tx.Try(t.Context(), hold{2, 101}); !errors.Is(err, errShort) {
		t.Fatal(err)
	}
	if _, err := tx.Confirm(t.Context()); !errors.Is(err, errShort) {
		t.Errorf("Confirm after a Try that was rejected: %v", err)
	}
	outcome, err := tx.Cancel(t.Context(), "short")
	if err != nil || outcome.State != saga.Cancelled {
		t.Errorf("%+v, %v", outcome, err)
	}
	b.books(b.db, 1, 100, 0, 0)
	b.books(b.db, 2, 100, 0, 0)
}

func TestOpenTransactionRefusals(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick)
	ctx := t.Context()
	if _, err := tcc.Join(ctx, b.orch, "nobody"); !errors.Is(err, saga.ErrNotFound) {
		t.Errorf("Resume: %v", err)
	}
	if _, err := b.orch.Confirm(ctx, "nobody", saga.Options{}); !errors.Is(err, saga.ErrNotFound) {
		t.Errorf("Confirm: %v", err)
	}
	if _, err := tcc.Begin(ctx, b.orch, ""); !errors.Is(err, saga.ErrInvalid) {
		t.Errorf("Begin: %v", err)
	}
	planned := sagatest.GID()
	_, err := tcc.Execute(ctx, b.orch, planned, hold{1, 1})
	sagatest.Must(t, err)
	if _, err := tcc.Begin(ctx, b.orch, planned); !errors.Is(err, saga.ErrMismatch) {
		t.Errorf("Begin with a gid that has a plan: %v", err)
	}
	open := sagatest.GID()
	tx := b.begin(open, saga.Options{})
	if _, err := tcc.Execute(ctx, b.orch, open, hold{1, 1}); !errors.Is(err, saga.ErrMismatch) {
		t.Errorf("Execute with a gid that is open: %v", err)
	}
	if err := tx.Try(ctx, nil); !errors.Is(err, saga.ErrInvalid) {
		t.Errorf("Try of nil: %v", err)
	}
	if err := tx.Try(ctx, unknown{}); !errors.Is(err, saga.ErrInvalid) {
		t.Errorf("Try of an unknown kind: %v", err)
	}
	if _, err := tx.Confirm(ctx); err != nil {
		t.Errorf("bad input must not spoil the transaction: %v", err)
	}
}

// A Try that failed, or is under way, keeps everybody from confirming, not only
// the handle that made it.
func TestConfirmNeedsEveryTry(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		failing := map[string]struct {
			payload tcc.Payload
			arm     func()
		}{
			"away, rejected":     {holdAway{1, 101}, func() {}},
			"away, failed":       {holdAway{1, 1}, func() { b.away.fail(barrier.Try, 1, errors.New("no")) }},
			"external, rejected": {holdOut{1, 1}, func() { b.out.fail(barrier.Try, 1, tcc.Reject(errShort)) }},
		}
		for name, f := range failing {
			gid := sagatest.GID()
			tx, err := tcc.Begin(t.Context(), b.orch, gid)
			sagatest.Must(t, err)
			sagatest.Must(t, tx.Try(t.Context(), hold{1, 10}))
			f.arm()
			if err := tx.Try(t.Context(), f.payload); err == nil {
				t.Fatalf("%s: the Try succeeded", name)
			}
			resumed, err := tcc.Join(t.Context(), b.orch, gid)
			sagatest.Must(t, err)
			if _, err := resumed.Confirm(t.Context()); !errors.Is(err, saga.ErrNotTried) {
				t.Errorf("%s: Confirm: %v", name, err)
			}
			_, err = resumed.Cancel(t.Context(), "it failed")
			sagatest.Must(t, err)
			b.reaches(gid, saga.Cancelled)
			b.books(b.db, 1, 100, 0, 0)
			b.books(b.other, 1, 100, 0, 0)
		}

		gate := b.away.hold(barrier.Try)
		gid := sagatest.GID()
		tx, err := tcc.Begin(t.Context(), b.orch, gid)
		sagatest.Must(t, err)
		before := b.away.called(barrier.Try)
		tried := make(chan error)
		go func() { tried <- tx.Try(t.Context(), holdAway{1, 10}) }()
		sagatest.Eventually(t, "Try is called", func() bool { return b.away.called(barrier.Try) > before })
		if _, err := b.orch.Confirm(t.Context(), gid, saga.Options{}); !errors.Is(err, saga.ErrNotTried) {
			t.Errorf("Confirm while a Try is under way: %v", err)
		}
		close(gate)
		sagatest.Must(t, <-tried)
		_, err = b.orch.Confirm(t.Context(), gid, saga.Options{})
		sagatest.Must(t, err)
		b.books(b.other, 1, 90, 0, 10)
	})
}

// A plan decides by itself: nobody confirms it from outside before its Trys
// are done, but anybody may cancel it.
func TestTransactionWithAPlanFromOutside(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		gate := b.away.hold(barrier.Try)
		gid := sagatest.GID()
		answered := make(chan error)
		go func() {
			_, err := tcc.Execute(t.Context(), b.orch, gid, holdAway{1, 30}, hold{1, 30})
			answered <- err
		}()
		sagatest.Eventually(t, "Try is called", func() bool { return b.away.called(barrier.Try) > 0 })
		if _, err := b.orch.Confirm(t.Context(), gid, saga.Options{}); !errors.Is(err, saga.ErrNotOpen) {
			t.Errorf("Confirm from outside: %v", err)
		}
		outcome := make(chan error)
		go func() {
			_, err := b.orch.Cancel(t.Context(), gid, "the operator said so")
			outcome <- err
		}()
		sagatest.Eventually(t, "the decision", func() bool {
			found, err := b.orch.Lookup(t.Context(), gid)
			return err == nil && found.State.Decided()
		})
		close(gate) // the Try goes on after the Cancel was decided
		sagatest.Must(t, <-outcome)
		if err := <-answered; !errors.Is(err, saga.ErrCancelled) || !strings.Contains(err.Error(), "the operator said so") {
			t.Errorf("Execute: %v", err)
		}
		b.reaches(gid, saga.Cancelled)
		b.books(b.db, 1, 100, 0, 0)
		b.books(b.other, 1, 100, 0, 0)
	})
}
