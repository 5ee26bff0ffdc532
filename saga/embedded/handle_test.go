package embedded_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/participant"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// A branch's own handle on the engine's pool is the one that its methods, its bulk
// methods and its Clean get.
func TestABranchsOwnHandle(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		var creates atomic.Int64
		own := ownHandle(t, db, &creates)
		inside := func(_ context.Context, tx *gorm.DB, call saga.Call) error {
			return tx.Create(&Thing{GID: call.GID, Op: string(call.Op)}).Error
		}
		branch := spec{Kind: "own", Database: own, Work: inside, Encode: encode,
			Clean: func(_ context.Context, tx *gorm.DB, gids []string) error {
				return tx.Where("gid IN ?", gids).Delete(&Thing{}).Error
			}}
		bulk := branch
		bulk.Kind = "bulk"
		bulk.WorkBatch = func(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []saga.BatchCall) ([]error, error) {
			var things []Thing
			for _, call := range calls {
				things = append(things, Thing{GID: call.GID, Op: string(op)})
			}
			return nil, tx.Create(&things).Error
		}
		orch := opened(t, db, embedded.Config{CallTimeout: 500 * time.Millisecond, Retention: time.Second}, branch, bulk)
		host, err := participant.New(t.Context(), db, participant.Config{CallTimeout: 500 * time.Millisecond})
		sagatest.Must(t, err)
		sagatest.Must(t, register(host, branch))
		things := func(gid string) (n int64) {
			if err := own.Session(&gorm.Session{}).Model(&Thing{}).Where("gid = ? AND tenant = 'acme'", gid).Count(&n).Error; err != nil {
				t.Error(err)
			}
			return n
		}
		check := func(gid string) {
			t.Helper()
			if n := things(gid); n != 2 {
				t.Errorf("%s has %d rows in the branch's own table, want 2", gid, n)
			}
		}
		plan := planOf("alone", "own")
		plan.Timeout = time.Hour // it is not cleaned
		_, err = orch.Execute(t.Context(), plan)
		sagatest.Must(t, err)
		check("alone")
		for _, kind := range []string{"own", "bulk"} {
			orch.GatherDecisions(planOf("x", kind), 6)
			var callers sync.WaitGroup
			for i := range 6 {
				callers.Go(func() {
					plan := planOf(fmt.Sprintf("%s-%d", kind, i), kind)
					plan.Timeout = time.Hour
					_, err := orch.Execute(t.Context(), plan)
					if err != nil {
						t.Error(err)
					}
					check(plan.GID)
				})
			}
			callers.Wait()
		}
		for _, gid := range []string{"open", "hosted"} {
			sagatest.Must(t, orch.Begin(t.Context(), saga.Opening{GID: "open-" + gid, Timeout: time.Hour}))
		}
		sagatest.Must(t, orch.Try(t.Context(), "open-open", "01", saga.Step{Kind: "own"}))
		_, err = orch.Cancel(t.Context(), "open-open", "on purpose")
		sagatest.Must(t, err)
		ends(t, orch, "open-open")
		check("open-open")
		for _, op := range []barrier.Op{barrier.Try, barrier.Confirm} {
			call := saga.Call{GID: "hosted", BranchID: "01", Kind: "own", Op: op, Payload: []byte("{}")}
			sagatest.Must(t, host.Call(t.Context(), call))
		}
		check("hosted")
		sagatest.Eventually(t, "the participant cleans", func() bool {
			_, err := host.Clean(t.Context(), time.Second)
			sagatest.Must(t, err)
			return things("hosted") == 0
		})

		plan = planOf("old", "own", "bulk")
		plan.Timeout = time.Second
		outcome, err := orch.Execute(t.Context(), plan)
		if outcome.State != saga.Confirmed {
			t.Fatal(outcome, err)
		}
		sagatest.Eventually(t, "the engine cleans", func() bool { return things("old") == 0 })
		check("alone")
	})
}
