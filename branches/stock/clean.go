package stock

import (
	"context"
	"fmt"
	"strings"

	"gorm.io/gorm"
)

// cleanPerTransaction is how many ended holds go with each transaction that the
// engine removes: more than are made for one, so that a backlog shrinks.
const cleanPerTransaction = 4

// cleanAtOnce is how many holds go at once at most: SQLite takes no longer condition.
const cleanAtOnce = 250

// Clean removes holds that have ended longer ago than the retention of [KeepHolds],
// the oldest first, and the acts on them. The engine calls it when it cleans its
// log, with the transactions that it removes. Their number says how many holds go:
// the holds of these very transactions stay until their own retention is over.
// Without the option, and with the retention 0, it does nothing.
func (s *Stock) Clean(ctx context.Context, tx *gorm.DB, gids []string) error {
	if !s.keeps || s.retention == 0 {
		return nil
	}
	old, err := s.oldHolds(tx, max(cleanPerTransaction*len(gids), 100))
	if err != nil {
		return fmt.Errorf("stock: looking for old holds: %w", err)
	}
	if len(old) == 0 {
		return nil
	}
	var places []string
	var keys []any
	for _, h := range old {
		places = append(places, "gid = ? AND branch_id = ? AND sku = ?")
		keys = append(keys, h.GID, h.BranchID, h.SKU)
	}
	these := "(" + strings.Join(places, " OR ") + ")"
	if err := tx.Exec("DELETE FROM saga_stock_acts WHERE "+these, keys...).Error; err != nil {
		return fmt.Errorf("stock: removing the acts on old holds: %w", err)
	}
	if err := tx.Exec("DELETE FROM saga_stock_holds WHERE "+these+" AND ended_at < "+ago(tx), append(keys, s.retention.Microseconds())...).Error; err != nil {
		return fmt.Errorf("stock: removing old holds: %w", err)
	}
	return nil
}

func (s *Stock) oldHolds(tx *gorm.DB, most int) ([]Hold, error) {
	return readHoldsOf(tx, "saga_stock_holds", "ended_at < "+ago(tx)+" ORDER BY ended_at LIMIT ?", s.retention.Microseconds(), min(most, cleanAtOnce))
}

// ago is the time before the database's now by a parameter in microseconds.
func ago(db *gorm.DB) string {
	switch db.Dialector.Name() {
	case "mysql":
		return "UTC_TIMESTAMP(6) - INTERVAL ? MICROSECOND"
	case "postgres":
		return "statement_timestamp() - ? * INTERVAL '1 microsecond'"
	default:
		return "strftime('%Y-%m-%d %H:%M:%f', 'now', (-? / 1000000.0) || ' seconds')"
	}
}
