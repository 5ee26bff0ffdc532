package barrierrows

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

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
	return insert(ctx, tx, statements[d].tryBatch(size), slices.Concat(tried, confirmed))
}

// insert writes the rows of requests with a query. If a branch has a row, it returns ErrNotAll.
func insert(ctx context.Context, tx *gorm.DB, query string, requests []barrier.Request) error {
	arguments := make([]any, 0, 5*len(requests))
	for _, r := range requests {
		arguments = append(arguments, r.GID, r.BranchID, callerName(r.Caller), r.Kind, barrier.Digest(r.Input))
	}
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, query, arguments...); err != nil {
		if local.Duplicate(err) {
			return ErrNotAll
		}
		return fmt.Errorf("%s %d branches: %w", requests[0].Op, len(requests), err)
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
	return allOf(size.branches*size.gids, result, err)
}

// Finding is what the barrier row of a branch says to a Confirm or Cancel of it.
type Finding int

// The findings.
const (
	Missing Finding = iota // there is no row
	Tried                  // the branch is tried, and its caller, kind and input match
	Other                  // the barrier turns the call away
)

// LookBatch locks and reads the rows of requests that have the same branch id.
func LookBatch(ctx context.Context, tx *gorm.DB, requests []barrier.Request) (found []Finding, err error) {
	d, err := dialect.Of(tx)
	if err != nil {
		return nil, err
	}
	arguments, indexOf := []any{requests[0].Key.BranchID}, make(map[string]int, len(requests))
	for i, r := range requests {
		arguments = append(arguments, r.Key.GID)
		indexOf[r.Key.GID] = i
	}
	rows, err := tx.Statement.ConnPool.QueryContext(ctx, statements[d].lookBatch(len(requests)), arguments...)
	if err != nil {
		return nil, fmt.Errorf("read %d barrier rows: %w", len(requests), err)
	}
	defer rows.Close()
	found = make([]Finding, len(requests))
	for rows.Next() {
		var r barrier.Row
		if err := rows.Scan(&r.GID, &r.State, &r.Caller, &r.Kind, &r.Input); err != nil {
			return nil, fmt.Errorf("read %d barrier rows: %w", len(requests), err)
		}
		i, asked := indexOf[r.GID]
		switch {
		case !asked: // MySQL compares without regard to case
		case r.State == barrier.StateTried && r.Matches(requests[i]):
			found[i] = Tried
		default:
			found[i] = Other
		}
	}
	return found, rows.Err()
}

// ConfirmMatching makes the Confirms of requests that have the same branch id, kind and caller,
// in one statement. If a verdict is not Run, or a row does not know its input, it returns
// ErrNotAll: LookBatch then says which one it is.
func ConfirmMatching(ctx context.Context, tx *gorm.DB, requests []barrier.Request) error {
	d, err := dialect.Of(tx)
	if err != nil {
		return err
	}
	first := requests[0]
	arguments := make([]any, 0, 3+3*len(requests))
	arguments = append(arguments, callerName(first.Caller), first.Kind, first.BranchID)
	for _, r := range requests {
		arguments = append(arguments, r.GID)
	}
	for _, r := range requests {
		arguments = append(arguments, r.GID, barrier.Digest(r.Input))
	}
	result, err := tx.Statement.ConnPool.ExecContext(ctx, statements[d].confirmMatching(len(requests)), arguments...)
	return allOf(len(requests), result, err)
}

// allOf returns ErrNotAll if a statement has not changed n rows.
func allOf(n int, result sql.Result, err error) error {
	if err != nil {
		return fmt.Errorf("end %d branches: %w", n, err)
	}
	if changed, err := result.RowsAffected(); err != nil || changed != int64(n) {
		return errors.Join(ErrNotAll, err)
	}
	return nil
}

// EndBatch makes the Confirms, or the Cancels, of branches that LookBatch has found tried, in
// one statement.
func EndBatch(ctx context.Context, tx *gorm.DB, op barrier.Op, branchID string, gids []string) error {
	d, err := dialect.Of(tx)
	if err != nil {
		return err
	}
	query := statements[d].confirmTried
	if op == barrier.Cancel {
		query = statements[d].cancelTried
	}
	arguments := append([]any{branchID}, anys(gids)...)
	result, err := tx.Statement.ConnPool.ExecContext(ctx, query(len(gids)), arguments...)
	return allOf(len(gids), result, err)
}

// SuspendBatch makes the Cancels of branches that have no row, in one statement. If a branch
// has a row by now, it returns ErrNotAll.
func SuspendBatch(ctx context.Context, tx *gorm.DB, requests []barrier.Request) error {
	d, err := dialect.Of(tx)
	if err != nil {
		return err
	}
	return insert(ctx, tx, statements[d].suspendBatch(len(requests)), requests)
}

// Untry deletes the rows of branches with the same id that this local transaction has tried:
// their Trys have failed, and had no effect.
func Untry(ctx context.Context, tx *gorm.DB, branchID string, gids []string) error {
	d, err := dialect.Of(tx)
	if err != nil {
		return err
	}
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, statements[d].untry(len(gids)), append([]any{branchID}, anys(gids)...)...); err != nil {
		return fmt.Errorf("remove %d barrier rows: %w", len(gids), err)
	}
	return nil
}
