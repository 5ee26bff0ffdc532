package barrierrows

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// Mark writes into a barrier row that a call is about to be made which acts on something
// other than a database. The same local transaction has written the row. The name by is
// unique to the call. Until the timeout, or until [Unmark], the effect of the call may
// still happen. The mark keeps a Cancel from overtaking a Try.
func Mark(ctx context.Context, tx *gorm.DB, key barrier.Key, op barrier.Op, by string, timeout time.Duration) error {
	d, err := dialect.Of(tx)
	if err != nil {
		return err
	}
	_, err = tx.Statement.ConnPool.ExecContext(ctx, statements[d].mark, string(op), by, timeout.Microseconds(), key.GID, key.BranchID)
	if err != nil {
		return fmt.Errorf("mark a %s of %s as under way: %w", op, key, err)
	}
	return nil
}

// Unmark writes that the call with the name by has ended: its effect has happened, or
// never will.
func Unmark(ctx context.Context, tx *gorm.DB, key barrier.Key, by string) error {
	d, err := dialect.Of(tx)
	if err != nil {
		return err
	}
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, statements[d].unmark, key.GID, key.BranchID, by); err != nil {
		return fmt.Errorf("unmark a call of %s: %w", key, err)
	}
	return nil
}

// UnmarkTry writes that the Try with the name by has returned. It reports false, and
// changes nothing, if the branch is no longer tried, or if the mark has another name.
// If known is set, the effect of the Try has happened, or never will. Otherwise the Try
// may arrive late: a Cancel may run at once, but has to run once more later.
func UnmarkTry(ctx context.Context, tx *gorm.DB, key barrier.Key, by string, known bool) (unmarked bool, err error) {
	d, err := dialect.Of(tx)
	if err != nil {
		return false, err
	}
	query := statements[d].unmarkTry
	if !known {
		query = statements[d].giveUpTry
	}
	result, err := tx.Statement.ConnPool.ExecContext(ctx, query, key.GID, key.BranchID, by)
	if err != nil {
		return false, fmt.Errorf("unmark a Try of %s: %w", key, err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}
