package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// judging is rejecting, and also tries many at once.
func judging(kind string) spec {
	one := rejecting(kind)
	one.WorkBatch = func(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []saga.BatchCall) (failures []error, err error) {
		failures = make([]error, len(calls))
		for i, c := range calls {
			failures[i] = one.Work(ctx, tx, c.Call)
		}
		return failures, nil
	}
	return one
}

// tryAll adds a branch to each of several open transactions at the same time.
func tryAll(t *testing.T, engine saga.Engine, branchID, kind string, gids []string) []error {
	t.Helper()
	failures := make([]error, len(gids))
	var callers sync.WaitGroup
	for i, gid := range gids {
		callers.Go(func() { failures[i] = engine.Try(t.Context(), gid, branchID, saga.Step{Kind: kind}) })
	}
	callers.Wait()
	return failures
}

// Trys of resident branches that are added to open transactions at the same time need one
// commit, and a number of statements that does not grow with them.
func TestTriesOfOpenTransactionsShareACommit(t *testing.T) {
	t.Parallel()
	const n = 10
	for _, branch := range []spec{rejecting("plain"), judging("bulk")} {
		db, loss := sqltest.OpenLossy(t)
		engine := sagatest.Open(t, db, embedded.Config{Lease: time.Hour, Retention: embedded.Forever}) // does nothing in the background
		branch.Encode = encode
		sagatest.Must(t, register(engine, branch))
		var gids []string
		for i := range n {
			gids = append(gids, fmt.Sprint("g", i))
			sagatest.Must(t, engine.Begin(t.Context(), saga.Opening{GID: gids[i]}))
		}
		for _, id := range []string{"01", "02"} {
			engine.GatherTries(branch.Kind, id, n)
			statements, before := loss.Traffic()
			sagatest.Must(t, errors.Join(tryAll(t, engine, id, branch.Kind, gids)...))
			made, after := loss.Traffic()
			if after-before != 1 || made-statements > 10 {
				t.Errorf("%s: %d commits and %d statements for the Trys of %d transactions", branch.Kind, after-before, made-statements, n)
			}
		}
		for _, gid := range gids {
			_, err := engine.Confirm(t.Context(), gid, saga.Options{})
			sagatest.Must(t, err)
			found, err := engine.Lookup(t.Context(), gid)
			sagatest.Must(t, err)
			if found.State != saga.Confirmed || len(found.Branches) != 2 || found.Branches[1].Barrier == nil || found.Branches[1].Barrier.State != barrier.StateConfirmed {
				t.Errorf("%+v", found)
			}
		}
	}
}

// Each Try in a batch has the answer that it has alone, and holds up no other.
func TestTriesOfOpenTransactionsInABatch(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, branch := range []spec{rejecting("plain"), judging("bulk")} {
			engine := opened(t, db, embedded.Config{Lease: time.Hour, Retention: embedded.Forever, MaxBytes: 100, MaxPayload: 100}, branch)
			ctx := t.Context()
			for round := range 2 { // after the first one it is known that there are rejections
				name := func(gid string) string { return fmt.Sprint(branch.Kind, round, gid) }
				gids := []string{"a", "b", "no", "cancelled", "tried", "mismatch", "unknown", "full", "c", "late", "foreign"}
				for i, gid := range gids {
					gids[i] = name(gid)
					opening := saga.Opening{GID: gids[i], Pattern: "tcc"}
					switch gid {
					case "unknown":
						continue
					case "foreign":
						opening.Pattern = "other"
					}
					sagatest.Must(t, engine.Begin(ctx, opening))
				}
				within := saga.Engine(engine)
				if round == 1 {
					within = engine.Within("tcc")
				}
				_, err := engine.Cancel(ctx, name("cancelled"), "on purpose")
				sagatest.Must(t, err)
				sagatest.Must(t, engine.Try(ctx, name("tried"), "01", saga.Step{Kind: branch.Kind}))
				sagatest.Must(t, register(engine, spec{Kind: name("else"), Work: rejecting("").Work, Encode: encode}))
				sagatest.Must(t, engine.Try(ctx, name("mismatch"), "01", saga.Step{Kind: name("else")}))
				sagatest.Must(t, db.Exec("UPDATE saga_transactions SET deadline_at = created_at WHERE gid = ?", name("late")).Error)
				for i := range 50 {
					sagatest.Must(t, engine.Try(ctx, name("full"), fmt.Sprint("x", i), saga.Step{Kind: branch.Kind}))
				}
				engine.GatherTries(branch.Kind, "01", len(gids))
				for i, err := range tryAll(t, within, "01", branch.Kind, gids) {
					var rejection *saga.Rejection
					var want error
					switch gid := strings.TrimPrefix(gids[i], name("")); gid {
					case "no":
						if !errors.As(err, &rejection) || !strings.Contains(err.Error(), branch.Kind+": no") {
							t.Errorf("%s: %v", gid, err)
						}
						continue
					case "cancelled", "late":
						want = saga.ErrNotOpen
					case "mismatch":
						want = saga.ErrMismatch
					case "foreign":
						if round == 1 {
							want = saga.ErrNotFound
						}
					case "unknown":
						want = saga.ErrNotFound
					case "full":
						want = saga.ErrInvalid
					}
					if !errors.Is(err, want) || want == nil && err != nil {
						t.Errorf("%s: %v, want %v", gids[i], err, want)
					}
				}
				rows := map[string]int{"a": 1, "b": 1, "c": 1, "tried": 1, "mismatch": 1, "full": 50, "foreign": 1 - round}
				for _, gid := range gids {
					want := rows[strings.TrimPrefix(gid, name(""))]
					if logged, barred := count(t, db, "saga_branches", gid), count(t, db, "saga_barrier", gid); logged != want || barred != want {
						t.Errorf("%s: %d branches in the log and %d barrier rows, want %d", gid, logged, barred, want)
					}
				}
				for _, gid := range []string{"a", "b", "c", "no", "tried"} {
					outcome, err := within.Confirm(ctx, name(gid), saga.Options{})
					sagatest.Must(t, err)
					if outcome.State != saga.Confirmed && ends(t, engine, name(gid)) != saga.Confirmed {
						t.Errorf("%s: %+v", gid, outcome)
					}
				}
			}
			sagatest.Must(t, engine.Stop(ctx))
		}
	})
}

// The same branch of the same transaction, tried twice in one batch, is tried once.
func TestTheSameTryTwiceInABatch(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		calls := 0
		branch := spec{Kind: "counted", Work: func(_ context.Context, tx *gorm.DB, call saga.Call) error {
			if call.Op == barrier.Try {
				calls++
			}
			return nil
		}}
		engine := opened(t, db, embedded.Config{Lease: time.Hour, Retention: embedded.Forever}, branch)
		for _, gid := range []string{"g", "h"} {
			sagatest.Must(t, engine.Begin(t.Context(), saga.Opening{GID: gid}))
		}
		engine.GatherTries("counted", "01", 3)
		sagatest.Must(t, errors.Join(tryAll(t, engine, "01", "counted", []string{"g", "h", "g"})...))
		if count(t, db, "saga_branches", "g") != 1 || count(t, db, "saga_barrier", "g") != 1 || calls < 2 {
			t.Errorf("%d calls", calls)
		}
	})
}

// A COMMIT of shared Trys that is not answered is made certain, whether it was made or not.
func TestUnansweredTriesOfOpenTransactions(t *testing.T) {
	t.Parallel()
	for _, committed := range []bool{true, false} {
		db, loss := sqltest.OpenLossy(t)
		engine := opened(t, db, embedded.Config{Lease: time.Hour, Poll: time.Hour, Retention: embedded.Forever}, rejecting("plain"))
		gids := []string{"g", "h", "i"}
		for _, gid := range gids {
			sagatest.Must(t, engine.Begin(t.Context(), saga.Opening{GID: gid}))
		}
		engine.GatherTries("plain", "01", len(gids))
		loss.Arm(1, committed)
		sagatest.Must(t, errors.Join(tryAll(t, engine, "01", "plain", gids)...))
		loss.Arm(0, false)
		if loss.Count() != 1 {
			t.Errorf("%d COMMITs were not answered", loss.Count())
		}
		for _, gid := range gids {
			if count(t, db, "saga_branches", gid) != 1 || count(t, db, "saga_barrier", gid) != 1 {
				t.Errorf("made: %v: %s has not one branch", committed, gid)
			}
			_, err := engine.Confirm(t.Context(), gid, saga.Options{})
			sagatest.Must(t, err)
		}
	}
}
