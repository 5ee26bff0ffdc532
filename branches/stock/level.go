package stock

import (
	"context"
	"fmt"

	"gorm.io/gorm"
)

// Level is the stock of an article.
type Level struct {
	SKU       string `json:"sku"`
	Available int64  `json:"available"` // free to be locked
	Locked    int64  `json:"locked"`    // locked by transactions that are not finished
	Sold      int64  `json:"sold"`      // taken by confirmed transactions
}

// MaxLevel is the most pieces of an article that there can be: available,
// locked and sold together.
const MaxLevel = int64(1) << 53

// Put sets how many pieces of an article are available, and creates the article
// if it is new. Locked and sold pieces stay as they are. It overwrites what orders
// have taken since the number was read: while orders run, use [Stock.Add] and
// [Stock.Take].
func (s *Stock) Put(ctx context.Context, sku string, available int64) error {
	return s.change(ctx, "putting", sku, available, "available = ?")
}

// Add puts 0 to [MaxLevel] pieces of an article in, and creates the article if it
// is new. It is atomic: orders may run meanwhile.
func (s *Stock) Add(ctx context.Context, sku string, pieces int64) error {
	return s.change(ctx, "adding", sku, pieces, "available = available + ?")
}

// Take takes 0 to [MaxLevel] available pieces of an article out, such as broken
// ones. It takes none that are locked or sold: with fewer available the error is a
// [*ShortError], and nothing changes. An unknown article is [ErrUnknownSKU]. It is
// atomic: orders may run meanwhile.
func (s *Stock) Take(ctx context.Context, sku string, pieces int64) error {
	if err := checkLevel("taking", sku, pieces); err != nil {
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
	if err != nil {
		return fmt.Errorf("stock: taking %d of %s: %w", pieces, sku, err)
	}
	return nil
}

func checkLevel(doing, sku string, n int64) error {
	if err := checkSKU(sku); err != nil {
		return fmt.Errorf("stock: %s: %w", doing, err)
	}
	if n < 0 || n > MaxLevel {
		return fmt.Errorf("stock: %s %d of %s: %w: 0 to %d are allowed", doing, n, sku, ErrInvalid, MaxLevel)
	}
	return nil
}

func (s *Stock) change(ctx context.Context, doing, sku string, n int64, set string) error {
	if err := checkLevel(doing, sku, n); err != nil {
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
		return fmt.Errorf("stock: %s %d of %s: %w", doing, n, sku, err)
	}
	return nil
}

// Get returns the stock of an article, or an error that wraps [ErrUnknownSKU].
func (s *Stock) Get(ctx context.Context, sku string) (Level, error) {
	if err := checkSKU(sku); err != nil {
		return Level{}, fmt.Errorf("stock: %w", err)
	}
	return get(s.db.WithContext(ctx), sku)
}

// List returns the stock of up to limit articles with SKUs after the given one,
// by SKU.
func (s *Stock) List(ctx context.Context, after string, limit int) ([]Level, error) {
	var levels []Level
	err := s.db.WithContext(ctx).Raw("SELECT sku, available, locked, sold FROM saga_stock WHERE sku > ? ORDER BY sku LIMIT ?", after, limit).
		Scan(&levels).Error
	if err != nil {
		return nil, fmt.Errorf("stock: listing: %w", err)
	}
	return levels, nil
}

func get(db *gorm.DB, sku string) (Level, error) {
	var levels []Level
	if err := db.Raw("SELECT sku, available, locked, sold FROM saga_stock WHERE sku = ?", sku).Scan(&levels).Error; err != nil {
		return Level{}, fmt.Errorf("stock: reading %s: %w", sku, err)
	}
	if len(levels) == 0 {
		return Level{}, fmt.Errorf("%s: %w", sku, ErrUnknownSKU)
	}
	return levels[0], nil
}
