// Command quickstart is the shortest useful program on tccsaga: one branch of
// its own, which holds credit, beside the ready-made one that locks stock.
//
//	go run ./examples/quickstart
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

// HoldCredit asks for credit of an account to be held, and then spent.
type HoldCredit struct {
	Account string
	Cents   int64
}

// Branch names the kind of branch.
func (HoldCredit) Branch() string { return "credit.hold" }

// Credit is the branch. Account is its table.
type Credit struct{}

// Account is what a customer has, and what is held of it.
type Account struct {
	ID   string `gorm:"primaryKey"`
	Free int64
	Held int64
}

// Try holds the credit, or says no.
func (Credit) Try(_ context.Context, tx *gorm.DB, in HoldCredit) error {
	held := tx.Exec("UPDATE accounts SET free = free - ?, held = held + ? WHERE id = ? AND free >= ?", in.Cents, in.Cents, in.Account, in.Cents)
	if held.Error == nil && held.RowsAffected == 0 {
		return tcc.Reject(fmt.Errorf("%s has less than %d cents", in.Account, in.Cents))
	}
	return held.Error
}

// Confirm spends what is held.
func (Credit) Confirm(_ context.Context, tx *gorm.DB, in HoldCredit) error {
	return in.found(tx.Exec("UPDATE accounts SET held = held - ? WHERE id = ? AND held >= ?", in.Cents, in.Account, in.Cents))
}

// Cancel frees what is held.
func (Credit) Cancel(_ context.Context, tx *gorm.DB, in HoldCredit) error {
	return in.found(tx.Exec("UPDATE accounts SET held = held - ?, free = free + ? WHERE id = ? AND held >= ?", in.Cents, in.Cents, in.Account, in.Cents))
}

// found checks that a Confirm or Cancel has changed the account: an UPDATE that
// finds no row is no error, and would end the transaction without its effect.
func (in HoldCredit) found(updated *gorm.DB) error {
	if updated.Error == nil && updated.RowsAffected != 1 {
		return fmt.Errorf("%s does not hold %d cents: was the account changed by hand?", in.Account, in.Cents)
	}
	return updated.Error
}

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	dir, err := os.MkdirTemp("", "quickstart")
	check(err)
	defer os.RemoveAll(dir)

	db, err := gorm.Open(sqlite.Open("file:"+filepath.Join(dir, "shop.db")+
		"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"), &gorm.Config{Logger: logger.Discard})
	check(err)
	check(schema.Migrate(ctx, db))
	check(db.AutoMigrate(&Account{}))

	// The orchestrator lives in this process and in this database.
	orch, err := embedded.Open(ctx, db, embedded.Config{})
	check(err)
	shelf := stock.New(db)
	check(errors.Join(tcc.Register(orch, shelf), tcc.Register(orch, Credit{})))
	done := make(chan error)
	go func() { done <- orch.Run(ctx) }()

	check(shelf.Put(ctx, "phone", 2))
	check(db.Create(&Account{ID: "ann", Free: 1000}).Error)

	// Both branches, or neither.
	for _, order := range []struct {
		gid   string
		cents int64
	}{{"order-1", 700}, {"order-2", 700}} {
		place(ctx, orch, order.gid, order.cents)
	}
	level, err := shelf.Get(ctx, "phone")
	check(err)
	fmt.Printf("phones: %d available, %d locked, %d sold\n", level.Available, level.Locked, level.Sold)

	stop() // Run drains and returns
	check(<-done)
}

func place(ctx context.Context, orch saga.Engine, gid string, cents int64) {
	outcome, err := tcc.Execute(ctx, orch, gid,
		stock.Lock{Items: []stock.Item{{SKU: "phone", Quantity: 1}}},
		HoldCredit{Account: "ann", Cents: cents})
	switch {
	case err == nil:
		fmt.Println(gid, "is", outcome.State)
	case errors.Is(err, saga.ErrCancelled):
		fmt.Println(gid, "is", outcome.State, "because", outcome.Reason)
	default:
		check(err)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
