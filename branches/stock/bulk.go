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

// TryAll locks articles for many transactions. One statement reads the stock of the
// articles and locks their rows, in the bytewise order of their SKUs. A second statement
// moves the pieces. If there is not enough for all, the first locks in the batch get
// theirs. An article that many transactions want costs one change of one row.
//
// On MySQL, a statement that fails changes nothing, and the local transaction goes on. So
// TryAll leaves out the first statement there, as long as there is enough for all.
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
	if tx.Dialector.Name() == "mysql" && time.Now().UnixNano() > s.readFirst.Load() {
		enough, err := lockAll(tx, total)
		if err != nil {
			return nil, err
		}
		if enough {
			return failures, s.holds.write(tx, locks, wanted)
		}
		s.readFirst.Store(time.Now().Add(readFirstFor).UnixNano())
	}
	if err := lockLevels(tx, levels); err != nil {
		return nil, err
	}
	taken := map[string]int64{}
	for i, items := range wanted {
		if failures[i] != nil {
			continue
		}
		if err := checkAvailable(items, levels); err != nil {
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
	return failures, s.holds.write(tx, locks, wanted)
}

// ConfirmAll turns locked pieces into sold ones, for many transactions at once.
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
	if !s.holds.keep {
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
	if tx.Dialector.Name() == "sqlite" { // a transaction locks the whole database
		return ""
	}
	return " FOR UPDATE"
}

// bytewise is the clause that sorts by the bytes of the SKU, as Go does. MySQL's column
// and SQLite sort so by default.
func bytewise(tx *gorm.DB) string {
	if tx.Dialector.Name() == "postgres" {
		return ` ORDER BY sku COLLATE "C"`
	}
	return " ORDER BY sku"
}

// lockLevels reads how many pieces of the articles are available, and locks their rows.
// The level of an unknown article stays -1.
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

// checkAvailable says why items cannot be locked.
func checkAvailable(items []Item, available map[string]int64) error {
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

// readFirstFor is how long TryAll reads the stock first, after an article was short.
const readFirstFor = time.Second

// lockAll locks quantities of all articles, or of none if one is short.
func lockAll(tx *gorm.DB, quantities map[string]int64) (enough bool, err error) {
	if len(quantities) == 0 {
		return true, nil
	}
	changed, err := moveOrFail(tx, quantities, "available", "locked")
	var refused *mysql.MySQLError
	if errors.As(err, &refused) && slices.Contains(shortErrors, refused.Number) {
		return false, nil
	}
	if err != nil || changed == int64(len(quantities)) {
		return err == nil, err
	}
	// An article is unknown; all others have changed.
	back, err := moveOrFail(tx, quantities, "locked", "available")
	if err == nil && back != changed {
		err = errors.New("unlocking stock: was saga_stock changed by hand?")
	}
	return false, err
}

// shortErrors are the numbers of the errors of moveOrFail if an article is short: of its
// own guard, and of the check constraint on MariaDB and on MySQL.
var shortErrors = []uint16{1242, 4025, 3819}

// moveOrFail moves quantities of articles from one column to another, on MySQL. If one
// article is short, the statement fails and changes nothing, also without the check
// constraint: MySQL cannot subtract a subquery that has two rows. The statement bypasses
// gorm, which would log the failure as an error.
func moveOrFail(tx *gorm.DB, quantities map[string]int64, from, to string) (changed int64, err error) {
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

// perSKU returns the SQL expression for the quantity of each article, and its arguments.
// The usual quantity is the default; articles with another quantity are named.
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

// moveAll moves quantities of many articles from one column to another in one statement,
// which locks them in bytewise order. It moves nothing if one of the unheld branches has
// an open hold. The map has their gids by branch id.
func moveAll(tx *gorm.DB, from, to string, quantities map[string]int64, unheld map[string][]string) error {
	skus := slices.DeleteFunc(slices.Sorted(maps.Keys(quantities)), func(sku string) bool { return quantities[sku] == 0 })
	if len(skus) == 0 {
		return nil
	}
	each, named := perSKU(skus, quantities)
	which, arguments := "sku IN ?", []any{skus}
	if tx.Dialector.Name() == "postgres" { // it would update in the order of its plan
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
		return fmt.Errorf("moving stock from %s to %s: too few pieces are left: was saga_stock changed by hand?", from, to)
	}
	return nil
}
