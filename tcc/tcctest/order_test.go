package tcctest_test

import (
	"context"
	"errors"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc/tcctest"
)

func migrate(t testing.TB, db *gorm.DB) {
	t.Helper()
	if err := schema.Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
}

// place places an order, which is closed when it is cancelled.
type place struct{ OrderID string }

func (place) Branch() string { return "order.place" }

type orders struct{}

func (orders) Try(_ context.Context, tx *gorm.DB, in place) error {
	return tx.Exec("INSERT INTO orders (id, state) VALUES (?, 'pending')", in.OrderID).Error
}

func (o orders) Confirm(_ context.Context, tx *gorm.DB, in place) error {
	return o.end(tx, in, "placed")
}
func (o orders) Cancel(_ context.Context, tx *gorm.DB, in place) error {
	return o.end(tx, in, "closed")
}

func (orders) end(tx *gorm.DB, in place, state string) error {
	result := tx.Exec("UPDATE orders SET state = ? WHERE id = ? AND state = 'pending'", state, in.OrderID)
	if result.Error == nil && result.RowsAffected != 1 {
		return errors.New("the order is not pending")
	}
	return result.Error
}

func order1(cancelled any) tcctest.Case[place] {
	return tcctest.Case[place]{
		Name: "order 1", Payload: place{"1"},
		Reset: func(ctx context.Context, db *gorm.DB) error {
			return db.WithContext(ctx).Exec("DELETE FROM orders").Error
		},
		State: func(ctx context.Context, db *gorm.DB) (any, error) {
			states := []string{}
			return states, db.WithContext(ctx).Raw("SELECT state FROM orders ORDER BY id").Scan(&states).Error
		},
		Tried: []string{"pending"}, Confirmed: []string{"placed"}, Cancelled: cancelled,
	}
}

// Cancel may end in a state of its own, which the case states.
func TestOrderThatEndsClosed(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		if err := db.Exec("CREATE TABLE orders (id VARCHAR(20) PRIMARY KEY, state VARCHAR(20) NOT NULL)").Error; err != nil {
			t.Fatal(err)
		}
		tcctest.Exercise(t, db, orders{}, order1([]string{"closed"}))
		for says, cancelled := range map[string]any{
			"order.place, after Try, Cancel: the state is [closed], want []: let Cancel give back exactly what Try has reserved, or state what it leaves as Case.Cancelled if that is right": nil,
			"order.place, after Try, Cancel: the state is [closed], want [refused]: that is not Case.Cancelled: look for a wrong column, amount or condition":                                []string{"refused"},
		} {
			if got := record(t, func(t testing.TB) { tcctest.Exercise(t, db, orders{}, order1(cancelled)) }); got != says {
				t.Errorf("said:\n%s\nwant:\n%s", got, says)
			}
		}
	})
}
