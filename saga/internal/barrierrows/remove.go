package barrierrows

import (
	"context"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// Remove deletes the barrier rows of transactions, in the local transaction tx,
// which it neither commits nor rolls back. The orchestrator calls it after its
// retention.
//
// Without its row, a branch knows nothing of what it has done: a Try that comes
// after Remove runs, and nobody ever cancels it. So remove only what belongs to
// transactions that are finished, and after a time in which every late call has
// arrived or been given up.
func Remove(ctx context.Context, tx *gorm.DB, gids ...string) error {
	if len(gids) == 0 {
		return nil
	}
	d, err := dialect.Of(tx)
	if err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	arguments := make([]any, len(gids))
	for i, gid := range gids {
		arguments[i] = gid
	}
	query := d.SQL("DELETE FROM saga_barrier WHERE gid IN (?" + strings.Repeat(", ?", len(gids)-1) + ")")
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, query, arguments...); err != nil {
		return fmt.Errorf("barrier: removing rows: %w", err)
	}
	return nil
}
