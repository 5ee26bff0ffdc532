package tcc_test

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/tcc"
)

// PlacedOrder is a row of the shop's own.
type PlacedOrder struct{ ID string }

// The shop writes its order and locks stock in one local transaction of its own: both are
// there after the commit, or neither.
func ExampleExecuteIn() {
	orch, db, closeShop := shop()
	defer closeShop()
	ctx := context.Background()
	ok(db.AutoMigrate(&PlacedOrder{}))

	err := db.Transaction(func(tx *gorm.DB) error {
		if err := tx.Create(&PlacedOrder{ID: "order-1"}).Error; err != nil {
			return err
		}
		_, err := tcc.ExecuteIn(ctx, orch, tx, "order-1", phones(1))
		return err // an error rolls both back
	})
	ok(err)

	outcome, err := orch.Wait(ctx, "order-1")
	fmt.Println(outcome.State, err)
	// Output: confirmed <nil>
}

// The engine runs the shop's own work in the local transaction that decides. The other
// branches may live anywhere.
func ExampleExecuteWith_localWork() {
	orch, db, closeShop := shop()
	defer closeShop()
	ctx := context.Background()
	ok(db.AutoMigrate(&PlacedOrder{}))
	placeOrder := func(_ context.Context, tx *gorm.DB) error {
		return tx.Create(&PlacedOrder{ID: "order-1"}).Error
	}

	_, err := tcc.ExecuteWith(ctx, orch, "order-1", saga.Options{LocalWork: placeOrder}, phones(3)) // there are two
	fmt.Println(err)
	_, err = tcc.ExecuteWith(ctx, orch, "order-2", saga.Options{LocalWork: placeOrder}, phones(2))
	fmt.Println(err)

	var orders int64
	ok(db.Model(&PlacedOrder{}).Count(&orders).Error)
	fmt.Println(orders, "order")
	// Output:
	// saga: order-1 is cancelled: stock.lock: stock of phone is short: 3 wanted, 2 available
	// <nil>
	// 1 order
}
