package txlog

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// Instance is a running orchestrator.
type Instance struct {
	ID, Host string
	PID      int
}

// Renew writes or extends the lease of an instance. One statement per process
// and heartbeat, however many transactions it drives.
func (l *Log) Renew(ctx context.Context, instance Instance, lease time.Duration) error {
	_, err := local.Exec(ctx, l.db, l.sql.renew, instance.ID, instance.Host, instance.PID, lease.Microseconds(), lease.Microseconds())
	if err != nil {
		return fmt.Errorf("log: renewing the lease: %w", err)
	}
	return nil
}

// Resign ends the lease of an instance and makes the given transactions, which
// it leaves unfinished, due at once.
func (l *Log) Resign(ctx context.Context, instance string, unfinished []string) error {
	return local.Run(ctx, l.db, func(tx *gorm.DB) error {
		pool := tx.Statement.ConnPool
		for gids := range slices.Chunk(unfinished, 200) {
			arguments := []any{instance}
			for _, gid := range gids {
				arguments = append(arguments, gid)
			}
			if _, err := pool.ExecContext(ctx, l.sql.hurry(len(gids)), arguments...); err != nil {
				return fmt.Errorf("log: resigning: %w", err)
			}
		}
		_, err := pool.ExecContext(ctx, l.sql.resign, instance)
		return err
	})
}

// Bury removes instances whose leases ended longer than age ago.
func (l *Log) Bury(ctx context.Context, age time.Duration) error {
	_, err := local.Exec(ctx, l.db, l.sql.bury, -age.Microseconds())
	return err
}

// Claim takes over up to limit transactions that came due at the given time or
// later, and whose owner is nobody, the instance itself, or an instance without
// a lease, the longest due first, and raises their epochs. Those in busy are
// being driven by this instance right now: they are only put off, unless they
// are undecided past their deadline. Other instances' claims, under way at the
// same time, are stepped around.
func (l *Log) Claim(ctx context.Context, instance string, since time.Time, limit int, due time.Duration, busy func(gid string) bool) (claimed []Record, err error) {
	err = local.Run(ctx, l.db, func(tx *gorm.DB) error {
		claimed = nil
		found, err := l.records(ctx, tx, l.sql.due, max(0, since.UnixMicro()), instance, limit)
		if err != nil || len(found) == 0 {
			return err
		}
		var putOff []string
		for _, r := range found {
			if busy(r.GID) && !(r.State == Trying && r.Expired) {
				putOff = append(putOff, r.GID)
			} else {
				claimed = append(claimed, r)
			}
		}
		if err := l.postpone(ctx, tx, due, putOff); err != nil {
			return err
		}
		return l.take(ctx, tx, instance, due, claimed)
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

func (l *Log) postpone(ctx context.Context, tx *gorm.DB, due time.Duration, gids []string) error {
	if len(gids) == 0 {
		return nil
	}
	arguments := []any{due.Microseconds(), due.Microseconds()}
	for _, gid := range gids {
		arguments = append(arguments, gid)
	}
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.postpone(len(gids)), arguments...); err != nil {
		return fmt.Errorf("log: postponing: %w", err)
	}
	return nil
}

func (l *Log) take(ctx context.Context, tx *gorm.DB, instance string, due time.Duration, records []Record) error {
	if len(records) == 0 {
		return nil
	}
	arguments := []any{instance, due.Microseconds()}
	for i := range records {
		arguments = append(arguments, records[i].GID)
		records[i].Epoch++
	}
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.take(len(records)), arguments...); err != nil {
		return fmt.Errorf("log: claiming: %w", err)
	}
	return nil
}
