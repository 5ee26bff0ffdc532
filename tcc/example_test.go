package tcc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/tcc"
)

// shop is what the examples run on: a database, with two phones in stock, and
// an engine.
func shop() (orch *embedded.Engine, db *gorm.DB, closeShop func()) {
	dir, err := os.MkdirTemp("", "shop")
	ok(err)
	db, err = gorm.Open(sqlite.Open(filepath.Join(dir, "shop.db")+
		"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"), &gorm.Config{Logger: logger.Discard})
	ok(err)
	ctx, stop := context.WithCancel(context.Background())
	ok(schema.Migrate(ctx, db))
	orch, err = embedded.Open(ctx, db, embedded.Config{})
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

// answer is what a shop tells its customer.
func answer(outcome saga.Outcome, err error) string {
	var no *saga.Rejection
	switch {
	case errors.Is(err, saga.ErrCancelled) && errors.As(err, &no):
		return "we cannot take your order: " + no.Error()
	case errors.Is(err, saga.ErrCancelled):
		return "something went wrong, and nothing was ordered"
	case errors.Is(err, saga.ErrUnknown):
		return "please ask again with the same order number"
	case err != nil:
		return "nothing was begun: " + err.Error()
	case outcome.Finished():
		return "your order is complete"
	default: // confirming: it is certain, and not everything is done yet
		return "your order is accepted, and will be complete soon"
	}
}

// No error means that the transaction is decided to be confirmed. The outcome says
// whether every branch is confirmed already.
func ExampleExecute() {
	orch, _, closeShop := shop()
	defer closeShop()
	mail := &Mail{sent: make(chan struct{})}
	ok(tcc.RegisterExternal(orch, mail))
	ctx := context.Background()

	fmt.Println(answer(tcc.Execute(ctx, orch, "order-1", phones(1))))

	// The same gid again: the same transaction, and no second lock.
	fmt.Println(answer(tcc.Execute(ctx, orch, "order-1", phones(1))))

	fmt.Println(answer(tcc.Execute(ctx, orch, "order-2", phones(5))))

	// The mail cannot be sent yet, and is tried again.
	fmt.Println(answer(tcc.Execute(ctx, orch, "order-3", phones(1), Thanks{"alice"})))
	<-mail.sent
	// Output:
	// your order is complete
	// your order is complete
	// we cannot take your order: stock of phone is short: 5 wanted, 1 available
	// your order is accepted, and will be complete soon
}

// Thanks is the payload of a branch that sends a mail when all is confirmed.
type Thanks struct{ To string }

func (Thanks) Branch() string { return "mail.thanks" }

// Mail fails to send each mail at first.
type Mail struct {
	calls atomic.Int32
	sent  chan struct{}
}

func (*Mail) Try(context.Context, Thanks) error { return nil }

func (m *Mail) Confirm(context.Context, Thanks) error {
	if m.calls.Add(1) == 1 {
		return errors.New("the mail server is busy")
	}
	close(m.sent)
	return nil
}

func (*Mail) Cancel(context.Context, Thanks) error { return nil }

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

	reservation, err := tcc.BeginWith(ctx, orch, "reservation-1", saga.Options{Timeout: 15 * time.Minute})
	ok(err)
	ok(reservation.Try(ctx, phones(1)))

	// Later, perhaps in another process:
	paid, err := tcc.Join(ctx, orch, "reservation-1")
	ok(err)
	outcome, err := paid.Confirm(ctx)
	fmt.Println(outcome.State, err)
	// Output: confirmed <nil>
}

func ExampleTransaction_Cancel() {
	orch, _, closeShop := shop()
	defer closeShop()
	ctx := context.Background()

	reservation, err := tcc.Begin(ctx, orch, "reservation-1")
	ok(err)
	ok(reservation.Try(ctx, phones(1)))
	outcome, err := reservation.Cancel(ctx, "the customer changed their mind")
	fmt.Println(outcome.State, outcome.Reason, err)
	// Output: cancelled the customer changed their mind <nil>
}

// Points is the payload of a branch that says no with a code.
type Points struct{ Needed int }

func (Points) Branch() string { return "points.spend" }

// Account has no points left.
type Account struct{}

func (Account) Try(ctx context.Context, tx *gorm.DB, in Points) error {
	return tcc.RejectCode("points.short", fmt.Errorf("%d points are needed, and there are 0", in.Needed))
}

func (Account) Confirm(ctx context.Context, tx *gorm.DB, in Points) error { return nil }
func (Account) Cancel(ctx context.Context, tx *gorm.DB, in Points) error  { return nil }

// A program looks at the code of a rejection, and people read its text.
func ExampleRejectCode() {
	orch, _, closeShop := shop()
	defer closeShop()
	ok(tcc.Register(orch, Account{}))

	_, err := tcc.Execute(context.Background(), orch, "order-1", phones(1), Points{50})
	var no *saga.Rejection
	if errors.As(err, &no) {
		fmt.Println("code:", no.Code)
		fmt.Println("text:", no)
	}
	// Output:
	// code: points.short
	// text: 50 points are needed, and there are 0
}

// Credit is the payload of a branch, and CreditV2 its next version.
type (
	Credit   struct{ Cents int64 }
	CreditV2 struct {
		Amount   int64
		Currency string
	}
)

func (Credit) Branch() string   { return "credit.hold" }
func (CreditV2) Branch() string { return "credit.hold.v2" }

// Credits is the branch; it knows only the newer version.
type Credits struct{}

func (Credits) Try(ctx context.Context, tx *gorm.DB, in CreditV2) error {
	fmt.Println(tcc.CallOf(ctx).Kind, "holds", in.Amount, in.Currency)
	return nil
}

func (Credits) Confirm(ctx context.Context, tx *gorm.DB, in CreditV2) error { return nil }
func (Credits) Cancel(ctx context.Context, tx *gorm.DB, in CreditV2) error  { return nil }

func ExampleUpgrade() {
	orch, _, closeShop := shop()
	defer closeShop()
	ok(tcc.Register(orch, Credits{}, tcc.Upgrade("credit.hold", func(old Credit) (CreditV2, error) {
		return CreditV2{old.Cents, "EUR"}, nil
	})))

	// First, while older instances run:
	ctx := context.Background()
	_, err := tcc.Execute(ctx, orch, "order-1", Credit{700})
	ok(err)
	// Later:
	_, err = tcc.Execute(ctx, orch, "order-2", CreditV2{700, "USD"})
	ok(err)
	// Output:
	// credit.hold holds 700 EUR
	// credit.hold.v2 holds 700 USD
}

func ExampleAlias() {
	orch, _, closeShop := shop()
	defer closeShop()
	// The kind was credit.reserve once.
	err := tcc.Register(orch, Credits{}, tcc.Alias[CreditV2]("credit.reserve"))
	fmt.Println(err)
	// Output: <nil>
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
