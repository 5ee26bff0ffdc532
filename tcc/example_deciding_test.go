package tcc_test

import (
	"context"
	"fmt"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/tcc"
)

// The orders are in a database of their own. The COMMIT of the order there decides the
// transaction: the stock is sold if and only if the order is there.
func ExampleExecuteWith_localWorkIn() {
	orch, _, closeShop := shop()
	defer closeShop()
	ctx := context.Background()
	ordersDB, err := gorm.Open(sqlite.Open("file:orders?mode=memory&cache=shared&_txlock=immediate"), &gorm.Config{Logger: logger.Discard})
	ok(err)
	ok(schema.Migrate(ctx, ordersDB)) // for the barrier row of the order
	ok(ordersDB.AutoMigrate(&PlacedOrder{}))
	ok(orch.Register(saga.NewDatabase("orders", ordersDB)))

	place := func(id string) (saga.Outcome, error) {
		return tcc.ExecuteWith(ctx, orch, id, saga.Options{
			LocalWorkIn: "orders",
			LocalWork: func(_ context.Context, tx *gorm.DB) error {
				return tx.Create(&PlacedOrder{ID: id}).Error
			},
		}, phones(1))
	}
	outcome, err := place("order-1")
	fmt.Println(outcome.State, err)
	outcome, err = place("order-1") // the outcome of the same transaction
	fmt.Println(outcome.State, err)

	var orders int64
	ok(ordersDB.Model(&PlacedOrder{}).Count(&orders).Error)
	fmt.Println(orders, "order")
	// Output:
	// confirmed <nil>
	// confirmed <nil>
	// 1 order
}
