package embedded_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// A member of a batch that is refused leaves no barrier row.
func TestARefusedMemberLeavesNoBarrierRow(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		p := newPots(t, db, embedded.Config{})
		p.orch.GatherDecisions(p.plan("x", take{}, "bulk"), 3)
		var callers sync.WaitGroup
		for i, pieces := range []int{1, 1 << 30, 1} {
			callers.Go(func() {
				_, err := p.execute(fmt.Sprint("m-", i), take{Pot: i + 1, N: pieces}, "bulk")
				if errors.Is(err, saga.ErrCancelled) != (pieces > 1) {
					t.Errorf("%d pieces: %v", pieces, err)
				}
			})
		}
		callers.Wait()
		var gids []string
		sagatest.Must(t, db.Raw("SELECT gid FROM saga_barrier ORDER BY gid").Scan(&gids).Error)
		if fmt.Sprint(gids) != "[m-0 m-2]" {
			t.Errorf("barrier rows of %v", gids)
		}
	})
}
