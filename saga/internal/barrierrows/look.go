package barrierrows

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// LookLocked returns the barrier row of one branch, or nil if there is none. It locks the
// row in the local transaction tx. So it reads the committed row of the primary, and not
// of a replica that lags behind. It leaves out the fields that only people need: times,
// and calls turned away.
func LookLocked(ctx context.Context, tx *gorm.DB, key barrier.Key) (*barrier.Row, error) {
	d, err := dialect.Of(tx)
	if err != nil {
		return nil, err
	}
	rows, err := tx.Statement.ConnPool.QueryContext(ctx, statements[d].look, key.GID, key.BranchID)
	if err != nil {
		return nil, fmt.Errorf("read the barrier row of %s: %w", key, err)
	}
	defer rows.Close()
	if !rows.Next() {
		return nil, rows.Err()
	}
	row := barrier.Row{Key: key}
	var call barrier.UnderWay
	var since, until, left int64
	if err := rows.Scan(&row.BranchID, &row.State, &row.Caller, &row.Kind, &row.Input, &call.Op, &call.By, &since, &until, &left); err != nil {
		return nil, fmt.Errorf("read the barrier row of %s: %w", key, err)
	}
	if call.Op != "" {
		call.Since, call.Until, call.Left = dialect.Time(since), dialect.Time(until), time.Duration(left)*time.Microsecond
		row.UnderWay = &call
	}
	return &row, rows.Err()
}
