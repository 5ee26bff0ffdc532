package drive_test

import (
	"context"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/drive"
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
	"github.com/tccsaga/tccsaga/saga/internal/test/parts"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

const (
	minBackoff = time.Hour
	maxBackoff = 5 * time.Hour
)

// world has a Driver and branches: "a" and "b" in the log's database, "external", and
// "remote".
type world struct {
	*parts.Kit
	parts.Script
	*drive.Driver
	t      testing.TB
	wakes  []time.Duration
	alarms []string // gids with why they were raised to attention
}

func newWorld(t testing.TB, db *gorm.DB) *world {
	t.Helper()
	w := &world{Kit: parts.New(t, db), t: t}
	w.Kit.Limits.Failures = 3
	w.Driver = drive.New(drive.Parts{DB: db, Log: w.Kit.Log, LogID: w.Kit.LogID, Reader: w.Kit.Reader, Calls: w.Kit.Calls, Shared: w.Kit.Shared(10), Commits: w.Kit.Commits(10),
		Life: w.Kit.Life, Paused: w.Kit.Paused, InFlight: w.Kit.InFlight, Logger: w.Kit.Logger, Instance: parts.Instance,
		CallTimeout: parts.CallTimeout, MinBackoff: minBackoff, MaxBackoff: maxBackoff, AttentionAttempts: 3, AttentionAge: time.Hour,
		Again: func(t *txn.Txn, _ bool) { w.wakes = append(w.wakes, t.Next) },
		Alarm: func(t *txn.Txn) { w.alarms = append(w.alarms, t.GID+": "+t.Attention) }})
	w.Local("a", &w.Script)
	w.Local("b", &w.Script)
	w.External("external", &w.Script)
	w.Remote("remote", &w.Script)
	return w
}

// round drives a transaction once. Each pause has its greatest length.
func (w *world) round(t *txn.Txn) saga.State { return w.roundWithin(w.t.Context(), t) }

func (w *world) roundWithin(ctx context.Context, t *txn.Txn) saga.State {
	w.t.Helper()
	w.wakes = nil
	ctx = jitter.With(ctx, func(longest time.Duration) time.Duration { return longest })
	entry, started := w.Kit.InFlight.Start(t.GID)
	if !started {
		w.t.Fatalf("%s is in flight", t.GID)
	}
	state := w.Drive(ctx, t, entry)
	if w.Kit.InFlight.Has(t.GID) {
		w.t.Errorf("%s is in flight after its round", t.GID)
	}
	return state
}

// expect compares a transaction with its state in the log, its barrier rows in the log's
// database, and the branches that are marked done.
func (w *world) expect(gid string, state saga.State, rows, done string) {
	w.t.Helper()
	if r := w.Record(gid); r.State != string(state) || state.Finished() != r.DueAt.IsZero() || state.Finished() == r.FinishedAt.IsZero() {
		w.t.Errorf("%s is %+v, want %s", gid, r, state)
	}
	if got := w.Rows(w.Kit.DB, gid); got != rows {
		w.t.Errorf("%s has the barrier rows %q, want %q", gid, got, rows)
	}
	if got := w.Done(gid); got != done {
		w.t.Errorf("%s has %q done, want %q", gid, got, done)
	}
}

// expectDue expects that a transaction is due after a pause, and that recovery is woken then.
func (w *world) expectDue(t *txn.Txn, pause time.Duration) {
	w.t.Helper()
	due := w.Record(t.GID).DueAt
	if left := time.Until(due); t.Next != pause || left > pause+time.Minute || left < pause-time.Minute {
		w.t.Errorf("%s is due in %s by the driver, and in %s by the log, want %s", t.GID, t.Next, left, pause)
	}
	if len(w.wakes) != 1 || w.wakes[0] != pause {
		w.t.Errorf("recovery is woken after %v, want %s", w.wakes, pause)
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
