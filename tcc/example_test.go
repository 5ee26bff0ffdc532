package tcc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	sagasql "github.com/tccsaga/tccsaga/sql"
	"github.com/tccsaga/tccsaga/tcc"
)

// shop is what the examples run on: a database, with two phones in stock, and
// an orchestrator.
func shop() (orch *saga.Orchestrator, db *gorm.DB, closeShop func()) {
	dir, err := os.MkdirTemp("", "shop")
	ok(err)
	db, err = gorm.Open(sqlite.Open(filepath.Join(dir, "shop.db")+
		"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"), &gorm.Config{Logger: logger.Discard})
	ok(err)
	ctx, stop := context.WithCancel(context.Background())
	ok(sagasql.Migrate(ctx, db))
	orch, err = saga.Open(ctx, db, saga.Config{})
	ok(err)
	ok(tcc.Register(orch, stock.New(db)))
	ok(stock.New(db).Put(ctx, "phone", 2))
	done := make(chan error)
	go func() { done <- orch.Run(ctx) }()
	return orch, db, func() { stop(); <-done; os.RemoveAll(dir) }
}

func ok(err error) {
	if err != nil {
		panic(err)
	}
}

func phones(n int64) stock.Lock {
	return stock.Lock{Items: []stock.Item{{SKU: "phone", Quantity: n}}}
}

func ExampleExecute() {
	orch, _, closeShop := shop()
	defer closeShop()
	ctx := context.Background()

	outcome, err := tcc.Execute(ctx, orch, "order-1", phones(1))
	fmt.Println(outcome.State, err)

	// The same gid again: the same transaction, and no second lock.
	outcome, err = tcc.Execute(ctx, orch, "order-1", phones(1))
	fmt.Println(outcome.State, err)

	_, err = tcc.Execute(ctx, orch, "order-2", phones(5))
	var short *stock.ShortError
	fmt.Println(errors.Is(err, saga.ErrCancelled), errors.As(err, &short))
	fmt.Println(err)
	// Output:
	// confirmed <nil>
	// confirmed <nil>
	// true true
	// saga: order-2 is cancelled: stock.lock: stock of phone is short: 5 wanted, 1 available
}

func ExampleExecuteWith() {
	orch, _, closeShop := shop()
	defer closeShop()

	// Decided within a second, or cancelled; and the caller does not wait for
	// Confirms that take longer than the decision.
	outcome, err := tcc.ExecuteWith(context.Background(), orch, "order-1", saga.Options{Timeout: time.Second, ReturnDecided: true}, phones(1))
	fmt.Println(outcome.State.Decided(), err)
	// Output: true <nil>
}

// Pay within 15 minutes, or the stock is released.
func ExampleBegin() {
	orch, _, closeShop := shop()
	defer closeShop()
	ctx := context.Background()

	reservation, err := tcc.Begin(ctx, orch, "reservation-1", saga.Options{Timeout: 15 * time.Minute})
	ok(err)
	ok(reservation.Try(ctx, phones(1)))

	// Later, perhaps in another process:
	paid, err := tcc.Resume(ctx, orch, "reservation-1")
	ok(err)
	outcome, err := paid.Confirm(ctx)
	fmt.Println(outcome.State, err)
	// Output: confirmed <nil>
}

func ExampleTransaction_Cancel() {
	orch, _, closeShop := shop()
	defer closeShop()
	ctx := context.Background()

	reservation, err := tcc.Begin(ctx, orch, "reservation-1", saga.Options{})
	ok(err)
	ok(reservation.Try(ctx, phones(1)))
	outcome, err := reservation.Cancel(ctx, "the customer changed their mind")
	fmt.Println(outcome.State, outcome.Reason, err)
	// Output: cancelled the customer changed their mind <nil>
}

// Charge is the payload of a branch without a database.
type Charge struct{ Cents int64 }

func (Charge) Branch() string { return "card.charge" }

// Card calls a payment gateway; here it only prints.
type Card struct{}

func (Card) Try(ctx context.Context, in Charge) error {
	fmt.Println("authorize", in.Cents, "with key", tcc.CallOf(ctx).Key())
	return nil
}

func (Card) Confirm(ctx context.Context, in Charge) error {
	fmt.Println("capture with key", tcc.CallOf(ctx).Key())
	return nil
}

func (Card) Cancel(ctx context.Context, in Charge) error {
	fmt.Println("void with key", tcc.CallOf(ctx).Key())
	return nil
}

func ExampleRegisterExternal() {
	orch, _, closeShop := shop()
	defer closeShop()
	ok(tcc.RegisterExternal(orch, Card{}))

	ctx := context.Background()
	_, err := tcc.Execute(ctx, orch, "order-1", phones(1), Charge{700})
	fmt.Println(err)
	// The Trys come in the order of the plan: nobody asks the gateway if the stock
	// is short, unless the card comes first.
	_, err = tcc.Execute(ctx, orch, "order-2", phones(5), Charge{700})
	fmt.Println(err)
	_, err = tcc.Execute(ctx, orch, "order-3", Charge{700}, phones(5))
	fmt.Println(err)
	// Output:
	// authorize 700 with key order-1/02
	// capture with key order-1/02
	// <nil>
	// saga: order-2 is cancelled: stock.lock: stock of phone is short: 5 wanted, 1 available
	// authorize 700 with key order-3/01
	// void with key order-3/01
	// saga: order-3 is cancelled: stock.lock: stock of phone is short: 5 wanted, 1 available
}
