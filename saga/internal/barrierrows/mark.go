package barrierrows

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// Mark notes, in the row that the same local transaction has written, that a call
// which acts on something other than a database is about to be made, under a name
// that no other call has, and after which time it is over. Until then, or until
// [Unmark], its effect may still come. An engine calls it, so that no Cancel overtakes
// a Try.
func Mark(ctx context.Context, tx *gorm.DB, key barrier.Key, op barrier.Op, by string, timeout time.Duration) error {
	d, err := dialect.Of(tx)
	if err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	_, err = tx.Statement.ConnPool.ExecContext(ctx, statements[d].mark, string(op), by, timeout.Microseconds(), key.GID, key.BranchID)
	if err != nil {
		return fmt.Errorf("barrier: noting that %s of %s is under way: %w", op, key, err)
	}
	return nil
}

// Unmark notes that the call of that name has ended: its effect is there, or will
// never be.
func Unmark(ctx context.Context, tx *gorm.DB, key barrier.Key, by string) error {
	d, err := dialect.Of(tx)
	if err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, statements[d].unmark, key.GID, key.BranchID, by); err != nil {
		return fmt.Errorf("barrier: noting the end of a call of %s: %w", key, err)
	}
	return nil
}

// UnmarkTry notes that the Try of that name has returned, if the branch is still tried;
// false says that it is not, or that the name is another call's. Known says that the
// effect of the Try is there, or will never be. Otherwise a Cancel may come at once,
// and has to come once more, because the Try may arrive late.
func UnmarkTry(ctx context.Context, tx *gorm.DB, key barrier.Key, by string, known bool) (noted bool, err error) {
	d, err := dialect.Of(tx)
	if err != nil {
		return false, fmt.Errorf("barrier: %w", err)
	}
	query := statements[d].unmarkTry
	if !known {
		query = statements[d].giveUpTry
	}
	result, err := tx.Statement.ConnPool.ExecContext(ctx, query, key.GID, key.BranchID, by)
	if err != nil {
		return false, fmt.Errorf("barrier: noting the end of a Try of %s: %w", key, err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}
