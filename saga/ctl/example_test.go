package ctl_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/ctl"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/tcc"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// openDatabases opens the databases of a shop: one with the log, and one with the stock.
func openDatabases() (log, warehouse *gorm.DB, remove func()) {
	dir, err := os.MkdirTemp("", "shop")
	must(err)
	open := func(name string) *gorm.DB {
		db, err := gorm.Open(sqlite.Open(filepath.Join(dir, name) + "?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"))
		must(err)
		must(schema.Migrate(context.Background(), db))
		return db
	}
	return open("log.db"), open("warehouse.db"), func() { os.RemoveAll(dir) }
}

// A shop puts the command into its own binary, as "shop saga ...". The binary knows the other
// databases, so "tx show" has their barrier rows too.
func ExampleMain() {
	db, warehouse, remove := openDatabases()
	defer remove()
	ctx := context.Background()
	register := func(r saga.Registrar) error { return tcc.Register(r, stock.New(warehouse)) }

	// This is what the shop does all day.
	engine, err := embedded.Open(ctx, db, embedded.Config{Logger: slog.New(slog.DiscardHandler)})
	must(err)
	must(register(engine))
	go engine.Run(ctx)
	defer engine.Stop(ctx)
	must(stock.New(warehouse).Put(ctx, "phone", 2))
	_, err = tcc.Execute(ctx, engine, "order-1001", stock.Lock{Items: []stock.Item{{SKU: "phone", Quantity: 1}}})
	must(err)

	// os.Exit(ctl.Main(ctx, os.Args[2:], config)), if os.Args[1] is "saga".
	var out bytes.Buffer
	config := ctl.Config{Name: "shop", DB: db, Register: register, Out: &out}
	code := ctl.Main(ctx, []string{"tx", "show", "order-1001", "-o", "json"}, config)
	var found saga.Transaction
	must(json.Unmarshal(out.Bytes(), &found))
	fmt.Println(code, found.State, found.Branches[0].Barrier.State)

	out.Reset()
	config.Err = &out
	code = ctl.Main(ctx, []string{"tx", "retry", "order-1001", "--why", "an example"}, config)
	fmt.Println(code, strings.TrimSpace(out.String()))
	// Output:
	// 0 confirmed confirmed
	// 4 shop: saga: retry order-1001: it is confirmed already: refused
}
