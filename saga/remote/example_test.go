package remote_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/tcc"
)

// open opens a SQLite file with the schema.
func open(ctx context.Context, file string) *gorm.DB {
	db, err := gorm.Open(sqlite.Open("file:"+file+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"),
		&gorm.Config{Logger: logger.Discard})
	check(err)
	check(schema.Migrate(ctx, db))
	return db
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Two services, each with a database of its own. Commonly they are two programs.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer os.RemoveAll(dir)
	key, err := remote.NewKey("2026-11", []byte("32 random bytes from a safe place"))
	check(err)
	keys := []remote.Key{key}

	// The stock service hosts its branch.
	db := open(ctx, filepath.Join(dir, "stock.db"))
	shelf := stock.New(db)
	check(shelf.Put(ctx, "phone", 10))
	host, err := remote.NewHost(ctx, db, remote.HostConfig{Name: "stock", Keys: keys})
	check(err)
	check(tcc.Register(host, shelf))
	mux := http.NewServeMux()
	mux.Handle("/branches/", host) // with gin: router.POST("/branches/:kind", gin.WrapH(host))
	stockService := httptest.NewServer(mux)
	defer stockService.Close()

	// The order service runs the transactions.
	orch, err := embedded.Open(ctx, open(ctx, filepath.Join(dir, "orders.db")), embedded.Config{Logger: slog.New(slog.DiscardHandler)})
	check(err)
	shelves, err := remote.NewService(stockService.URL+"/branches", remote.ServiceConfig{Name: "stock", Keys: keys})
	check(err)
	check(tcc.RegisterRemote[stock.Lock](orch, shelves))
	go orch.Run(ctx)
	defer orch.Stop(ctx)

	outcome, err := tcc.Execute(ctx, orch, "order-1", stock.Lock{Items: []stock.Item{{SKU: "phone", Quantity: 3}}})
	check(err)
	fmt.Println(outcome.GID, "is", outcome.State)
	_, err = tcc.Execute(ctx, orch, "order-2", stock.Lock{Items: []stock.Item{{SKU: "phone", Quantity: 8}}})
	fmt.Println(err)
	level, err := shelf.Get(ctx, "phone")
	check(err)
	fmt.Println(level.Available, "available,", level.Locked, "locked,", level.Sold, "sold")
	// Output:
	// order-1 is confirmed
	// saga: order-2 is cancelled: stock.lock: stock of phone is short: 8 wanted, 7 available
	// 7 available, 0 locked, 3 sold
}
