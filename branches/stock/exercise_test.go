package stock_test

import (
	"context"
	"fmt"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc/tcctest"
)

// The stock stands every dangerous order of calls.
func TestExercise(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s := stock.New(db)
		levels := func(ctx context.Context, db *gorm.DB) ([]stock.Level, error) { return s.List(ctx, "", 10) }
		tcctest.Exercise(t, db, s, tcctest.Case[stock.Lock]{
			Name:    "several articles",
			Payload: lock("phone", 2, "cable", 1, "phone", 1),
			Reset: func(ctx context.Context, db *gorm.DB) error {
				return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
					if err := tx.Exec("DELETE FROM saga_stock").Error; err != nil {
						return err
					}
					return tx.Exec("INSERT INTO saga_stock (sku, available, locked, sold) VALUES ('cable', 100, 0, 0), ('phone', 10, 0, 0)").Error
				})
			},
			State: func(ctx context.Context, db *gorm.DB) (any, error) { return levels(ctx, db) },
			Holds: func(ctx context.Context, db *gorm.DB) error {
				all, err := levels(ctx, db)
				for _, level := range all {
					if total := level.Available + level.Locked + level.Sold; err == nil && (total != map[string]int64{"cable": 100, "phone": 10}[level.SKU] || level.Available < 0) {
						err = fmt.Errorf("%+v does not add up", level)
					}
				}
				return err
			},
			Capacity: 3,
		})
	})
}
