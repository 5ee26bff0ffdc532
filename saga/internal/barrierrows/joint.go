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

// ErrNotAll is wrapped when the calls of many branches are not all to be run.
// The caller rolls back and makes each call by itself, which says more.
var ErrNotAll = errors.New("not every call is to be run")

// TryAll is Call with Try for many branches, in one statement, if the verdict
// of all is Run; else it returns an error. For those in confirmed it is also
// Call with Confirm, so that no other call can come in between.
func TryAll(ctx context.Context, tx *gorm.DB, tried, confirmed []barrier.Request) error {
	size := tries{len(tried), len(confirmed)}
	if size == (tries{}) {
		return nil
	}
	d, err := dialect.Of(tx)
	if err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	arguments := make([]any, 0, 5*(size.tried+size.confirmed))
	for _, requests := range [][]barrier.Request{tried, confirmed} {
		for _, r := range requests {
			arguments = append(arguments, r.GID, r.BranchID, callerName(r.Caller), r.Kind, barrier.Digest(r.Input))
		}
	}
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, statements[d].tryAll(size), arguments...); err != nil {
		if local.Duplicate(err) {
			return fmt.Errorf("barrier: %w", ErrNotAll)
		}
		return fmt.Errorf("barrier: trying %d branches: %w", size.tried+size.confirmed, err)
	}
	return nil
}

// ConfirmAll is Call with Confirm for the branches of the same ids of many
// transactions of one caller, if the verdict of all is Run; else it returns an
// error. It does not compare kinds and inputs: the rows of an engine in its own
// database are written in one local transaction with the branches that its log
// names.
func ConfirmAll(ctx context.Context, tx *gorm.DB, caller string, branchIDs, gids []string) error {
	d, err := dialect.Of(tx)
	if err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	size := confirms{len(branchIDs), len(gids)}
	arguments := make([]any, 0, 1+size.branches+size.gids)
	arguments = append(arguments, callerName(caller))
	for _, names := range [][]string{branchIDs, gids} {
		for _, name := range names {
			arguments = append(arguments, name)
		}
	}
	result, err := tx.Statement.ConnPool.ExecContext(ctx, statements[d].confirmAll(size), arguments...)
	if err != nil {
		return fmt.Errorf("barrier: confirming %d branches: %w", size.branches*size.gids, err)
	}
	if n, err := result.RowsAffected(); err != nil || n != int64(size.branches*size.gids) {
		return fmt.Errorf("barrier: %w", errors.Join(ErrNotAll, err))
	}
	return nil
}

// TriedAll reads, with a lock, the rows of requests that have the same branch id,
// and says for each whether its branch is tried, by the same caller and with the
// same kind and input, so that a Confirm would run.
func TriedAll(ctx context.Context, tx *gorm.DB, requests []barrier.Request) (tried []bool, err error) {
	d, err := dialect.Of(tx)
	if err != nil {
		return nil, fmt.Errorf("barrier: %w", err)
	}
	arguments, at := []any{requests[0].Key.BranchID}, make(map[string]int, len(requests))
	for i, r := range requests {
		arguments = append(arguments, r.Key.GID)
		at[r.Key.GID] = i
	}
	rows, err := tx.Statement.ConnPool.QueryContext(ctx, statements[d].triedAll(len(requests)), arguments...)
	if err != nil {
		return nil, fmt.Errorf("barrier: reading %d rows: %w", len(requests), err)
	}
	defer rows.Close()
	tried = make([]bool, len(requests))
	for rows.Next() {
		var r barrier.Row
		if err := rows.Scan(&r.GID, &r.State, &r.Caller, &r.Kind, &r.Input); err != nil {
			return nil, fmt.Errorf("barrier: reading %d rows: %w", len(requests), err)
		}
		if i, asked := at[r.GID]; asked {
			tried[i] = r.State == barrier.StateTried && r.Matches(requests[i])
		}
	}
	return tried, rows.Err()
}
