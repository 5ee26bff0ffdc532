package stock

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/tcc"
)

// TryAll locks for many at once: one statement finds out what there is and
// locks the articles, in the order of their SKUs, and one takes from them what
// all can have, first come, first served. However many want the same article,
// it costs one change of one row.
func (s *Stock) TryAll(ctx context.Context, tx *gorm.DB, locks []tcc.Item[Lock]) (failures []error, err error) {
	failures = make([]error, len(locks))
	wanted := make([][]Item, len(locks))
	levels := map[string]int64{}
	for i, lock := range locks {
		items, err := lock.In.merged()
		if err != nil {
			failures[i] = tcc.Reject(err)
			continue
		}
		wanted[i] = items
		for _, item := range items {
			levels[item.SKU] = -1
		}
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
			failures[i] = tcc.Reject(err)
			continue
		}
		for _, item := range items {
			levels[item.SKU] -= item.Quantity
			taken[item.SKU] += item.Quantity
		}
	}
	return failures, moveAll(tx, "available", "locked", taken)
}

// ConfirmAll turns what is locked into sold, for many at once.
func (s *Stock) ConfirmAll(ctx context.Context, tx *gorm.DB, locks []tcc.Item[Lock]) error {
	total := map[string]int64{}
	for _, lock := range locks {
		items, err := lock.In.merged()
		if err != nil {
			return err
		}
		for _, item := range items {
			total[item.SKU] += item.Quantity
		}
	}
	return moveAll(tx, "locked", "sold", total)
}

// lockLevels reads how many pieces of the articles are available, and locks
// them. Unknown ones keep their -1.
func lockLevels(tx *gorm.DB, levels map[string]int64) error {
	if len(levels) == 0 {
		return nil
	}
	query := "SELECT sku, available FROM saga_stock WHERE sku IN ? ORDER BY sku"
	if tx.Dialector.Name() != "sqlite" { // which has locked everything
		query += " FOR UPDATE"
	}
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

// moveAll moves quantities of many articles from one column to another, in one
// statement.
func moveAll(tx *gorm.DB, from, to string, quantities map[string]int64) error {
	if len(quantities) == 0 {
		return nil
	}
	// Most move the same quantity; the others are named.
	const usual = 1
	var quantity strings.Builder
	var named []any
	skus := slices.Sorted(maps.Keys(quantities))
	for _, sku := range skus {
		if n := quantities[sku]; n != usual {
			fmt.Fprintf(&quantity, " WHEN ? THEN %d", n)
			named = append(named, sku)
		}
	}
	each := fmt.Sprint(usual)
	if len(named) > 0 {
		each = fmt.Sprintf("CASE sku%s ELSE %d END", quantity.String(), usual)
	}
	statement := fmt.Sprintf("UPDATE saga_stock SET %[1]s = %[1]s - (%[3]s), %[2]s = %[2]s + (%[3]s) WHERE sku IN ? AND %[1]s >= (%[3]s)", from, to, each)
	result := tx.Exec(statement, slices.Concat(named, named, []any{skus}, named)...)
	if result.Error != nil {
		return fmt.Errorf("moving stock from %s to %s: %w", from, to, result.Error)
	}
	if result.RowsAffected != int64(len(skus)) {
		return fmt.Errorf("moving stock from %s to %s: there is less than was found: was saga_stock changed by hand?", from, to)
	}
	return nil
}
