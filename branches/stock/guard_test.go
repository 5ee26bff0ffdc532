package stock_test

import (
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// dropCheck removes the check constraint of saga_stock, as a careless person may.
func dropCheck(t *testing.T, db *gorm.DB) {
	t.Helper()
	if db.Name() != "sqlite" { // where a constraint cannot be dropped
		sagatest.Must(t, db.Exec("ALTER TABLE saga_stock DROP CONSTRAINT saga_stock_never_negative").Error)
		return
	}
	sagatest.Must(t, db.Exec("DROP TABLE saga_stock").Error)
	sagatest.Must(t, db.Exec("CREATE TABLE saga_stock (sku TEXT NOT NULL, available INTEGER NOT NULL, locked INTEGER NOT NULL, sold INTEGER NOT NULL, PRIMARY KEY (sku))").Error)
}

// The statements do not oversell by themselves: the check constraint is not what
// they rest on.
func TestNothingIsOversoldWithoutTheConstraint(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		dropCheck(t, db)
		s := stock.New(db)
		sagatest.Must(t, s.Put(t.Context(), "case", 100))
		sagatest.Must(t, s.Put(t.Context(), "phone", 10))
		locks := make([]tcc.Item[stock.Lock], 64)
		for i := range locks {
			locks[i].In = lock("phone", 1, "case", 1)
		}
		var locked []tcc.Item[stock.Lock]
		sagatest.Must(t, db.Transaction(func(tx *gorm.DB) error {
			failures, err := s.TryAll(t.Context(), tx, locks)
			for i, failure := range failures {
				if failure == nil {
					locked = append(locked, locks[i])
				}
			}
			return err
		}))
		if len(locked) != 10 {
			t.Errorf("%d of 64 locked one of 10 phones", len(locked))
		}
		sagatest.Must(t, db.Transaction(func(tx *gorm.DB) error { return s.ConfirmAll(t.Context(), tx, locked) }))
		level, err := s.Get(t.Context(), "phone")
		sagatest.Must(t, err)
		if want := (stock.Level{SKU: "phone", Sold: 10}); level != want {
			t.Errorf("the stock is %+v, want %+v", level, want)
		}
		if level, err = s.Get(t.Context(), "case"); err != nil || level != (stock.Level{SKU: "case", Available: 90, Sold: 10}) {
			t.Errorf("the stock is %+v, %v", level, err)
		}
		// More Confirms than were locked are refused, not sold out of nothing.
		if err := db.Transaction(func(tx *gorm.DB) error { return s.ConfirmAll(t.Context(), tx, locked[:1]) }); err == nil {
			t.Error("what is not locked was confirmed")
		}
	})
}
