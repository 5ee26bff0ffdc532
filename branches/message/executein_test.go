package message_test

import (
	"errors"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// An order of the caller's own, stock and a message: all of them, or none, in the caller's
// local transaction.
func TestOrderStockAndMessageInOneLocalTransaction(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		sagatest.Must(t, db.Exec("CREATE TABLE orders (id VARCHAR(64) PRIMARY KEY)").Error)
		errBack := errors.New("the caller rolls back")
		for n, c := range []struct {
			payloads []tcc.Payload
			end      error
		}{
			{[]tcc.Payload{b.publish("placed", "message alone")}, nil},
			{[]tcc.Payload{phones(1), b.publish("placed", "with stock")}, nil},
			{[]tcc.Payload{phones(1), b.publish("placed", "rolled back")}, errBack},
			{[]tcc.Payload{b.publish("placed", "one"), b.publish("paid", "two"), phones(2)}, nil},
		} {
			gid := sagatest.GID()
			err := db.Transaction(func(tx *gorm.DB) error {
				if err := tx.Exec("INSERT INTO orders VALUES (?)", gid).Error; err != nil {
					return err
				}
				_, err := tcc.ExecuteIn(t.Context(), b.orch, tx, gid, c.payloads...)
				return errors.Join(err, c.end)
			})
			if !errors.Is(err, c.end) {
				t.Fatalf("case %d: %v", n, err)
			}
			if c.end == nil {
				b.reaches(gid, saga.Confirmed)
			}
		}
		b.holds(b.name, 4)
		var left, orders int64
		sagatest.Must(t, db.Raw("SELECT available FROM saga_stock WHERE sku = 'phone'").Scan(&left).Error)
		sagatest.Must(t, db.Raw("SELECT COUNT(*) FROM orders").Scan(&orders).Error)
		if left != 7 || orders != 3 {
			t.Errorf("%d phones are left and %d orders are there, want 7 and 3", left, orders)
		}
	})
}
