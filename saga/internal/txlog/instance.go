package txlog

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// instances writes the running engines and their leases.
type instances struct {
	*store
	heartbeat *local.Reserved // a connection of its own
}

// Instance is a running engine.
type Instance struct {
	ID, Host string
	PID      int
}

// Renew writes or extends the lease of an instance. It is one statement, on a connection of
// its own, for any number of transactions.
func (l instances) Renew(ctx context.Context, instance Instance, lease time.Duration) error {
	_, err := l.heartbeat.Exec(ctx, l.sql.renew, instance.ID, instance.Host, instance.PID, lease.Microseconds(), lease.Microseconds())
	if err != nil {
		return fmt.Errorf("log: renewing the lease: %w", err)
	}
	return nil
}

// Resign ends the lease of an instance, and makes its unfinished transactions due now.
func (l instances) Resign(ctx context.Context, instance string, unfinished []string) error {
	return local.Run(ctx, l.db, func(tx *gorm.DB) error {
		if err := l.MakeDue(ctx, tx, instance, unfinished); err != nil {
			return err
		}
		_, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.resign, instance)
		return err
	})
}

// DeleteExpired removes instances whose leases ended longer than age ago.
func (l instances) DeleteExpired(ctx context.Context, age time.Duration) error {
	_, err := local.Exec(ctx, l.db, l.sql.deleteExpired, -age.Microseconds())
	return err
}

// MakeDue makes the unfinished ones of an instance's transactions due now.
func (l instances) MakeDue(ctx context.Context, tx *gorm.DB, instance string, gids []string) error {
	for chunk := range slices.Chunk(gids, 200) {
		arguments := []any{instance}
		for _, gid := range chunk {
			arguments = append(arguments, gid)
		}
		if _, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.makeDue(len(chunk)), arguments...); err != nil {
			return fmt.Errorf("log: making transactions due: %w", err)
		}
	}
	return nil
}
