package main

import (
	"context"
	"errors"

	"gorm.io/gorm"
)

// Raw is what somebody writes who coordinates nothing: the same statements, in
// four local transactions. If it dies in between, nobody finds out.
type Raw struct{ db *Database }

func (r Raw) Name() string { return "raw" }
func (r Raw) Close() error { r.db.close(); return nil }

// The statements that all contenders make, one by one or many at once.
const (
	tryStock     = "UPDATE saga_stock SET available = available - 1, locked = locked + 1 WHERE sku = ? AND available >= 1"
	confirmStock = "UPDATE saga_stock SET locked = locked - 1, sold = sold + 1 WHERE sku = ?"
	cancelStock  = "UPDATE saga_stock SET locked = locked - 1, available = available + 1 WHERE sku = ?"
	prepare      = "INSERT INTO saga_outbox (gid, branch_id, state, subject, headers, data, prepared_at) VALUES (?, ?, 'prepared', 'orders.placed', '{}', ?, CURRENT_TIMESTAMP)"
	send         = "UPDATE saga_outbox SET state = 'published', published_at = CURRENT_TIMESTAMP WHERE gid = ? AND branch_id = ? AND state = 'prepared'"
	discard      = "UPDATE saga_outbox SET state = 'discarded', discarded_at = CURRENT_TIMESTAMP WHERE gid = ? AND branch_id = ? AND state = 'prepared'"
)

func (r Raw) Place(ctx context.Context, o Order) error {
	for _, work := range []func(tx *gorm.DB) error{
		func(tx *gorm.DB) error { return one(tx.Exec(tryStock, o.SKU)) },
		func(tx *gorm.DB) error { return prepareMessage(tx, o.ID, "02", o.ID) },
		func(tx *gorm.DB) error { return one(tx.Exec(confirmStock, o.SKU)) },
		func(tx *gorm.DB) error { return markSent(tx, o.ID, "02") },
	} {
		if err := r.db.WithContext(ctx).Transaction(work); err != nil {
			return err
		}
	}
	return nil
}

func one(result *gorm.DB) error {
	if result.Error == nil && result.RowsAffected != 1 {
		return errors.New("not one row")
	}
	return result.Error
}
