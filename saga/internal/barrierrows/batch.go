package barrierrows

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/dialect"
	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// ErrNotAll is returned if the verdict of a call in a batch is not Run. The caller rolls
// back and makes each call alone, to get its verdict.
var ErrNotAll = errors.New("the verdict of a call in the batch is not to run it")

// TryBatch makes the Trys of many branches in one statement. If a verdict is not Run, it
// returns ErrNotAll. It also makes the Confirms of the branches in confirmed, so that no
// other call comes between their Try and Confirm.
func TryBatch(ctx context.Context, tx *gorm.DB, tried, confirmed []barrier.Request) error {
	size := tryRows{len(tried), len(confirmed)}
	if size == (tryRows{}) {
		return nil
	}
	d, err := dialect.Of(tx)
	if err != nil {
		return err
	}
	arguments := make([]any, 0, 5*(size.tried+size.confirmed))
	for _, requests := range [][]barrier.Request{tried, confirmed} {
		for _, r := range requests {
			arguments = append(arguments, r.GID, r.BranchID, callerName(r.Caller), r.Kind, barrier.Digest(r.Input))
		}
	}
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, statements[d].tryBatch(size), arguments...); err != nil {
		if local.Duplicate(err) {
			return ErrNotAll
		}
		return fmt.Errorf("try %d branches: %w", size.tried+size.confirmed, err)
	}
	return nil
}

// ConfirmBatch makes the Confirms of many transactions of one caller in one statement.
// All transactions have branches with the same ids. If a verdict is not Run, it returns
// ErrNotAll. It does not compare kinds and inputs: an engine writes the rows in its own
// database in the same local transaction as the branches in its log.
func ConfirmBatch(ctx context.Context, tx *gorm.DB, caller string, branchIDs, gids []string) error {
	d, err := dialect.Of(tx)
	if err != nil {
		return err
	}
	size := confirmRows{len(branchIDs), len(gids)}
	arguments := make([]any, 0, 1+size.branches+size.gids)
	arguments = append(arguments, callerName(caller))
	for _, names := range [][]string{branchIDs, gids} {
		for _, name := range names {
			arguments = append(arguments, name)
		}
	}
	result, err := tx.Statement.ConnPool.ExecContext(ctx, statements[d].confirmBatch(size), arguments...)
	if err != nil {
		return fmt.Errorf("confirm %d branches: %w", size.branches*size.gids, err)
	}
	if n, err := result.RowsAffected(); err != nil || n != int64(size.branches*size.gids) {
		return errors.Join(ErrNotAll, err)
	}
	return nil
}

// TriedBatch locks and reads the rows of requests that have the same branch id. It
// reports for each request whether the verdict of a Confirm would be Run: the branch is
// tried, and its caller, kind and input match.
func TriedBatch(ctx context.Context, tx *gorm.DB, requests []barrier.Request) (tried []bool, err error) {
	d, err := dialect.Of(tx)
	if err != nil {
		return nil, err
	}
	arguments, indexOf := []any{requests[0].Key.BranchID}, make(map[string]int, len(requests))
	for i, r := range requests {
		arguments = append(arguments, r.Key.GID)
		indexOf[r.Key.GID] = i
	}
	rows, err := tx.Statement.ConnPool.QueryContext(ctx, statements[d].triedBatch(len(requests)), arguments...)
	if err != nil {
		return nil, fmt.Errorf("read %d barrier rows: %w", len(requests), err)
	}
	defer rows.Close()
	tried = make([]bool, len(requests))
	for rows.Next() {
		var r barrier.Row
		if err := rows.Scan(&r.GID, &r.State, &r.Caller, &r.Kind, &r.Input); err != nil {
			return nil, fmt.Errorf("read %d barrier rows: %w", len(requests), err)
		}
		if i, found := indexOf[r.GID]; found {
			tried[i] = r.State == barrier.StateTried && r.Matches(requests[i])
		}
	}
	return tried, rows.Err()
}
