package txlog_test

import (
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// A transaction with a branch that decides is decided only as that branch says: then also after
// its deadline.
func TestDecisionByABranch(t *testing.T) {
	each(t, func(b bench) {
		for _, state := range []string{txlog.Confirming, txlog.Cancelling} {
			for _, role := range []string{txlog.RoleAction, txlog.RoleDecides} {
				for _, late := range []bool{false, true} {
					gid, deadline := state+"-"+role, time.Hour
					if late {
						gid, deadline = gid+"-late", -time.Second
					}
					b.want("begin", b.db.Transaction(func(tx *gorm.DB) error {
						return b.log.Insert(b.Context(), tx, txlog.Start{GID: gid, State: txlog.Trying, Deadline: deadline, Due: time.Hour,
							Branches: []txlog.Branch{{ID: "01", Kind: "k", Payload: "{}", Stage: 1, Role: role}}})
					}), nil)
					decide := func(byBranch bool) error {
						return b.db.Transaction(func(tx *gorm.DB) error {
							return b.log.Decide(b.Context(), tx, txlog.Decision{GID: gid, Epoch: 1, State: state, By: "test", Due: time.Hour, ByBranch: byBranch})
						})
					}
					if role == txlog.RoleDecides {
						b.want(gid+", by somebody else", decide(false), txlog.ErrStale)
						b.want(gid+", by the branch", decide(true), nil)
						b.want(gid+", again", decide(true), txlog.ErrStale)
						continue
					}
					var want error
					if late && state == txlog.Confirming {
						want = txlog.ErrStale
					}
					b.want(gid, decide(false), want)
				}
			}
		}
	})
}
