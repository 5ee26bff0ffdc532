package txlog

import (
	"context"
	"fmt"

	"gorm.io/gorm"
)

// Attempted writes failed attempts.
func (l *Log) Attempted(ctx context.Context, tx *gorm.DB, gid string, failures ...Failure) error {
	pool := tx.Statement.ConnPool
	for _, f := range failures {
		query, arguments := l.sql.attemptLast, []any{gid, f.BranchID, f.Operation, f.Attempt, f.Error, f.Code, f.Instance}
		if f.Next >= 0 {
			query, arguments = l.sql.attempt, append(arguments, f.Next.Microseconds())
		}
		if _, err := pool.ExecContext(ctx, query, arguments...); err != nil {
			return fmt.Errorf("log: recording an attempt of %s/%s: %w", gid, f.BranchID, err)
		}
		if f.Attempt > KeptAttempts {
			if _, err := pool.ExecContext(ctx, l.sql.forget, gid, f.BranchID, f.Operation, f.Attempt-KeptAttempts); err != nil {
				return fmt.Errorf("log: thinning the attempts of %s/%s: %w", gid, f.BranchID, err)
			}
		}
	}
	return nil
}
