package stock

import (
	"fmt"
	"strings"

	"gorm.io/gorm"
)

// cleanPerTransaction is how many ended holds are removed for each transaction that the
// engine removes: more than a transaction usually writes, so that a backlog shrinks.
const cleanPerTransaction = 4

// maxClean is the most holds that are removed at once: SQLite takes no longer condition.
const maxClean = 250

// clean removes old holds. Their number depends on how many transactions the engine
// removes.
func (l holdLog) clean(tx *gorm.DB, transactions int) error {
	if !l.keep || l.retention == 0 {
		return nil
	}
	old, err := l.old(tx, max(cleanPerTransaction*transactions, 100))
	if err != nil {
		return fmt.Errorf("reading old holds: %w", err)
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
		return fmt.Errorf("removing the acts on old holds: %w", err)
	}
	if err := tx.Exec("DELETE FROM saga_stock_holds WHERE "+these+" AND ended_at < "+ago(tx), append(keys, l.retention.Microseconds())...).Error; err != nil {
		return fmt.Errorf("removing old holds: %w", err)
	}
	return nil
}

func (l holdLog) old(tx *gorm.DB, most int) ([]Hold, error) {
	return readHoldsOf(tx, "saga_stock_holds", "ended_at < "+ago(tx)+" ORDER BY ended_at LIMIT ?", l.retention.Microseconds(), min(most, maxClean))
}

// ago is the database's clock minus a parameter in microseconds.
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
