package commit_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/commit"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/result"
	"github.com/tccsaga/tccsaga/saga/internal/test/parts"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

type world struct {
	*parts.Kit
	*commit.Writer
	t *testing.T
}

func newWorld(t *testing.T, db *gorm.DB) world {
	t.Helper()
	k := parts.New(t, db)
	k.Remote("away", &parts.Script{})
	return world{k, k.Commits(100), t}
}

// together writes all in one batch, and returns the errors.
func (w world) together(all ...commit.Write) []error {
	w.t.Helper()
	w.Gather(len(all))
	failures := make([]error, len(all))
	var running sync.WaitGroup
	for i, one := range all {
		running.Go(func() { failures[i] = w.Write(w.t.Context(), one) })
	}
	running.Wait()
	return failures
}

func (w world) begin(gid string) commit.Write {
	start := w.Start(w.Prepare(gid, "away"))
	return commit.Write{GID: gid, Begin: &start}
}

func confirm(gid string, epoch int64) commit.Write {
	return commit.Write{GID: gid, Confirm: &txlog.Decision{GID: gid, Epoch: epoch, State: txlog.Confirming, By: txlog.ByCaller, Owner: parts.Instance, Due: time.Minute},
		Results: []result.Result{{Key: barrier.Key{GID: gid, BranchID: "01"}, JSON: []byte(`"r"`)}}}
}

func finish(gid string, epoch int64) commit.Write { return commit.Write{GID: gid, Finish: epoch} }

func (w world) states(want map[string]saga.State) {
	w.t.Helper()
	for gid, state := range want {
		if got := w.State(gid); got != state {
			w.t.Errorf("%s is %q, want %q", gid, got, state)
		}
	}
}

// Begins, decisions and ends of different transactions share a commit.
func TestWritesShareACommit(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		want := map[string]saga.State{}
		var begins, then []commit.Write
		for i := range 10 {
			begins = append(begins, w.begin(fmt.Sprint("g", i)))
			then = append(then, confirm(fmt.Sprint("g", i), 1), w.begin(fmt.Sprint("h", i)))
			want[fmt.Sprint("g", i)], want[fmt.Sprint("h", i)] = saga.Confirming, saga.Trying
		}
		if err := errors.Join(w.together(begins...)...); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.together(then...)...); err != nil {
			t.Fatal(err)
		}
		w.states(want)
		var last []commit.Write
		for i := range 10 {
			last = append(last, finish(fmt.Sprint("g", i), 1), confirm(fmt.Sprint("h", i), 1))
			want[fmt.Sprint("g", i)], want[fmt.Sprint("h", i)] = saga.Confirmed, saga.Confirming
		}
		if err := errors.Join(w.together(last...)...); err != nil {
			t.Fatal(err)
		}
		w.states(want)
		var results int
		if err := db.Raw("SELECT COUNT(*) FROM saga_results").Scan(&results).Error; err != nil || results != 20 {
			t.Errorf("%d results, %v", results, err)
		}
	})
}

// Decisions about transactions that are read first need one commit and three statements: one reads
// the transactions, one their branches, and one decides.
func TestDecisionsThatReadShareStatements(t *testing.T) {
	t.Parallel()
	db, loss := sqltest.OpenLossy(t)
	w := newWorld(t, db)
	var begins, decisions []commit.Write
	for i := range 20 {
		gid := fmt.Sprint("g", i)
		begins = append(begins, w.begin(gid))
		decisions = append(decisions, commit.Write{GID: gid, Decide: func(_ context.Context, _ *gorm.DB, c txlog.Claimed) (txlog.Decision, bool, error) {
			if c.GID != gid || len(c.Branches) != 1 {
				t.Errorf("%s: %+v", gid, c)
			}
			return txlog.Decision{State: txlog.Confirming, By: txlog.ByCaller, Owner: parts.Instance, Due: time.Minute}, true, nil
		}})
	}
	if err := errors.Join(w.together(begins...)...); err != nil {
		t.Fatal(err)
	}
	statements, before := loss.Traffic()
	if err := errors.Join(w.together(decisions...)...); err != nil {
		t.Fatal(err)
	}
	if made, after := loss.Traffic(); after != before+1 || made != statements+3 {
		t.Errorf("%d commits and %d statements", after-before, made-statements)
	}
	for i := range 20 {
		w.states(map[string]saga.State{fmt.Sprint("g", i): saga.Confirming})
	}
}

// A batch is one commit.
func TestOneCommit(t *testing.T) {
	t.Parallel()
	db, loss := sqltest.OpenLossy(t)
	w := newWorld(t, db)
	var begins []commit.Write
	for i := range 20 {
		begins = append(begins, w.begin(fmt.Sprint("g", i)))
	}
	_, before := loss.Traffic()
	if err := errors.Join(w.together(begins...)...); err != nil {
		t.Fatal(err)
	}
	if _, after := loss.Traffic(); after != before+1 {
		t.Errorf("%d commits", after-before)
	}
}

// A member that fails gets its own error, and keeps no other from its commit.
func TestOneMemberFails(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newWorld(t, db)
		for _, gid := range []string{"used", "decided", "taken", "ready", "late"} {
			start := w.Start(w.Prepare(gid, "away"))
			if gid == "late" {
				start.Deadline = -time.Second
			}
			w.Insert(start)
		}
		for _, gid := range []string{"decided", "taken"} {
			if err := w.Write(t.Context(), confirm(gid, 1)); err != nil {
				t.Fatal(err)
			}
		}
		failure := errors.New("on purpose")
		failures := w.together(w.begin("a"), w.begin("used"), confirm("decided", 1), confirm("ready", 1), confirm("late", 1), finish("taken", 2), confirm("unknown", 1),
			commit.Write{GID: "m", More: func(context.Context, *gorm.DB) error { return failure }}, w.begin("b"), w.begin("c"))
		for i, want := range []error{nil, txlog.ErrExists, txlog.ErrStale, nil, txlog.ErrStale, txlog.ErrStale, txlog.ErrStale, failure, nil, nil} {
			if !errors.Is(failures[i], want) {
				t.Errorf("write %d: %v, want %v", i, failures[i], want)
			}
		}
		w.states(map[string]saga.State{"a": saga.Trying, "b": saga.Trying, "c": saga.Trying, "used": saga.Trying, "decided": saga.Confirming, "ready": saga.Confirming,
			"late": saga.Trying, "taken": saga.Confirming, "unknown": "", "m": ""})
	})
}

// A member whose caller is gone is not written, and gets the error of its context.
func TestACallerIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	w.Gather(2)
	gone, leave := context.WithCancel(t.Context())
	leave()
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.Write(gone, w.begin("gone")); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	running.Go(func() {
		if err := w.Write(t.Context(), w.begin("here")); err != nil {
			t.Error(err)
		}
	})
	running.Wait()
	w.states(map[string]saga.State{"gone": "", "here": saga.Trying})
}

// Nobody is told that a commit failed if it was not answered.
func TestUnansweredCommit(t *testing.T) {
	t.Parallel()
	for _, committed := range []bool{true, false} {
		db, loss := sqltest.OpenLossy(t)
		w := newWorld(t, db)
		loss.Arm(1, committed)
		for i, err := range w.together(w.begin("a"), w.begin("b")) {
			if !errors.Is(err, local.ErrCommitUnknown) {
				t.Errorf("committed: %v, write %d: %v", committed, i, err)
			}
		}
	}
}

// Without batches, everything is written alone.
func TestBatchesOfOne(t *testing.T) {
	t.Parallel()
	db, loss := sqltest.OpenLossy(t)
	w := newWorld(t, db)
	w.Writer = w.Commits(1)
	_, before := loss.Traffic()
	var running sync.WaitGroup
	for i := range 5 {
		running.Go(func() {
			if err := w.Write(t.Context(), w.begin(fmt.Sprint("g", i))); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	if _, after := loss.Traffic(); after != before+5 {
		t.Errorf("%d commits", after-before)
	}
}
