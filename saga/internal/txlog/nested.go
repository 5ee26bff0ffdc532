package txlog

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// nester writes what only nested transactions have: a parent, and the time at which they
// were prepared.
type nester struct{ *store }

type nestedQueries struct {
	nest, prepare string
	keepWaiting   func(int) string
}

func nestedStatements(d dialect.Dialect) nestedQueries {
	return nestedQueries{
		nest: d.SQL(`UPDATE saga_transactions SET parent = ? WHERE gid = ?`),
		prepare: d.SQL(`UPDATE saga_transactions SET prepared_at = {now}, epoch = epoch + 1, due_at = {after ?}
			WHERE gid = ? AND state = 'trying' AND parent <> '' AND prepared_at IS NULL AND deadline_at > {now}
			AND NOT EXISTS (SELECT 1 FROM saga_branches WHERE saga_branches.gid = saga_transactions.gid AND tried_at IS NULL)`),
		keepWaiting: withList(d, `UPDATE saga_transactions SET due_at = {after ?}, attention = ?
			WHERE state = 'trying' AND prepared_at IS NOT NULL AND gid IN `, ``),
	}
}

// Nest makes a transaction that tx has inserted a nested one.
func (l nester) Nest(ctx context.Context, tx *gorm.DB, gid, parent string) error {
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.nested.nest, parent, gid); err != nil {
		return fmt.Errorf("log: nesting %s: %w", gid, err)
	}
	return nil
}

// Prepare prepares a nested transaction: one compare-and-set, while it is trying, before its
// deadline, and if every branch is marked as tried. It raises the epoch, so that a driver
// that has claimed the transaction before cannot decide it. From then on the transaction has
// no deadline. It is due after due. Without an effect, Prepare returns ErrStale.
func (l nester) Prepare(ctx context.Context, tx *gorm.DB, gid string, due time.Duration) error {
	result, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.nested.prepare, due.Microseconds(), gid)
	return l.guarded(gid, "preparing", result, err)
}

// Waiting says what a claim does with prepared transactions that are due and undecided.
type Waiting struct {
	Due       time.Duration // when they are due again, from now
	Attention string        // why they need a person
}

// keepWaiting raises prepared transactions to attention. They stay undecided.
func (l claimer) keepWaiting(ctx context.Context, tx *gorm.DB, w Waiting, gids []string) error {
	if len(gids) == 0 {
		return nil
	}
	arguments := []any{w.Due.Microseconds(), w.Attention}
	for _, gid := range gids {
		arguments = append(arguments, gid)
	}
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.nested.keepWaiting(len(gids)), arguments...); err != nil {
		return fmt.Errorf("log: postponing prepared transactions: %w", err)
	}
	return nil
}
