package remote_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/participant"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/tcc"
)

// The order service confirms an order, and then its calls do not reach the stock service any
// more. The stock service asks for the outcome, and ends its branch.
func ExampleOutcomes() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer os.RemoveAll(dir)
	key, err := remote.NewKey("2026-11", []byte("32 random bytes from a safe place"))
	check(err)
	keys := []remote.Key{key}

	// The order service has the engine, and answers questions.
	orders, err := embedded.Open(ctx, open(ctx, filepath.Join(dir, "orders.db")), embedded.Config{Logger: slog.New(slog.DiscardHandler)})
	check(err)
	outcomes, err := remote.NewOutcomes(orders, remote.OutcomesConfig{Name: "orders", Keys: keys})
	check(err)
	orderService := httptest.NewServer(outcomes) // commonly: mux.Handle("/outcomes", outcomes)
	defer orderService.Close()

	// The stock service asks it.
	engine, err := remote.NewEngine(orderService.URL+"/outcomes", remote.EngineConfig{Name: "orders", Keys: keys})
	check(err)
	db := open(ctx, filepath.Join(dir, "stock.db"))
	shelf := stock.New(db)
	check(shelf.Put(ctx, "phone", 10))
	host, err := remote.NewHost(ctx, db, remote.HostConfig{Name: "stock", Keys: keys,
		Outcomes: []participant.Outcomes{engine}, AskAfter: 20 * time.Millisecond}) // commonly minutes
	check(err)
	check(tcc.Register(host, shelf))
	var cut atomic.Bool
	stockService := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cut.Swap(true) { // after the Try
			panic(http.ErrAbortHandler)
		}
		host.ServeHTTP(w, r)
	}))
	defer stockService.Close()

	shelves, err := remote.NewService(stockService.URL+"/branches", remote.ServiceConfig{Name: "stock", Keys: keys})
	check(err)
	check(tcc.RegisterRemote[stock.Lock](orders, shelves))
	go orders.Run(ctx)
	outcome, err := tcc.Execute(ctx, orders, "order-1", stock.Lock{Items: []stock.Item{{SKU: "phone", Quantity: 3}}})
	check(err)
	fmt.Println(outcome.GID, "is", outcome.State)

	// Commonly: go host.Run(ctx), which asks again and again.
	for ended := 0; ended == 0; {
		ended, err = host.AskOutcomes(ctx)
		check(err)
	}
	level, err := shelf.Get(ctx, "phone")
	check(err)
	fmt.Println(level.Available, "available,", level.Locked, "locked,", level.Sold, "sold")
	check(orders.Stop(ctx))
	// Output:
	// order-1 is confirming
	// 7 available, 0 locked, 3 sold
}
