// Command quickstart places two orders for phones: the stock suffices for one of them.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"

	"gorm.io/driver/mysql"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/tcc"
)

var dsn = "root:secret@tcp(127.0.0.1:3306)/shop?interpolateParams=true"

func main() {
	ctx := context.Background()
	db, err := gorm.Open(mysql.Open(dsn))
	check(err)
	check(schema.Migrate(ctx, db)) // creates the tables, all named saga_...

	engine, err := embedded.Open(ctx, db, embedded.Config{})
	check(err)
	shelf := stock.New(db)
	check(tcc.Register(engine, shelf)) // once for each kind of branch
	go engine.Run(ctx)                 // retries, deadlines, recovery
	defer engine.Stop(ctx)

	check(shelf.Put(ctx, "phone", 10))
	order(ctx, engine, "order-1001", 1)
	order(ctx, engine, "order-1002", 99)

	level, err := shelf.Get(ctx, "phone")
	check(err)
	fmt.Printf("phones: %d available, %d sold\n", level.Available, level.Sold)
}

func order(ctx context.Context, engine saga.Engine, gid string, phones int64) {
	outcome, err := tcc.Execute(ctx, engine, gid,
		stock.Lock{Items: []stock.Item{{SKU: "phone", Quantity: phones}}})
	if errors.Is(err, saga.ErrCancelled) {
		fmt.Println(gid, "is cancelled:", outcome.Reason)
		return
	}
	check(err)
	fmt.Println(gid, "is", outcome.State)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
