package embedded

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/batch"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// joins adds branches to open transactions, in the local transactions that their Trys share. It
// is a [call.Log].
type joins struct {
	log     *txlog.Log
	builder *txn.Builder
}

// errJoinAlone says that a branch has to be added alone, which shows why.
var errJoinAlone = errors.New("the branch cannot be added in a batch")

func (j joins) Join(ctx context.Context, tx *gorm.DB, calls []saga.BatchCall) error {
	all := make([]txlog.Joining, len(calls))
	for i, c := range calls {
		all[i].Branch = txlog.Branch{GID: c.GID, ID: c.BranchID, Kind: c.Kind, Payload: string(c.Payload)}
	}
	unfit, err := j.log.JoinAll(ctx, tx, all, roomOf(j.builder))
	if err != nil {
		return err
	}
	for i, c := range calls {
		if i == unfit || !scopeOf(c.Context).has(all[i].Pattern) {
			return &batch.MemberError{Index: i, Err: errJoinAlone}
		}
	}
	return nil
}

func (j joins) Leave(ctx context.Context, tx *gorm.DB, branchID string, gids []string) error {
	return j.log.Leave(ctx, tx, branchID, gids)
}
