package embedded

import (
	"context"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// joins adds branches to open transactions, in the local transactions that their Trys share. It
// is a [call.Log].
type joins struct {
	log     *txlog.Log
	builder *txn.Builder
}

func (j joins) Join(ctx context.Context, tx *gorm.DB, calls []saga.BatchCall) (unfit int, err error) {
	all := make([]txlog.Joining, len(calls))
	for i, c := range calls {
		all[i].Branch = txlog.Branch{GID: c.GID, ID: c.BranchID, Kind: c.Kind, Payload: string(c.Payload)}
	}
	if unfit, err = j.log.JoinAll(ctx, tx, all, roomOf(j.builder)); err != nil || unfit >= 0 {
		return unfit, err
	}
	for i, c := range calls {
		if !scopeOf(c.Context).has(all[i].Pattern) {
			return i, nil
		}
	}
	return -1, nil
}

func (j joins) Leave(ctx context.Context, tx *gorm.DB, branchID string, gids []string) error {
	return j.log.Leave(ctx, tx, branchID, gids)
}
