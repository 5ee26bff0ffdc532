package decide_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/decide"
	"github.com/tccsaga/tccsaga/saga/internal/test/parts"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// world has a Decider and branches: "a" and "b" in the log's database, "external", and
// "remote".
type world struct {
	*parts.Kit
	parts.Script
	*decide.Decider
	t testing.TB
}

func newWorld(t testing.TB, db *gorm.DB, maxBatch int) *world {
	t.Helper()
	w := &world{Kit: parts.New(t, db), t: t}
	w.Decider = decide.New(decide.Parts{DB: db, Log: w.Kit.Log, Reader: w.Kit.Reader, Calls: w.Kit.Calls, Shared: w.Kit.Shared(maxBatch), Commits: w.Kit.Commits(maxBatch),
		Life: w.Kit.Life, Warn: w.Kit.Warn, Instance: parts.Instance, Lease: time.Minute,
		Paused: w.Kit.Paused, Logger: w.Kit.Logger, MinBackoff: time.Second, MaxBackoff: time.Minute})
	ok(t, db.Exec("CREATE TABLE IF NOT EXISTS worked (gid VARCHAR(128), branch_id VARCHAR(32), op VARCHAR(16))").Error)
	for _, kind := range []string{"a", "b"} {
		w.Register(saga.NewLocal(kind, parts.Encode, saga.Local{Work: w.work}))
	}
	w.External("external", &w.Script)
	w.Remote("remote", &w.Script)
	return w
}

// work leaves a row, also if the call fails.
func (w *world) work(ctx context.Context, tx *gorm.DB, call saga.Call) error {
	if err := tx.Exec("INSERT INTO worked VALUES (?, ?, ?)", call.GID, call.BranchID, string(call.Op)).Error; err != nil {
		return err
	}
	return w.Work(ctx, tx, call)
}

// expectWork expects that each call of a transaction with a barrier row has worked once.
func (w *world) expectWork(gid, rows string) {
	w.t.Helper()
	var worked []struct {
		BranchID, Op string
		N            int
	}
	ok(w.t, w.Kit.DB.Raw("SELECT branch_id, op, COUNT(*) AS n FROM worked WHERE gid = ? GROUP BY branch_id, op", gid).Scan(&worked).Error)
	for _, one := range worked {
		if one.N != 1 || !strings.Contains(rows, one.BranchID+" ") || one.Op == "confirm" && !strings.Contains(rows, one.BranchID+" confirmed") {
			w.t.Errorf("%s: %s of %s has worked %d times, and the barrier has %s", gid, one.Op, one.BranchID, one.N, rows)
		}
	}
}

// run decides a new transaction.
func (w *world) run(gid string, kinds ...string) (*txn.Txn, decide.Decision) {
	w.t.Helper()
	t := w.Prepare(gid, kinds...)
	return t, w.Decide(w.t.Context(), t, w.Start(t), nil)
}

// batch decides transactions of the same kinds in one batch. The decisions are in the order
// of the gids.
func (w *world) batch(gids []string, kinds ...string) []decide.Decision {
	w.t.Helper()
	transactions := make([]*txn.Txn, len(gids))
	for i, gid := range gids {
		transactions[i] = w.Prepare(gid, kinds...)
	}
	w.gather(transactions[0], len(gids))
	decisions := make([]decide.Decision, len(gids))
	done := make(chan struct{})
	for i, t := range transactions {
		go func() {
			decisions[i] = w.Decide(w.t.Context(), t, w.Start(t), nil)
			done <- struct{}{}
		}()
	}
	for range gids {
		<-done
	}
	return decisions
}

// gather delays the next batch of first local transactions of plans like t until it has n members.
func (w *world) gather(t *txn.Txn, n int) {
	w.t.Helper()
	first, prefix := t.Steps, ""
	for i, s := range t.Steps {
		if !s.Branch.TriesInLog() {
			first, prefix = t.Steps[:i], "begin\n"
			break
		}
	}
	key, shared := w.Decider.Shared.Key(first)
	if !shared {
		w.t.Fatal("they share no commit")
	}
	w.Gather(prefix+key, n)
}

// expect compares a transaction with its state in the log, its barrier rows in the log's
// database, and the branches that are done.
func (w *world) expect(gid string, state saga.State, rows, done string) {
	w.t.Helper()
	if got := w.State(gid); got != state {
		w.t.Errorf("%s is %q, want %q", gid, got, state)
	}
	if got := w.Rows(w.Kit.DB, gid); got != rows {
		w.t.Errorf("%s has the barrier rows %q, want %q", gid, got, rows)
	}
	if got := w.Done(gid); got != done {
		w.t.Errorf("%s has %q done, want %q", gid, got, done)
	}
	w.expectWork(gid, rows)
}

func (w *world) made(want string) {
	w.t.Helper()
	if got := w.Made(); got != want {
		w.t.Errorf("made %q, want %q", got, want)
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
