package stock_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

var errBack = errors.New("roll back")

// Locks of many at once, and their Confirms, come to the same as one after the
// other.
func TestAllAtOnceIsOneAfterTheOther(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s := stock.New(db)
		for i := range 4 {
			sagatest.Must(t, s.Put(t.Context(), fmt.Sprint("sku-", i), int64(5*i)))
		}
		for seed := range uint64(80) {
			random := rand.New(rand.NewPCG(seed, 0))
			if seed%2 == 0 {
				s = stock.New(db) // which does not know yet that there is too little
			}
			locks := make([]tcc.Item[stock.Lock], 1+random.IntN(1+random.IntN(12)))
			for i := range locks {
				for range 1 + random.IntN(3) {
					item := stock.Item{SKU: fmt.Sprint("sku-", random.IntN(5)), Quantity: int64(random.IntN(6))} // also unknown, and none
					locks[i].In.Items = append(locks[i].In.Items, item)
				}
			}
			var atOnce, oneByOne []string
			err := db.Transaction(func(tx *gorm.DB) error {
				failures, err := s.TryAll(t.Context(), tx, locks)
				sagatest.Must(t, err)
				var locked []tcc.Item[stock.Lock]
				for i, failure := range failures {
					atOnce = append(atOnce, fmt.Sprint(failure))
					if failure == nil {
						locked = append(locked, locks[i])
					}
				}
				atOnce = append(atOnce, levels(t, tx))
				sagatest.Must(t, s.ConfirmAll(t.Context(), tx, locked))
				atOnce = append(atOnce, levels(t, tx))
				return errBack
			})
			if !errors.Is(err, errBack) {
				t.Fatal(err)
			}
			err = db.Transaction(func(tx *gorm.DB) error {
				var locked []tcc.Item[stock.Lock]
				for _, lock := range locks {
					sagatest.Must(t, tx.SavePoint("s").Error)
					err := s.Try(t.Context(), tx, lock.In)
					oneByOne = append(oneByOne, fmt.Sprint(err))
					if err == nil {
						locked = append(locked, lock)
					} else {
						sagatest.Must(t, tx.RollbackTo("s").Error)
					}
				}
				oneByOne = append(oneByOne, levels(t, tx))
				for _, lock := range locked {
					sagatest.Must(t, s.Confirm(t.Context(), tx, lock.In))
				}
				oneByOne = append(oneByOne, levels(t, tx))
				return errBack
			})
			if !errors.Is(err, errBack) {
				t.Fatal(err)
			}
			if !slices.Equal(atOnce, oneByOne) {
				t.Fatalf("seed %d: at once\n%q\none by one\n%q", seed, atOnce, oneByOne)
			}
		}
	})
}

func levels(t *testing.T, tx *gorm.DB) string {
	t.Helper()
	var rows []struct {
		SKU                     string `gorm:"column:sku"`
		Available, Locked, Sold int64
	}
	sagatest.Must(t, tx.Raw("SELECT sku, available, locked, sold FROM saga_stock ORDER BY sku").Scan(&rows).Error)
	return fmt.Sprint(rows)
}
