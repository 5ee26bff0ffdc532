package stock

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/tcc"
)

// TryAll locks for many at once: one statement reads the stock of the articles
// and locks their rows, in the bytewise order of their SKUs, and one takes from
// them as much as all can have, first come, first served. An article that many
// want costs one change of one row. On MySQL, where a statement that fails changes
// nothing and leaves the local transaction alive, the first statement is left out
// as long as there is enough for all.
func (s *Stock) TryAll(ctx context.Context, tx *gorm.DB, locks []tcc.Item[Lock]) (failures []error, err error) {
	failures = make([]error, len(locks))
	wanted := make([][]Item, len(locks))
	levels, total := map[string]int64{}, map[string]int64{}
	for i, lock := range locks {
		items, err := lock.In.merged()
		if err != nil {
			failures[i] = reject(err)
			continue
		}
		wanted[i] = items
		for _, item := range items {
			levels[item.SKU] = -1
			total[item.SKU] += item.Quantity
		}
	}
	if tx.Dialector.Name() == "mysql" && time.Now().UnixNano() > s.careful.Load() {
		enough, err := takeAll(tx, total)
		if err != nil {
			return nil, err
		}
		if enough {
			return failures, s.hold(tx, locks, wanted)
		}
		s.careful.Store(time.Now().Add(careful).UnixNano())
	}
	if err := lockLevels(tx, levels); err != nil {
		return nil, err
	}
	taken := map[string]int64{}
	for i, items := range wanted {
		if failures[i] != nil {
			continue
		}
		if err := short(items, levels); err != nil {
			failures[i], wanted[i] = reject(err), nil
			continue
		}
		for _, item := range items {
			levels[item.SKU] -= item.Quantity
			taken[item.SKU] += item.Quantity
		}
	}
	if err := moveAll(tx, "available", "locked", taken, nil); err != nil {
		return nil, err
	}
	return failures, s.hold(tx, locks, wanted)
}

// ConfirmAll turns locked pieces into sold ones, for many at once.
func (s *Stock) ConfirmAll(ctx context.Context, tx *gorm.DB, locks []tcc.Item[Lock]) error {
	total := map[string]int64{}
	branches, rows := map[string][]string{}, map[string]int64{} // gids and holds by branch id
	for _, lock := range locks {
		items, err := lock.In.merged()
		if err != nil {
			return err
		}
		branches[lock.BranchID] = append(branches[lock.BranchID], lock.GID)
		rows[lock.BranchID] += int64(len(items))
		for _, item := range items {
			total[item.SKU] += item.Quantity
		}
	}
	if !s.keeps {
		return moveAll(tx, "locked", "sold", total, branches)
	}
	for _, id := range slices.Sorted(maps.Keys(branches)) {
		if err := sellHolds(tx, id, branches[id], rows[id], total); err != nil {
			return err
		}
	}
	return moveAll(tx, "locked", "sold", total, nil)
}

// lockRows is the clause that locks the rows that a SELECT finds.
func lockRows(tx *gorm.DB) string {
	if tx.Dialector.Name() == "sqlite" { // where a transaction has locked the database
		return ""
	}
	return " FOR UPDATE"
}

// bytewise sorts by SKU in the order of its bytes, which is Go's, whatever order
// the database prefers. MySQL's column and SQLite have that order.
func bytewise(tx *gorm.DB) string {
	if tx.Dialector.Name() == "postgres" {
		return ` ORDER BY sku COLLATE "C"`
	}
	return " ORDER BY sku"
}

// lockLevels reads how many pieces of the articles are available, and locks
// them. Unknown ones keep their -1.
func lockLevels(tx *gorm.DB, levels map[string]int64) error {
	if len(levels) == 0 {
		return nil
	}
	query := "SELECT sku, available FROM saga_stock WHERE sku IN ?" + bytewise(tx) + lockRows(tx)
	rows, err := tx.Raw(query, slices.Sorted(maps.Keys(levels))).Rows()
	if err != nil {
		return fmt.Errorf("reading the stock: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var sku string
		var available int64
		if err := rows.Scan(&sku, &available); err != nil {
			return fmt.Errorf("reading the stock: %w", err)
		}
		levels[sku] = available
	}
	return rows.Err()
}

// short says why items cannot be had from what is available.
func short(items []Item, available map[string]int64) error {
	for _, item := range items {
		switch left := available[item.SKU]; {
		case left < 0:
			return fmt.Errorf("%s: %w", item.SKU, ErrUnknownSKU)
		case left < item.Quantity:
			return &ShortError{SKU: item.SKU, Wanted: item.Quantity, Available: left}
		}
	}
	return nil
}

// careful is for how long it is asked what there is, after there was too little.
const careful = time.Second

// takeAll locks quantities of all articles, or of none if there is too little of
// one. It does not ask gorm, which would log that as an error.
func takeAll(tx *gorm.DB, quantities map[string]int64) (enough bool, err error) {
	if len(quantities) == 0 {
		return true, nil
	}
	changed, err := shift(tx, quantities, "available", "locked")
	var refused *mysql.MySQLError
	if errors.As(err, &refused) && slices.Contains(tooLittle, refused.Number) {
		return false, nil
	}
	if err != nil || changed == int64(len(quantities)) {
		return err == nil, err
	}
	// An article is unknown; all others have changed.
	back, err := shift(tx, quantities, "locked", "available")
	if err == nil && back != changed {
		err = errors.New("taking stock back: was saga_stock changed by hand?")
	}
	return false, err
}

// tooLittle are the numbers of the errors of a shift for which there is too little:
// of its own guard, and of the check constraint on MariaDB and on MySQL.
var tooLittle = []uint16{1242, 4025, 3819}

// shift moves quantities of articles from one column to another. If one has too
// little, the statement fails and changes nothing, also where somebody has dropped
// the check constraint: MySQL cannot subtract a subquery that has two rows.
func shift(tx *gorm.DB, quantities map[string]int64, from, to string) (changed int64, err error) {
	skus := slices.Sorted(maps.Keys(quantities))
	each, named := perSKU(skus, quantities)
	arguments := slices.Concat(named, named, named, anys(skus))
	places := strings.Repeat(", ?", len(skus))[2:]
	// MySQL assigns from left to right, so the guard comes first.
	result, err := tx.Statement.ConnPool.ExecContext(tx.Statement.Context, fmt.Sprintf(
		"UPDATE saga_stock SET %[1]s = %[1]s - IF(%[1]s >= (%[3]s), (%[3]s), (SELECT 1 UNION ALL SELECT 2)), %[2]s = %[2]s + (%[3]s) WHERE sku IN (%[4]s)",
		from, to, each, places), arguments...)
	if err != nil {
		return 0, fmt.Errorf("locking stock: %w", err)
	}
	return result.RowsAffected()
}

func anys(skus []string) []any {
	all := make([]any, len(skus))
	for i, sku := range skus {
		all[i] = sku
	}
	return all
}

// perSKU is the expression for the quantity of each article, and its arguments.
// Most have the same; the others are named.
func perSKU(skus []string, quantities map[string]int64) (expression string, named []any) {
	const usual = 1
	var cases strings.Builder
	for _, sku := range skus {
		if n := quantities[sku]; n != usual {
			fmt.Fprintf(&cases, " WHEN ? THEN %d", n)
			named = append(named, sku)
		}
	}
	if len(named) == 0 {
		return fmt.Sprint(usual), nil
	}
	return fmt.Sprintf("CASE sku%s ELSE %d END", cases.String(), usual), named
}

// moveAll moves quantities of many articles from one column to another, in one
// statement, which locks them in bytewise order. It moves nothing if one of the
// unheld branches, gids by branch id, has an open hold.
func moveAll(tx *gorm.DB, from, to string, quantities map[string]int64, unheld map[string][]string) error {
	skus := slices.DeleteFunc(slices.Sorted(maps.Keys(quantities)), func(sku string) bool { return quantities[sku] == 0 })
	if len(skus) == 0 {
		return nil
	}
	each, named := perSKU(skus, quantities)
	which, arguments := "sku IN ?", []any{skus}
	if tx.Dialector.Name() == "postgres" { // which updates in the order of its plan
		which = `FROM (SELECT sku AS wanted FROM saga_stock WHERE sku IN ? ORDER BY sku COLLATE "C" FOR UPDATE) x WHERE sku = wanted`
	} else {
		which = "WHERE " + which
	}
	statement := fmt.Sprintf("UPDATE saga_stock SET %[1]s = %[1]s - (%[3]s), %[2]s = %[2]s + (%[3]s) %[4]s AND %[1]s >= (%[3]s)", from, to, each, which)
	arguments = slices.Concat(named, named, arguments, named)
	for _, id := range slices.Sorted(maps.Keys(unheld)) {
		statement += noHolds(tx)
		arguments = append(arguments, unheld[id], id)
	}
	result := tx.Exec(statement, arguments...)
	if result.Error != nil {
		return fmt.Errorf("moving stock from %s to %s: %w", from, to, result.Error)
	}
	if result.RowsAffected != int64(len(skus)) {
		return fmt.Errorf("moving stock from %s to %s: there is less than was found: was saga_stock changed by hand?", from, to)
	}
	return nil
}
