package stock

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
)

// Level is the stock of an article.
type Level struct {
	SKU       string `json:"sku"`
	Available int64  `json:"available"` // free to be locked
	Locked    int64  `json:"locked"`    // locked by transactions that are not finished
	Sold      int64  `json:"sold"`      // sold by confirmed transactions
}

// MaxLevel is the most pieces of an article, available, locked and sold together.
const MaxLevel = int64(1) << 53

// Put sets how many pieces of an article are available, and creates the article if it is
// new. Locked and sold pieces do not change. If orders lock pieces between your count and
// Put, Put makes these pieces available again. So use [Stock.Add] and [Stock.Take] while
// orders run.
func (s *Stock) Put(ctx context.Context, sku string, available int64) error {
	return s.change(ctx, "put", sku, available, "available = ?")
}

// Add adds 0 to [MaxLevel] available pieces of an article, and creates the article if it
// is new. It is atomic: orders may run meanwhile.
func (s *Stock) Add(ctx context.Context, sku string, pieces int64) error {
	return s.change(ctx, "add", sku, pieces, "available = available + ?")
}

// Take removes 0 to [MaxLevel] available pieces of an article, for example broken ones.
// It does not take locked or sold pieces. If too few pieces are available, the error
// wraps a [*ShortError], and nothing changes. If the article is unknown, the error wraps
// [ErrUnknownSKU]. Take is atomic: orders may run meanwhile.
func (s *Stock) Take(ctx context.Context, sku string, pieces int64) error {
	if err := checkLevel("take", sku, pieces); err != nil {
		return err
	}
	err := s.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		result := tx.Exec("UPDATE saga_stock SET available = available - ? WHERE sku = ? AND available >= ?", pieces, sku, pieces)
		if result.Error != nil || result.RowsAffected == 1 {
			return result.Error
		}
		level, err := get(tx, sku)
		if err == nil && level.Available < pieces {
			err = &ShortError{SKU: sku, Wanted: pieces, Available: level.Available}
		}
		return err // nil for 0 pieces, which MySQL does not count as a change
	})
	var short *ShortError
	switch {
	case errors.As(err, &short):
		return fmt.Errorf("stock: take: %w", err) // it names the pieces and the article
	case err != nil:
		return fmt.Errorf("stock: take %d of %s: %w", pieces, sku, err)
	}
	return nil
}

func checkLevel(operation, sku string, n int64) error {
	if err := checkSKU(sku); err != nil {
		return fmt.Errorf("stock: %s: %w", operation, err)
	}
	if n < 0 || n > MaxLevel {
		return fmt.Errorf("stock: %s %d of %s: %w: 0 to %d are allowed", operation, n, sku, ErrInvalid, MaxLevel)
	}
	return nil
}

func (s *Stock) change(ctx context.Context, operation, sku string, n int64, set string) error {
	if err := checkLevel(operation, sku, n); err != nil {
		return err
	}
	err := s.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		// The insert locks the article, new or not.
		insert := "INSERT INTO saga_stock (sku, available, locked, sold) VALUES (?, 0, 0, 0) ON CONFLICT (sku) DO NOTHING"
		if tx.Dialector.Name() == "mysql" {
			insert = "INSERT INTO saga_stock (sku, available, locked, sold) VALUES (?, 0, 0, 0) ON DUPLICATE KEY UPDATE sku = sku"
		}
		if err := tx.Exec(insert, sku).Error; err != nil {
			return err
		}
		if err := tx.Exec("UPDATE saga_stock SET "+set+" WHERE sku = ?", n, sku).Error; err != nil {
			return err
		}
		level, err := get(tx, sku)
		if err == nil && level.Available+level.Locked+level.Sold > MaxLevel {
			return fmt.Errorf("%w: there would be more than %d", ErrInvalid, MaxLevel)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("stock: %s %d of %s: %w", operation, n, sku, err)
	}
	return nil
}

// Get returns the stock of an article, or an error that wraps [ErrUnknownSKU].
func (s *Stock) Get(ctx context.Context, sku string) (Level, error) {
	if err := checkSKU(sku); err != nil {
		return Level{}, fmt.Errorf("stock: get: %w", err)
	}
	level, err := get(s.db.WithContext(ctx), sku)
	if err != nil {
		return Level{}, fmt.Errorf("stock: get %s: %w", sku, err)
	}
	return level, nil
}

// List returns the stock of up to limit articles, sorted by SKU, that come after the
// given SKU.
func (s *Stock) List(ctx context.Context, after string, limit int) ([]Level, error) {
	var levels []Level
	err := s.db.WithContext(ctx).Raw("SELECT sku, available, locked, sold FROM saga_stock WHERE sku > ? ORDER BY sku LIMIT ?", after, limit).
		Scan(&levels).Error
	if err != nil {
		return nil, fmt.Errorf("stock: list: %w", err)
	}
	return levels, nil
}

// Holds lists up to limit holds, sorted by gid, branch and SKU, that come after the given
// hold. Begin with the zero Hold. Locks without [KeepHolds] have no holds.
//
// A filter with a GID, or with a SKU and Open, uses an index. Other filters read the
// whole table.
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
		return nil, fmt.Errorf("stock: list holds: %w", err)
	}
	return holds, nil
}

// Adjust lowers the locked pieces of an article in a hold to quantity, which may be 0.
// Confirm then sells only these pieces. The other pieces become available at once. If the
// hold was confirmed or cancelled, the error wraps [ErrNoHold]. If fewer pieces are
// locked than quantity, it wraps [ErrInvalid]. Repeating Adjust with the same quantity
// changes nothing and succeeds.
//
// Adjust works in the transaction tx. If tx is a handle of the stock's database without a
// transaction, Adjust begins one. For your own transaction on MySQL, use READ COMMITTED:
// REPEATABLE READ deadlocks with other holds. The operator is recorded; see [Stock.Acts].
//
// Call Adjust while the transaction is undecided. After the decision it takes effect only
// if it runs before the Confirm.
func (s *Stock) Adjust(ctx context.Context, tx *gorm.DB, gid, branchID, sku string, quantity int64, by saga.Operator) error {
	return s.act(ctx, tx, Hold{GID: gid, BranchID: branchID, SKU: sku}, Act{Act: "adjust", Operator: by}, quantity, adjust)
}

// Return takes sold pieces of an article back and makes them available at once. returned
// is the total for this hold, with the pieces of earlier calls. So repeating Return changes
// nothing and succeeds. If more than the sold pieces are returned, or fewer than
// before, the error wraps [ErrInvalid]. If the hold was not sold, it wraps [ErrNoHold]. If
// several transactions have used the gid one after the other, Return changes the hold of
// the last one.
//
// Return works in the transaction tx. If tx is a handle of the stock's database without a
// transaction, Return begins one. The operator is recorded; see [Stock.Acts].
func (s *Stock) Return(ctx context.Context, tx *gorm.DB, gid, branchID, sku string, returned int64, by saga.Operator) error {
	return s.act(ctx, tx, Hold{GID: gid, BranchID: branchID, SKU: sku}, Act{Act: "return", Operator: by}, returned, takeReturned)
}

// Acts returns the changes of a hold by operators, in their order.
func (s *Stock) Acts(ctx context.Context, gid, branchID, sku string) ([]Act, error) {
	db := s.db.WithContext(ctx)
	rows, err := db.Raw("SELECT number, act, pieces, who, why, "+clockOf(db).micros("acted_at")+" FROM saga_stock_acts WHERE gid = ? AND branch_id = ? AND sku = ? ORDER BY number", gid, branchID, sku).Rows()
	if err != nil {
		return nil, fmt.Errorf("stock: acts on transaction %s, branch %s: %w", gid, branchID, err)
	}
	defer rows.Close()
	var acts []Act
	for rows.Next() {
		var a Act
		var at int64
		if err := rows.Scan(&a.Number, &a.Act, &a.Pieces, &a.Who, &a.Why, &at); err != nil {
			return nil, fmt.Errorf("stock: acts on transaction %s, branch %s: %w", gid, branchID, err)
		}
		a.At = time.UnixMicro(at).UTC()
		acts = append(acts, a)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("stock: acts on transaction %s, branch %s: %w", gid, branchID, err)
	}
	return acts, nil
}

// act changes a hold and records the act, unless the hold stays as it is.
func (s *Stock) act(ctx context.Context, tx *gorm.DB, key Hold, a Act, n int64, change func(*gorm.DB, Hold, int64) (int64, error)) error {
	err := checkAct(key, a, n)
	if err == nil && tx == nil {
		err = fmt.Errorf("%w: the database handle is nil", ErrInvalid)
	}
	if err == nil {
		err = tx.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			pieces, changeErr := change(tx, key, n)
			if changeErr != nil || pieces == 0 {
				return changeErr
			}
			return tx.Exec("INSERT INTO saga_stock_acts (gid, branch_id, sku, number, act, pieces, who, why, acted_at) SELECT ?, ?, ?, COALESCE(MAX(number), 0) + 1, ?, ?, ?, ?, "+
				clockOf(tx).now+" FROM saga_stock_acts WHERE gid = ? AND branch_id = ? AND sku = ?",
				key.GID, key.BranchID, key.SKU, a.Act, pieces, a.Who, a.Why, key.GID, key.BranchID, key.SKU).Error
		}, isolation(tx)...)
	}
	if err != nil {
		return fmt.Errorf("stock: %s %s of transaction %s, branch %s, to %d: %w", a.Act, key.SKU, key.GID, key.BranchID, n, err)
	}
	return nil
}

func get(db *gorm.DB, sku string) (Level, error) {
	var levels []Level
	if err := db.Raw("SELECT sku, available, locked, sold FROM saga_stock WHERE sku = ?", sku).Scan(&levels).Error; err != nil {
		return Level{}, err
	}
	if len(levels) == 0 {
		return Level{}, ErrUnknownSKU
	}
	return levels[0], nil
}
