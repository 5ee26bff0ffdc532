package message_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// The order is in a database of its own, and its COMMIT decides: then the stock is locked and
// the messages are published. If the order fails, nothing is.
func TestMessagesFollowAnOrderInAnotherDatabase(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		dialect := map[string]string{"sqlite": "sqlite", "mysql": "postgres", "postgres": "mysql"}[db.Name()]
		ordersDB := sqltest.Open(t, dialect)
		sqltest.Exec(t, ordersDB, "CREATE TABLE orders (id VARCHAR(64) PRIMARY KEY)")
		sagatest.Must(t, b.orch.Register(saga.NewDatabase("orders", ordersDB)))
		for n, fails := range []bool{false, true, false} {
			gid := sagatest.GID()
			work := func(_ context.Context, tx *gorm.DB) error {
				if err := tx.Exec("INSERT INTO orders VALUES (?)", gid).Error; err != nil || !fails {
					return err
				}
				return tcc.Reject(errors.New("the customer is unknown"))
			}
			_, err := tcc.ExecuteWith(t.Context(), b.orch, gid, saga.Options{LocalWork: work, LocalWorkIn: "orders"},
				phones(2), b.publish("placed", fmt.Sprint("placed ", n)), b.publish("paid", fmt.Sprint("paid ", n)))
			end := saga.Confirmed
			if fails {
				end = saga.Cancelled
			}
			if errors.Is(err, saga.ErrCancelled) != fails {
				t.Errorf("order %d: %v", n, err)
			}
			b.reaches(gid, end)
		}
		b.holds(b.name, 4)
		var left, orders int64
		sagatest.Must(t, db.Raw("SELECT available FROM saga_stock WHERE sku = 'phone'").Scan(&left).Error)
		sagatest.Must(t, ordersDB.Raw("SELECT COUNT(*) FROM orders").Scan(&orders).Error)
		if left != 6 || orders != 2 {
			t.Errorf("%d phones are left and %d orders are there, want 6 and 2", left, orders)
		}
	})
}
