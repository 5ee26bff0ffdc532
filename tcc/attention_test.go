package tcc_test

import (
	"context"
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

func TestAttentionAfterAttempts(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		config, alarms := alarmed()
		config.AttentionAttempts = 3
		b := newBench(t, db, config)
		b.away.fail(barrier.Confirm, 5, errOnPurpose)
		gid := sagatest.GID()
		_, err := tcc.Execute(t.Context(), b.orch, gid, holdAway{1, 30})
		sagatest.Must(t, err)
		got := alarm(t, alarms)
		if got.GID != gid || got.State != saga.Confirming || !strings.HasPrefix(got.Why, "attempts: branch 01, credit.away, has failed 3 times") {
			t.Errorf("%+v", got)
		}
		// The retries go on, and nobody is called twice.
		if found := b.reaches(gid, saga.Confirmed); found.Attention != "" || found.Failures != 5 {
			t.Errorf("finished with attention %q, %d failures", found.Attention, found.Failures)
		}
		if len(alarms) != 0 {
			t.Errorf("one more alarm: %+v", <-alarms)
		}
	})
}

func TestAttentionOfAge(t *testing.T) {
	t.Parallel()
	config, alarms := alarmed()
	config.AttentionAge = 50 * time.Millisecond
	b := newBench(t, sqltest.Open(t, "sqlite"), config)
	gate := b.away.hold(barrier.Confirm)
	b.away.fail(barrier.Confirm, 1, errOnPurpose)
	gid := sagatest.GID()
	_, err := tcc.ExecuteWith(t.Context(), b.orch, gid, saga.Options{ReturnDecided: true}, holdAway{1, 30})
	sagatest.Must(t, err)
	sagatest.Must(t, b.orch.PauseKind(t.Context(), "credit.away", alice))
	close(gate)
	if got := alarm(t, alarms); !strings.HasPrefix(got.Why, "age: decided ") {
		t.Errorf("%+v", got)
	}
	listed, err := b.orch.List(t.Context(), saga.Filter{Attention: true})
	sagatest.Must(t, err)
	if len(listed) != 1 || listed[0].GID != gid {
		t.Errorf("listed: %+v", listed)
	}
}

// A conflict cannot be helped by retrying: it is raised at the first call.
func TestAttentionOfAConflict(t *testing.T) {
	t.Parallel()
	config, alarms := alarmed()
	b := newBench(t, sqltest.Open(t, "sqlite"), config)
	gid := sagatest.GID()
	tx, err := tcc.Begin(t.Context(), b.orch, gid)
	sagatest.Must(t, err)
	sagatest.Must(t, tx.Try(t.Context(), hold{1, 30}))
	sqltest.Exec(t, b.db, "UPDATE saga_barrier SET state = 'cancelled' WHERE gid = ?", gid)
	_, err = tx.Confirm(t.Context())
	sagatest.Must(t, err)
	if got := alarm(t, alarms); !strings.HasPrefix(got.Why, "conflict: branch 01, credit.hold") {
		t.Errorf("%+v", got)
	}
	sqltest.Exec(t, b.db, "UPDATE saga_barrier SET state = 'tried' WHERE gid = ?", gid) // a person has looked
	sagatest.Must(t, b.orch.Retry(t.Context(), gid, alice))
	b.reaches(gid, saga.Confirmed)
	b.books(b.db, 1, 70, 0, 30)
}

// A hook that panics, or takes for ever, harms nothing.
func TestBadHook(t *testing.T) {
	t.Parallel()
	config := quick
	config.AttentionAttempts, config.CallTimeout = 1, 100*time.Millisecond
	config.OnAttention = func(ctx context.Context, a embedded.Attention) {
		<-ctx.Done()
		panic("on purpose")
	}
	b := newBench(t, sqltest.Open(t, "sqlite"), config)
	b.away.fail(barrier.Confirm, 1, errOnPurpose)
	gid := sagatest.GID()
	_, err := tcc.Execute(t.Context(), b.orch, gid, holdAway{1, 30})
	sagatest.Must(t, err)
	b.reaches(gid, saga.Confirmed)
	sagatest.Must(t, b.orch.Stop(t.Context())) // waits for the hook
}
