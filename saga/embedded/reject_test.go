package embedded_test

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
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// Rejections do not dissolve batches: those who are rejected, and the others, are
// written with the same COMMIT, whichever branch of the plan it is that rejects.
func TestRejectionsShareACommit(t *testing.T) {
	t.Parallel()
	const n = 20
	plans := map[string][]string{"first": {"plain", "other"}, "second": {"other", "plain"}, "bulk, first": {"bulk", "other"}, "bulk, second": {"other", "bulk"}}
	for name, kinds := range plans {
		for _, rejected := range []int{2, 10} {
			t.Run(fmt.Sprintf("%s/%d of %d", name, rejected, n), func(t *testing.T) {
				t.Parallel()
				db, loss := sqltest.OpenLossy(t)
				var soldOut sync.Map // the gids that are rejected
				inside := func(_ context.Context, _ *gorm.DB, call saga.Call) error {
					if _, is := soldOut.Load(call.GID); is && call.Op == barrier.Try {
						return saga.Reject(errors.New("sold out"))
					}
					return nil
				}
				together := func(ctx context.Context, tx *gorm.DB, _ barrier.Op, calls []saga.BatchCall) ([]error, error) {
					failures := make([]error, len(calls))
					for i, call := range calls {
						failures[i] = inside(ctx, tx, call.Call)
					}
					return failures, nil
				}
				nothing := func(context.Context, *gorm.DB, saga.Call) error { return nil }
				orch := opened(t, db, embedded.Config{Lease: time.Hour, Poll: time.Hour, Retention: embedded.Forever}, spec{Kind: "plain", Work: inside},
					spec{Kind: "bulk", Work: inside, WorkBatch: together}, spec{Kind: "other", Work: nothing})
				commits, statements := 0, 0
				for round := range 2 { // after the first one it is known that there are rejections
					orch.GatherDecisions(planOf("x", kinds...), n)
					before, commitsBefore := loss.Traffic()
					var callers sync.WaitGroup
					for i := range n {
						callers.Go(func() {
							gid, want := fmt.Sprintf("%d-%d", round, i), saga.Confirmed
							if i%(n/rejected) == 0 {
								want = saga.Cancelled
								soldOut.Store(gid, true)
							}
							outcome, err := orch.Execute(t.Context(), planOf(gid, kinds...))
							if outcome.State != want {
								t.Errorf("%s: %+v, %v", gid, outcome, err)
							}
						})
					}
					callers.Wait()
					statements, commits = loss.Traffic()
					statements, commits = statements-before, commits-commitsBefore
				}
				t.Logf("%d commits, %d statements", commits, statements)
				if commits > 1 {
					t.Errorf("%d commits for a batch of %d", commits, n)
				}
			})
		}
	}
}
