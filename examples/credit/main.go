// Command credit has a branch of its own, which holds credit of a customer. An order
// locks stock and holds credit, or does neither. It needs no server: it uses SQLite.
//
//	go run ./examples/credit
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/tcc"
)

func main() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "credit")
	check(err)
	defer os.RemoveAll(dir)
	db, err := gorm.Open(sqlite.Open("file:"+filepath.Join(dir, "shop.db")+
		"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"), &gorm.Config{Logger: logger.Discard})
	check(err)
	check(schema.Migrate(ctx, db))
	check(db.AutoMigrate(&Account{}))

	engine, err := embedded.Open(ctx, db, embedded.Config{})
	check(err)
	shelf := stock.New(db)
	check(errors.Join(tcc.Register(engine, shelf), tcc.Register(engine, Credit{})))
	go engine.Run(ctx)
	defer engine.Stop(ctx)

	check(shelf.Put(ctx, "phone", 2))
	check(db.Create(&Account{ID: "ann", Free: 1000}).Error)
	order(ctx, engine, "order-1") // takes 700 of the 1000 cents
	order(ctx, engine, "order-2") // finds 300, so its stock is given back

	level, err := shelf.Get(ctx, "phone")
	check(err)
	fmt.Printf("phones: %d available, %d locked, %d sold\n", level.Available, level.Locked, level.Sold)
}

func order(ctx context.Context, engine saga.Engine, gid string) {
	outcome, err := tcc.Execute(ctx, engine, gid,
		stock.Lock{Items: []stock.Item{{SKU: "phone", Quantity: 1}}},
		HoldCredit{Account: "ann", Cents: 700})
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
