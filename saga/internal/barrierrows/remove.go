package barrierrows

import (
	"context"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// Remove deletes the barrier rows of transactions in the local transaction tx. It
// neither commits nor rolls back. The engine calls it after the retention.
//
// Without its row, a branch has no record of earlier calls. If a Try arrives later, it
// runs, and nobody ever cancels it. So remove only rows of finished transactions, and
// only when no late call can arrive any longer.
func Remove(ctx context.Context, tx *gorm.DB, gids ...string) error {
	if len(gids) == 0 {
		return nil
	}
	d, err := dialect.Of(tx)
	if err != nil {
		return err
	}
	query := d.SQL("DELETE FROM saga_barrier WHERE gid IN (?" + strings.Repeat(", ?", len(gids)-1) + ")")
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, query, anys(gids)...); err != nil {
		return fmt.Errorf("remove barrier rows: %w", err)
	}
	return nil
}
