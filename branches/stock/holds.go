package stock

import (
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/tcc"
)

// Hold is the pieces of an article that a branch of a transaction has locked. It stays
// after the pieces were sold or given back. Times are the database's.
type Hold struct {
	GID      string    `json:"gid"`
	BranchID string    `json:"branch_id"`
	SKU      string    `json:"sku"`
	Quantity int64     `json:"quantity"` // pieces that Try has locked
	Locked   int64     `json:"locked"`   // pieces locked now: fewer than Quantity after Adjust, 0 after Confirm or Cancel
	Sold     int64     `json:"sold"`     // pieces that Confirm has sold
	Returned int64     `json:"returned"` // sold pieces that were returned; see Return
	LockedAt time.Time `json:"locked_at"`
	EndedAt  time.Time `json:"ended_at,omitzero"` // time of Confirm or Cancel; zero before
}

// HoldFilter selects holds. The zero value selects all.
type HoldFilter struct {
	GID  string // of this transaction
	SKU  string // of this article
	Open bool   // only holds that are neither confirmed nor cancelled
}

// holdLog writes and removes holds.
type holdLog struct {
	keep      bool
	retention time.Duration // of ended holds; 0 is for ever
}

// readHolds reads holds by their key.
func readHolds(tx *gorm.DB, where string, arguments ...any) ([]Hold, error) {
	return readHoldsOf(tx, byKey(tx), where, arguments...)
}

func readHoldsOf(db *gorm.DB, table, where string, arguments ...any) (holds []Hold, err error) {
	c := clockOf(db)
	rows, err := db.Raw("SELECT gid, branch_id, sku, quantity, locked, sold, returned, "+c.micros("locked_at")+", COALESCE("+c.micros("ended_at")+", 0) FROM "+table+" WHERE "+where, arguments...).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var h Hold
		var lockedAt, endedAt int64
		if err := rows.Scan(&h.GID, &h.BranchID, &h.SKU, &h.Quantity, &h.Locked, &h.Sold, &h.Returned, &lockedAt, &endedAt); err != nil {
			return nil, err
		}
		h.LockedAt = time.UnixMicro(lockedAt).UTC()
		if endedAt != 0 {
			h.EndedAt = time.UnixMicro(endedAt).UTC()
		}
		holds = append(holds, h)
	}
	return holds, rows.Err()
}

// noHolds is the condition that no branch with the given gids and id has an open hold.
// Without it, a stock without [KeepHolds] would sell pieces that Adjust has freed.
func noHolds(tx *gorm.DB) string {
	return " AND NOT EXISTS (SELECT 1 FROM " + byKey(tx) + " WHERE gid IN ? AND branch_id = ? AND ended_at IS NULL)"
}

// maxInsert is the most holds that one statement writes.
const maxInsert = 1000

// write writes the holds of locks that have succeeded, if the stock keeps holds.
func (l holdLog) write(tx *gorm.DB, locks []tcc.Item[Lock], items [][]Item) error {
	if !l.keep {
		return nil
	}
	row := "(?, ?, ?, " + clockOf(tx).now + ", ?, ?)"
	var rows []string
	var arguments []any
	flush := func() error {
		if len(rows) == 0 {
			return nil
		}
		err := tx.Exec("INSERT INTO saga_stock_holds (gid, branch_id, sku, locked_at, quantity, locked) VALUES "+strings.Join(rows, ", "), arguments...).Error
		rows, arguments = rows[:0], arguments[:0]
		if err != nil {
			return fmt.Errorf("writing holds: %w", err)
		}
		return nil
	}
	for i, lock := range locks {
		for _, item := range items[i] {
			rows = append(rows, row)
			arguments = append(arguments, lock.GID, lock.BranchID, item.SKU, item.Quantity, item.Quantity)
			if len(rows) == maxInsert {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	return flush()
}

// endHolds ends the open holds of a branch. It returns the pieces that are locked: those
// of the holds, or the items themselves if there are no holds.
func endHolds(tx *gorm.DB, call saga.Call, items []Item, to string) ([]Item, error) {
	const open = "gid = ? AND branch_id = ? AND ended_at IS NULL"
	holds, err := readHolds(tx, open+bytewise(tx)+lockRows(tx), call.GID, call.BranchID)
	if err != nil {
		return nil, fmt.Errorf("reading the holds of transaction %s, branch %s: %w", call.GID, call.BranchID, err)
	}
	if len(holds) == 0 {
		return items, nil
	}
	set := "locked = 0"
	if to == "sold" {
		set = "sold = locked, locked = 0"
	}
	result := tx.Exec("UPDATE "+byKey(tx)+" SET "+set+", ended_at = "+clockOf(tx).now+" WHERE "+open, call.GID, call.BranchID)
	if err := result.Error; err != nil {
		return nil, fmt.Errorf("ending the holds of transaction %s, branch %s: %w", call.GID, call.BranchID, err)
	}
	if result.RowsAffected != int64(len(holds)) {
		return nil, fmt.Errorf("ending the holds of transaction %s, branch %s: %d were found, %d were ended", call.GID, call.BranchID, len(holds), result.RowsAffected)
	}
	var left []Item
	for _, h := range holds {
		if h.Locked > 0 {
			left = append(left, Item{SKU: h.SKU, Quantity: h.Locked})
		}
	}
	return left, nil
}

// sellHolds ends the open holds of branches with one id as sold. It subtracts from total
// the pieces that Adjust has freed. rows is how many holds the branches have together. If
// no hold was adjusted, one statement is enough.
func sellHolds(tx *gorm.DB, branchID string, gids []string, rows int64, total map[string]int64) error {
	const open = "gid IN ? AND branch_id = ? AND ended_at IS NULL"
	sell := "UPDATE " + byKey(tx) + " SET sold = locked, locked = 0, ended_at = " + clockOf(tx).now + " WHERE " + open
	result := tx.Exec(sell+" AND locked = quantity", gids, branchID)
	if err := result.Error; err != nil {
		return fmt.Errorf("ending holds: %w", err)
	}
	if result.RowsAffected == rows {
		return nil
	}
	// The others were adjusted, or a stock without KeepHolds has locked them.
	holds, err := readHolds(tx, open+" ORDER BY gid, sku"+lockRows(tx), gids, branchID)
	if err != nil {
		return fmt.Errorf("reading holds: %w", err)
	}
	for _, h := range holds {
		total[h.SKU] -= h.Quantity - h.Locked
	}
	if len(holds) == 0 {
		return nil
	}
	result = tx.Exec(sell, gids, branchID)
	if result.Error == nil && result.RowsAffected != int64(len(holds)) {
		result.Error = fmt.Errorf("%d were found, %d were ended", len(holds), result.RowsAffected)
	}
	if err := result.Error; err != nil {
		return fmt.Errorf("ending holds: %w", err)
	}
	return nil
}

// byKey is the table of holds, searched by its primary key. With the index of open
// holds, MySQL would wait for holds of other transactions.
func byKey(tx *gorm.DB) string {
	if tx.Dialector.Name() == "mysql" {
		return "saga_stock_holds FORCE INDEX (PRIMARY)"
	}
	return "saga_stock_holds"
}

// clock is the clock of a database.
type clock struct{ now, epoch string }

func clockOf(db *gorm.DB) clock {
	switch db.Dialector.Name() {
	case "mysql":
		return clock{"UTC_TIMESTAMP(6)", "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', $1)"}
	case "postgres":
		return clock{"clock_timestamp()", "CAST(EXTRACT(EPOCH FROM $1) * 1000000 AS BIGINT)"}
	default:
		return clock{"strftime('%Y-%m-%d %H:%M:%f', 'now')", "(CAST(strftime('%s', $1) AS INTEGER) * 1000000 + CAST(substr($1, 21, 3) AS INTEGER) * 1000)"}
	}
}

// micros is the SQL expression for a time column in microseconds since 1970.
func (c clock) micros(column string) string { return strings.ReplaceAll(c.epoch, "$1", column) }
