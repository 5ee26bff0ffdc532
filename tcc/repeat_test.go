package tcc_test

import (
	"context"
	"errors"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// request is what a handler does with a request for an order.
func request(ctx context.Context, engine saga.Engine, gid string) (saga.Outcome, error) {
	tx, err := tcc.Begin(ctx, engine, gid)
	if err != nil {
		return saga.Outcome{}, err
	}
	for _, payload := range []tcc.Payload{hold{1, 30}, holdOut{1, 10}, holdFar{1, 20}} {
		if err := tx.Try(ctx, payload); err != nil {
			return saga.Outcome{}, err
		}
	}
	return tx.Confirm(ctx)
}

// A request can run again with an External and a branch in another service, here and
// in another process, whose branches are never called; and one that was cancelled says
// so, with the reason.
func TestRepeatedRequestElsewhere(t *testing.T) {
	if c, is := asChild(t); is {
		db := sqltest.Connect(t, c.Database, &gorm.Config{})
		b := &bench{t: t, db: db, other: sqltest.Open(t, "sqlite")} // with neither accounts nor rows
		b.orch = b.open(quick)
		b.withFar(b.orch)
		sagatest.Run(t, b.orch)
		if outcome, err := request(t.Context(), b.orch, c.GID); err != nil || outcome.State != saga.Confirmed {
			t.Errorf("%+v, %v", outcome, err)
		}
		if n := b.out.called(barrier.Try) + b.out.called(barrier.Confirm) + b.here.called(barrier.Try); n != 0 {
			t.Errorf("%d calls", n)
		}
		return
	}
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			database := sqltest.Create(t, dialect)
			db := sqltest.Connect(t, database, &gorm.Config{})
			sagatest.Must(t, schema.Migrate(t.Context(), db))
			b := newBench(t, db, quick)
			other := b.open(quick)
			b.withFar(b.orch, other)
			sagatest.Run(t, other)
			gid := sagatest.GID()
			for _, engine := range []saga.Engine{b.orch, b.orch, other} {
				if outcome, err := request(t.Context(), engine, gid); err != nil || outcome.State != saga.Confirmed {
					t.Fatalf("%+v, %v", outcome, err)
				}
			}
			process := startChild(t, child{Test: "TestRepeatedRequestElsewhere", Database: database, GID: gid})
			if err := process.Wait(); err != nil {
				t.Errorf("in another process: %v", err)
			}
			b.books(db, 1, 70, 0, 30)
			b.books(b.other, 1, 80, 0, 20)
			if n := b.out.called(barrier.Try); n != 1 {
				t.Errorf("the gateway was called %d times", n)
			}

			cancelled := sagatest.GID()
			_, err := b.orch.Cancel(t.Context(), b.begin(cancelled, saga.Options{}).GID(), "changed my mind")
			sagatest.Must(t, err)
			b.reaches(cancelled, saga.Cancelled)
			for _, engine := range []saga.Engine{b.orch, other} {
				_, err := request(t.Context(), engine, cancelled)
				var why *saga.CancelledError
				if !errors.Is(err, saga.ErrCancelled) || !errors.Is(err, saga.ErrNotOpen) || !errors.As(err, &why) || why.Reason != "changed my mind" || why.Code != saga.CodeCancelled {
					t.Errorf("after a cancel: %v", err)
				}
			}
			b.books(db, 1, 70, 0, 30)
		})
	}
}

// A request that begins, tries and confirms can run again from its start after it
// was confirmed, on any instance, and changes nothing.
func TestRepeatedRequestRunsAgain(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		other := b.open(quick)
		sagatest.Run(t, other)
		gid := sagatest.GID()
		for _, engine := range []saga.Engine{b.orch, b.orch, other} {
			tx, err := tcc.Begin(t.Context(), engine, gid)
			sagatest.Must(t, err)
			sagatest.Must(t, tx.Try(t.Context(), hold{1, 30}))
			sagatest.Must(t, tx.Try(t.Context(), holdAway{1, 20}))
			sagatest.Must(t, tx.Try(t.Context(), holdOut{1, 10}))
			outcome, err := tx.Confirm(t.Context())
			if err != nil || outcome.State != saga.Confirmed {
				t.Fatalf("%+v, %v", outcome, err)
			}
		}
		tx, err := tcc.Begin(t.Context(), b.orch, gid)
		sagatest.Must(t, err)
		if err := tx.Try(t.Context(), hold{1, 31}); !errors.Is(err, saga.ErrMismatch) {
			t.Errorf("another payload in the same place: %v", err)
		}
		tx, err = tcc.Join(t.Context(), b.orch, gid)
		sagatest.Must(t, err)
		if err := tx.Try(t.Context(), hold{2, 1}); !errors.Is(err, saga.ErrNotOpen) {
			t.Errorf("one more branch: %v", err)
		}
		if calls := b.out.called(barrier.Try); calls != 1 {
			t.Errorf("the gateway was called %d times", calls)
		}
		b.books(b.db, 1, 70, 0, 30)
		b.books(b.other, 1, 80, 0, 20)
	})
}
