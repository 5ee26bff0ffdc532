package tcc_test

import (
	"errors"
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

// patient retries so late that only an operator makes it go on.
func patient() embedded.Config {
	config := quick
	config.MinBackoff, config.MaxBackoff = time.Hour, time.Hour
	return config
}

func TestRetryNow(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, patient())
		b.away.fail(barrier.Confirm, 1, errOnPurpose)
		gid := sagatest.GID()
		_, err := tcc.Execute(t.Context(), b.orch, gid, hold{1, 30}, holdAway{1, 30})
		sagatest.Must(t, err)
		sagatest.Eventually(t, "the failure is in the log", func() bool { return b.reaches(gid, saga.Confirming).Failures == 1 })
		sagatest.Must(t, b.orch.Retry(t.Context(), gid, alice))
		found := b.reaches(gid, saga.Confirmed)
		if len(found.Acts) != 1 || found.Acts[0].Name != "retry" || found.Acts[0].Operator != alice || found.Acts[0].At.IsZero() {
			t.Errorf("acts: %+v", found.Acts)
		}
		if err := b.orch.Retry(t.Context(), gid, alice); !errors.Is(err, saga.ErrRefused) {
			t.Errorf("Retry of a finished one: %v", err)
		}
	})
}

func TestPauseAndResume(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		gid := sagatest.GID()
		tx, err := tcc.Begin(t.Context(), b.orch, gid)
		sagatest.Must(t, err)
		sagatest.Must(t, tx.Try(t.Context(), hold{1, 30}))
		sagatest.Must(t, b.orch.Pause(t.Context(), gid, alice))
		if err := b.orch.Pause(t.Context(), gid, alice); !errors.Is(err, saga.ErrRefused) {
			t.Errorf("Pause again: %v", err)
		}
		// The decision is not held up, its calls are.
		outcome, err := tx.Confirm(t.Context())
		sagatest.Must(t, err)
		if outcome.State != saga.Confirming {
			t.Errorf("paused, and %s", outcome.State)
		}
		sqltest.Exec(t, db, "UPDATE saga_transactions SET due_at = created_at WHERE gid = ?", gid)
		other := sagatest.GID() // goes by the one that is paused
		_, err = tcc.Execute(t.Context(), b.orch, other, hold{2, 10})
		sagatest.Must(t, err)
		if found := b.reaches(gid, saga.Confirming); found.PausedAt.IsZero() || b.here.called(barrier.Confirm) != 1 {
			t.Errorf("paused at %s, %d Confirms", found.PausedAt, b.here.called(barrier.Confirm))
		}
		sagatest.Must(t, b.orch.Resume(t.Context(), gid, alice))
		found := b.reaches(gid, saga.Confirmed)
		if len(found.Acts) != 2 || !found.PausedAt.IsZero() {
			t.Errorf("acts: %+v, paused at %s", found.Acts, found.PausedAt)
		}
		if err := b.orch.Resume(t.Context(), gid, alice); !errors.Is(err, saga.ErrRefused) {
			t.Errorf("Resume of one that is not paused: %v", err)
		}
		b.books(b.db, 1, 70, 0, 30)
	})
}

// The deadline holds for a paused transaction too; its Cancels wait.
func TestPausedAtItsDeadline(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick)
	gid := sagatest.GID()
	tx, err := tcc.Begin(t.Context(), b.orch, gid)
	sagatest.Must(t, err)
	sagatest.Must(t, tx.Try(t.Context(), hold{1, 30}))
	sagatest.Must(t, b.orch.Pause(t.Context(), gid, alice))
	sqltest.Exec(t, b.db, "UPDATE saga_transactions SET deadline_at = created_at, due_at = created_at WHERE gid = ?", gid)
	b.reaches(gid, saga.Cancelling)
	if n := b.here.called(barrier.Cancel); n != 0 {
		t.Errorf("paused, and Cancel was called %d times", n)
	}
	sagatest.Must(t, b.orch.Resume(t.Context(), gid, alice))
	b.reaches(gid, saga.Cancelled)
	b.books(b.db, 1, 100, 0, 0)
}

func TestPauseKind(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		known := sagatest.GID()
		_, err := tcc.Execute(t.Context(), b.orch, known, holdAway{1, 10})
		sagatest.Must(t, err)
		gid := sagatest.GID()
		tx, err := tcc.Begin(t.Context(), b.orch, gid)
		sagatest.Must(t, err)
		sagatest.Must(t, tx.Try(t.Context(), hold{1, 30}))
		sagatest.Must(t, tx.Try(t.Context(), holdAway{1, 30}))

		sagatest.Must(t, b.orch.PauseKind(t.Context(), "credit.away", alice))
		if paused, err := b.orch.PausedKinds(t.Context()); err != nil || len(paused) != 1 || paused[0] != "credit.away" {
			t.Errorf("paused kinds: %q, %v", paused, err)
		}
		refused := sagatest.GID()
		if _, err := tcc.Execute(t.Context(), b.orch, refused, holdAway{1, 10}); !errors.Is(err, saga.ErrPaused) {
			t.Errorf("Execute: %v", err)
		}
		if _, err := b.orch.Lookup(t.Context(), refused); !errors.Is(err, saga.ErrNotFound) {
			t.Errorf("it was refused and is in the log: %v", err)
		}
		if err := b.orch.Try(t.Context(), gid, "03", saga.Step{Kind: "credit.away", Input: holdAway{2, 30}}); !errors.Is(err, saga.ErrPaused) {
			t.Errorf("Try: %v", err)
		}
		// What is known is answered all the same.
		if outcome, err := tcc.Execute(t.Context(), b.orch, known, holdAway{1, 10}); err != nil || outcome.State != saga.Confirmed {
			t.Errorf("%s, %v", outcome.State, err)
		}
		outcome, err := tx.Confirm(t.Context())
		sagatest.Must(t, err)
		if outcome.State != saga.Confirming || b.away.called(barrier.Confirm) != 1 {
			t.Errorf("%s, and %d Confirms of the paused kind", outcome.State, b.away.called(barrier.Confirm))
		}
		if row := b.reaches(gid, saga.Confirming).Branches[0].Barrier; row.State != barrier.StateConfirmed {
			t.Errorf("the branch of the other kind is %s", row.State)
		}
		sagatest.Must(t, b.orch.ResumeKind(t.Context(), "credit.away", alice))
		b.reaches(gid, saga.Confirmed)
		if err := b.orch.ResumeKind(t.Context(), "credit.away", alice); !errors.Is(err, saga.ErrRefused) {
			t.Errorf("ResumeKind again: %v", err)
		}
		var acts int
		sagatest.Must(t, db.Raw("SELECT COUNT(*) FROM saga_acts WHERE kind = 'credit.away' AND who = 'alice'").Scan(&acts).Error)
		if acts != 2 {
			t.Errorf("%d acts recorded", acts)
		}
	})
}

// A kind that is paused is so for every instance, and for those that start.
func TestPauseKindElsewhere(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick)
	other := b.open(quick)
	sagatest.Run(t, other)
	sagatest.Must(t, b.orch.PauseKind(t.Context(), "credit.out", alice))
	sagatest.Eventually(t, "the other instance knows", func() bool {
		_, err := tcc.Execute(t.Context(), other, sagatest.GID(), holdOut{1, 1})
		return errors.Is(err, saga.ErrPaused)
	})
	late := b.open(quick)
	if _, err := tcc.Execute(t.Context(), late, sagatest.GID(), holdOut{1, 1}); !errors.Is(err, saga.ErrPaused) {
		t.Errorf("a new instance: %v", err)
	}
}

func TestDecide(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		ctx := t.Context()
		open := func(payloads ...tcc.Payload) string {
			gid := sagatest.GID()
			tx, err := tcc.Begin(ctx, b.orch, gid)
			sagatest.Must(t, err)
			for _, p := range payloads {
				sagatest.Must(t, tx.Try(ctx, p))
			}
			return gid
		}
		confirmed := open(hold{1, 10})
		outcome, err := b.orch.Decide(ctx, confirmed, saga.Confirming, alice)
		sagatest.Must(t, err)
		found := b.reaches(confirmed, saga.Confirmed)
		if outcome.State != saga.Confirmed || found.DecidedBy != "operator" || len(found.Acts) != 1 || found.Acts[0].Name != "confirm" {
			t.Errorf("%s, decided by %s, acts %+v", outcome.State, found.DecidedBy, found.Acts)
		}
		if _, err := b.orch.Decide(ctx, confirmed, saga.Cancelling, alice); !errors.Is(err, saga.ErrConfirmed) {
			t.Errorf("Cancel after the decision to confirm: %v", err)
		}
		cancelled := open(hold{1, 10})
		_, err = b.orch.Decide(ctx, cancelled, saga.Cancelling, alice)
		sagatest.Must(t, err)
		found = b.reaches(cancelled, saga.Cancelled)
		if !strings.Contains(found.Reason, "alice") || len(found.Acts) != 1 || found.Acts[0].Name != "cancel" {
			t.Errorf("reason %q, acts %+v", found.Reason, found.Acts)
		}
		if _, err := b.orch.Decide(ctx, cancelled, saga.Confirming, alice); !errors.Is(err, saga.ErrCancelled) {
			t.Errorf("Confirm after the decision to cancel: %v", err)
		}
		untried := open()
		b.out.fail(barrier.Try, 1, errOnPurpose)
		if err := b.orch.Try(ctx, untried, "01", saga.Step{Kind: "credit.out", Input: holdOut{1, 1}}); err == nil {
			t.Fatal("the Try did not fail")
		}
		if _, err := b.orch.Decide(ctx, untried, saga.Confirming, alice); !errors.Is(err, saga.ErrNotTried) {
			t.Errorf("Confirm with a branch that has not been tried: %v", err)
		}
		if acts := b.reaches(untried, saga.Trying).Acts; len(acts) != 0 {
			t.Errorf("refused, and recorded: %+v", acts)
		}
		if _, err := b.orch.Decide(ctx, untried, saga.Cancelled, alice); !errors.Is(err, saga.ErrInvalid) {
			t.Errorf("a decision that is none: %v", err)
		}
		b.books(db, 1, 90, 0, 10)
	})
}

// An operator can cancel what hangs undecided in a living process, and that
// process yields.
func TestDecideWhileExecuting(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick)
	gate := b.away.hold(barrier.Try)
	gid := sagatest.GID()
	answered := make(chan error)
	go func() {
		_, err := tcc.Execute(t.Context(), b.orch, gid, holdAway{1, 30})
		answered <- err
	}()
	sagatest.Eventually(t, "Try is called", func() bool { return b.away.called(barrier.Try) > 0 })
	if _, err := b.orch.Decide(t.Context(), gid, saga.Confirming, alice); !errors.Is(err, saga.ErrNotOpen) {
		t.Errorf("Confirm of one with a plan: %v", err)
	}
	_, err := b.orch.Decide(t.Context(), gid, saga.Cancelling, alice)
	sagatest.Must(t, err)
	close(gate)
	if err := <-answered; !errors.Is(err, saga.ErrCancelled) {
		t.Errorf("Execute: %v", err)
	}
	b.reaches(gid, saga.Cancelled)
	b.books(b.other, 1, 100, 0, 0)
}

func TestOperatorsNeedWhoAndWhy(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), quick)
	tx, err := tcc.Begin(t.Context(), b.orch, sagatest.GID())
	sagatest.Must(t, err)
	for name, by := range map[string]saga.Operator{
		"nobody":    {Why: "because"},
		"no reason": {Who: "alice"},
		"long who":  {Who: strings.Repeat("x", 129), Why: "because"},
		"long why":  {Who: "alice", Why: strings.Repeat("ü", 1025)},
		"not text":  {Who: "alice", Why: "\xff"},
		"zero byte": {Who: "a\x00", Why: "because"},
	} {
		acts := map[string]error{
			"Retry":      b.orch.Retry(t.Context(), tx.GID(), by),
			"Pause":      b.orch.Pause(t.Context(), tx.GID(), by),
			"Resume":     b.orch.Resume(t.Context(), tx.GID(), by),
			"PauseKind":  b.orch.PauseKind(t.Context(), "credit.hold", by),
			"ResumeKind": b.orch.ResumeKind(t.Context(), "credit.hold", by),
		}
		_, acts["Decide"] = b.orch.Decide(t.Context(), tx.GID(), saga.Cancelling, by)
		for act, err := range acts {
			if !errors.Is(err, saga.ErrInvalid) {
				t.Errorf("%s, %s: %v", name, act, err)
			}
		}
	}
	if err := b.orch.Retry(t.Context(), tx.GID(), alice); !errors.Is(err, saga.ErrRefused) {
		t.Errorf("Retry of an undecided one: %v", err)
	}
	if err := b.orch.Pause(t.Context(), "nobody-knows", alice); !errors.Is(err, saga.ErrNotFound) {
		t.Errorf("Pause of none: %v", err)
	}
	if err := b.orch.PauseKind(t.Context(), "no kind", alice); !errors.Is(err, saga.ErrInvalid) {
		t.Errorf("PauseKind of none: %v", err)
	}
	if found := b.reaches(tx.GID(), saga.Trying); len(found.Acts) != 0 || !found.PausedAt.IsZero() {
		t.Errorf("something was written: %+v", found)
	}
}
