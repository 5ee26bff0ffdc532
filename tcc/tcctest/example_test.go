package tcctest_test

import (
	"context"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/tcc/tcctest"
)

// In a test of your own: the payload, what it works on, and how often there is
// enough of it.
func Example() {
	var db *gorm.DB // your test database

	test := func(t *testing.T) {
		tcctest.Exercise(t, db, newCredit(), tcctest.Case[hold]{
			Payload: hold{Cents: 30},
			Reset: func(ctx context.Context, db *gorm.DB) error {
				return db.WithContext(ctx).Exec("UPDATE account SET free = 100, held = 0, spent = 0").Error
			},
			State: func(ctx context.Context, db *gorm.DB) (any, error) {
				var row struct{ Free, Held, Spent int }
				err := db.WithContext(ctx).Raw("SELECT free, held, spent FROM account").Scan(&row).Error
				return row, err
			},
			Capacity: 3,
		})
	}
	_ = test // func TestCredit(t *testing.T)
}
