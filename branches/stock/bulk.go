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

// TryAll locks for many at once: one statement finds out what there is and
// locks the articles, in the order of their SKUs, and one takes from them what
// all can have, first come, first served. However many want the same article,
// it costs one change of one row. On MySQL, where a statement that breaks a check
// constraint changes nothing and leaves the local transaction alive, the first is
// left out as long as there is enough for all.
func (s *Stock) TryAll(ctx context.Context, tx *gorm.DB, locks []tcc.Item[Lock]) (failures []error, err error) {
	failures = make([]error, len(locks))
	wanted := make([][]Item, len(locks))
	levels, total := map[string]int64{}, map[string]int64{}
	for i, lock := range locks {
		items, err := lock.In.merged()
		if err != nil {
			failures[i] = tcc.Reject(err)
			continue
		}
		wanted[i] = items
		for _, item := range items {
			levels[item.SKU] = -1
			total[item.SKU] += item.Quantity
		}
	}
	if tx.Dialector.Name() == "mysql" && time.Now().UnixNano() > s.careful.Load() {
		if enough, err := takeAll(tx, total); err != nil || enough {
			return failures, err
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

// careful is for how long it is asked what there is, after there was too little.
const careful = time.Second

// takeAll locks quantities of all articles, or of none if there is too little of
// one. It does not ask gorm, which would log that as an error.
func takeAll(tx *gorm.DB, quantities map[string]int64) (enough bool, err error) {
	if len(quantities) == 0 {
		return true, nil
	}
	changed, err := shift(tx, quantities, "-", "+")
	var refused *mysql.MySQLError
	if errors.As(err, &refused) && (refused.Number == mariaDBCheck || refused.Number == mysqlCheck) {
		return false, nil
	}
	if err != nil || changed == int64(len(quantities)) {
		return err == nil, err
	}
	// An article is unknown; all others have changed.
	back, err := shift(tx, quantities, "+", "-")
	if err == nil && back != changed {
		err = errors.New("taking stock back: was saga_stock changed by hand?")
	}
	return false, err
}

// The numbers of the errors by which a check constraint refuses a change.
const (
	mariaDBCheck = 4025
	mysqlCheck   = 3819
)

// shift changes what is available of articles, and what is locked.
func shift(tx *gorm.DB, quantities map[string]int64, available, locked string) (changed int64, err error) {
	skus := slices.Sorted(maps.Keys(quantities))
	each, named := perSKU(skus, quantities)
	arguments := slices.Concat(named, named, anys(skus))
	places := strings.Repeat(", ?", len(skus))[2:]
	result, err := tx.Statement.ConnPool.ExecContext(tx.Statement.Context, fmt.Sprintf(
		"UPDATE saga_stock SET available = available %[1]s (%[3]s), locked = locked %[2]s (%[3]s) WHERE sku IN (%[4]s)", available, locked, each, places), arguments...)
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
// statement.
func moveAll(tx *gorm.DB, from, to string, quantities map[string]int64) error {
	if len(quantities) == 0 {
		return nil
	}
	skus := slices.Sorted(maps.Keys(quantities))
	each, named := perSKU(skus, quantities)
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
