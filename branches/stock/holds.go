package stock

import (
	"context"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/tcc"
)

// Hold is what the branch of a transaction has locked of an article, and what has
// become of it. Times are the database's.
type Hold struct {
	GID      string    `json:"gid"`
	BranchID string    `json:"branch_id"`
	SKU      string    `json:"sku"`
	Quantity int64     `json:"quantity"` // pieces that were locked
	Locked   int64     `json:"locked"`   // of them locked now; fewer than Quantity after Adjust, 0 after Confirm or Cancel
	Sold     int64     `json:"sold"`     // of them sold by the Confirm
	Returned int64     `json:"returned"` // of the sold ones returned since; see Return
	LockedAt time.Time `json:"locked_at"`
	EndedAt  time.Time `json:"ended_at,omitzero"` // when it was confirmed or cancelled; zero before
}

// HoldFilter says which holds to list. The zero value is all.
type HoldFilter struct {
	GID  string // of this transaction
	SKU  string // of this article
	Open bool   // only those that are neither confirmed nor cancelled
}

// Holds lists up to limit holds after the given one, by gid, branch and SKU. Begin
// with the zero Hold. There are none of locks that were made without [KeepHolds].
//
// A filter with a GID, or with a SKU and Open, is served from an index; others read
// the whole table.
func (s *Stock) Holds(ctx context.Context, filter HoldFilter, after Hold, limit int) ([]Hold, error) {
	where, arguments := []string{"(gid > ? OR gid = ? AND (branch_id > ? OR branch_id = ? AND sku > ?))"},
		[]any{after.GID, after.GID, after.BranchID, after.BranchID, after.SKU}
	if filter.GID != "" {
		where, arguments = append(where, "gid = ?"), append(arguments, filter.GID)
	}
	if filter.SKU != "" {
		where, arguments = append(where, "sku = ?"), append(arguments, filter.SKU)
	}
	if filter.Open {
		where = append(where, "ended_at IS NULL")
	}
	db := s.db.WithContext(ctx)
	holds, err := readHoldsOf(db, "saga_stock_holds", strings.Join(where, " AND ")+" ORDER BY gid, branch_id, sku, locked_at LIMIT ?", append(arguments, limit)...)
	if err != nil {
		return nil, fmt.Errorf("stock: listing holds: %w", err)
	}
	return holds, nil
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

// noHolds is a condition: no branch of the given gids and id has an open hold. It
// keeps a stock without [KeepHolds] from selling what was adjusted away.
func noHolds(tx *gorm.DB) string {
	return " AND NOT EXISTS (SELECT 1 FROM " + byKey(tx) + " WHERE gid IN ? AND branch_id = ? AND ended_at IS NULL)"
}

// holdsAtOnce is how many holds one statement writes at most.
const holdsAtOnce = 1000

// hold writes the holds of locks that have succeeded, if the stock keeps them.
func (s *Stock) hold(tx *gorm.DB, locks []tcc.Item[Lock], items [][]Item) error {
	if !s.keeps {
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
			if len(rows) == holdsAtOnce {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	return flush()
}

// endHolds ends the open holds of a branch and returns what is locked of each
// article: what the holds say, or the items themselves if there are none.
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
		return nil, fmt.Errorf("ending the holds of transaction %s, branch %s: %d were found and %d ended", call.GID, call.BranchID, len(holds), result.RowsAffected)
	}
	var left []Item
	for _, h := range holds {
		if h.Locked > 0 {
			left = append(left, Item{SKU: h.SKU, Quantity: h.Locked})
		}
	}
	return left, nil
}

// sellHolds ends the open holds of branches of one id as sold, and takes from the
// total what was adjusted away. Each branch has so many articles that all have
// rows; if no hold was adjusted, one statement does it.
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
	// The others were adjusted, or were locked by a stock that keeps no holds.
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
		result.Error = fmt.Errorf("%d were found and %d ended", len(holds), result.RowsAffected)
	}
	if err := result.Error; err != nil {
		return fmt.Errorf("ending holds: %w", err)
	}
	return nil
}

// byKey is the table of holds, searched by its primary key. By the index of open
// holds, MySQL would wait for those of others.
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

// micros is a time column as microseconds since 1970.
func (c clock) micros(column string) string { return strings.ReplaceAll(c.epoch, "$1", column) }
