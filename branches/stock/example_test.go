package stock_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/tcc"
)

func Example() {
	dir, err := os.MkdirTemp("", "stock")
	ok(err)
	defer os.RemoveAll(dir)
	db, err := gorm.Open(sqlite.Open(filepath.Join(dir, "shop.db")+
		"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"), &gorm.Config{Logger: logger.Discard})
	ok(err)
	ctx, stop := context.WithCancel(context.Background())
	ok(schema.Migrate(ctx, db))

	articles := stock.New(db)
	ok(articles.Put(ctx, "phone", 3))
	ok(articles.Put(ctx, "case", 1))

	orch, err := embedded.Open(ctx, db, embedded.Config{})
	ok(err)
	ok(tcc.Register(orch, articles))
	ended := make(chan error)
	go func() { ended <- orch.Run(ctx) }()
	defer func() { stop(); <-ended }()

	both := stock.Lock{Items: []stock.Item{{SKU: "phone", Quantity: 1}, {SKU: "case", Quantity: 1}}}
	outcome, err := tcc.Execute(ctx, orch, "order-1", both)
	fmt.Println(outcome.State, err)

	// There is one case less now, so the second order gets nothing at all.
	_, err = tcc.Execute(ctx, orch, "order-2", both)
	var short *stock.ShortError
	if errors.As(err, &short) {
		fmt.Println(short)
	}
	levels, err := articles.List(ctx, "", 10)
	ok(err)
	for _, l := range levels {
		fmt.Printf("%s: %d available, %d locked, %d sold\n", l.SKU, l.Available, l.Locked, l.Sold)
	}
	// Output:
	// confirmed <nil>
	// stock of case is short: 1 wanted, 0 available
	// case: 0 available, 0 locked, 1 sold
	// phone: 2 available, 0 locked, 1 sold
}

func ok(err error) {
	if err != nil {
		panic(err)
	}
}
