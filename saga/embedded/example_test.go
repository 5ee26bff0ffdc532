package embedded_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/tcc"
)

func ok(err error) {
	if err != nil {
		panic(err)
	}
}

// openShop opens a database with two phones in stock.
func openShop() (db *gorm.DB, remove func()) {
	dir, err := os.MkdirTemp("", "shop")
	ok(err)
	db, err = gorm.Open(sqlite.Open(filepath.Join(dir, "shop.db") +
		"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"))
	ok(err)
	ok(schema.Migrate(context.Background(), db))
	ok(stock.New(db).Put(context.Background(), "phone", 2))
	return db, func() { os.RemoveAll(dir) }
}

func Example() {
	db, remove := openShop()
	defer remove()
	ctx, stop := context.WithCancel(context.Background())

	orch, err := embedded.Open(ctx, db, embedded.Config{})
	ok(err)
	ok(tcc.Register(orch, stock.New(db)))
	done := make(chan error)
	go func() { done <- orch.Run(ctx) }()

	outcome, err := tcc.Execute(ctx, orch, "order-1", stock.Lock{Items: []stock.Item{{SKU: "phone", Quantity: 1}}})
	fmt.Println(outcome.State, err)

	stop() // Run waits for what is under way
	fmt.Println(<-done)
	// Output:
	// confirmed <nil>
	// <nil>
}

// What happened to a transaction, and why?
func ExampleEngine_Lookup() {
	db, remove := openShop()
	defer remove()
	ctx := context.Background()
	orch, err := embedded.Open(ctx, db, embedded.Config{})
	ok(err)
	ok(tcc.Register(orch, stock.New(db)))
	defer orch.Stop(ctx)

	reservation, err := tcc.BeginWith(ctx, orch, "reservation-1", saga.Options{Timeout: time.Hour})
	ok(err)
	ok(reservation.Try(ctx, stock.Lock{Items: []stock.Item{{SKU: "phone", Quantity: 1}}}))

	found, err := orch.Lookup(ctx, "reservation-1")
	ok(err)
	fmt.Println(found.State.Explain())
	for _, branch := range found.Branches {
		fmt.Println(branch.ID, branch.Kind, branch.Barrier.Explain())
	}
	// Output:
	// undecided: branches may still be added; at the deadline it is cancelled
	// 01 stock.lock Try has run; neither Confirm nor Cancel has run yet
}

// What is not finished yet?
func ExampleEngine_List() {
	db, remove := openShop()
	defer remove()
	ctx := context.Background()
	orch, err := embedded.Open(ctx, db, embedded.Config{})
	ok(err)
	ok(tcc.Register(orch, stock.New(db)))
	defer orch.Stop(ctx)

	_, err = tcc.Begin(ctx, orch, "reservation-1")
	ok(err)
	_, err = tcc.Execute(ctx, orch, "order-1", stock.Lock{Items: []stock.Item{{SKU: "phone", Quantity: 1}}})
	ok(err)

	unfinished, err := orch.List(ctx, saga.Filter{Unfinished: true})
	ok(err)
	for _, t := range unfinished {
		fmt.Println(t.GID, t.State)
	}
	// Output: reservation-1 trying
}

// A process without an engine looks at transactions, and acts on one.
func ExampleOpenOperations() {
	db, remove := openShop()
	defer remove()
	ctx := context.Background()
	orch, err := embedded.Open(ctx, db, embedded.Config{})
	ok(err)
	ok(tcc.Register(orch, stock.New(db)))
	defer orch.Stop(ctx)
	_, err = tcc.Begin(ctx, orch, "reservation-1")
	ok(err)

	operations, err := embedded.OpenOperations(ctx, db, embedded.OperationsConfig{})
	ok(err)
	defer operations.Close()
	page, err := operations.Find(ctx, saga.Query{Unfinished: true, OldestFirst: true})
	ok(err)
	for _, t := range page.Transactions {
		fmt.Println(t.GID, t.State)
	}
	_, err = operations.Decide(ctx, "reservation-1", saga.Cancelling, saga.Operator{Who: "alice", Why: "the customer called"})
	ok(err)
	acts, err := operations.Actions(ctx, saga.ActionQuery{})
	ok(err)
	for _, act := range acts.Actions {
		fmt.Println(act.Name, act.GID, "by", act.Who)
	}
	// Output:
	// reservation-1 trying
	// cancel reservation-1 by alice
}
