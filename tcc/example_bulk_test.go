package tcc_test

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/tcc"
)

// Book writes a line into a journal when the transaction is confirmed.
type Book struct{ Text string }

func (Book) Branch() string { return "journal.book" }

// Journal is a branch that can do many at once.
type Journal struct{}

func (Journal) Try(ctx context.Context, tx *gorm.DB, in Book) error {
	return tx.Exec("INSERT INTO journal (gid, text, booked) VALUES (?, ?, 0)", tcc.CallOf(ctx).GID, in.Text).Error
}

func (Journal) Confirm(ctx context.Context, tx *gorm.DB, in Book) error {
	return tx.Exec("UPDATE journal SET booked = 1 WHERE gid = ?", tcc.CallOf(ctx).GID).Error
}

func (Journal) Cancel(ctx context.Context, tx *gorm.DB, in Book) error {
	return tx.Exec("DELETE FROM journal WHERE gid = ?", tcc.CallOf(ctx).GID).Error
}

func (Journal) TryAll(ctx context.Context, tx *gorm.DB, items []tcc.Item[Book]) (failures []error, err error) {
	var values []any
	for _, item := range items {
		values = append(values, item.GID, item.In.Text)
	}
	return nil, tx.Exec("INSERT INTO journal (gid, text, booked) VALUES (?, ?, 0)"+
		strings.Repeat(", (?, ?, 0)", len(items)-1), values...).Error
}

func (Journal) ConfirmAll(ctx context.Context, tx *gorm.DB, items []tcc.Item[Book]) error {
	var gids []string
	for _, item := range items {
		gids = append(gids, item.GID)
	}
	return tx.Exec("UPDATE journal SET booked = 1 WHERE gid IN ?", gids).Error
}

// Callers at the same time share statements and commits.
func ExampleBulk() {
	orch, db, closeShop := shop()
	defer closeShop()
	ok(db.Exec("CREATE TABLE journal (gid VARCHAR(128) PRIMARY KEY, text TEXT, booked INT)").Error)
	ok(tcc.Register(orch, Journal{}))

	var callers sync.WaitGroup
	for i := range 20 {
		callers.Go(func() {
			_, err := tcc.Execute(context.Background(), orch, fmt.Sprint("entry-", i), Book{"20 cents"})
			ok(err)
		})
	}
	callers.Wait()

	var booked int
	ok(db.Raw("SELECT COUNT(*) FROM journal WHERE booked = 1").Scan(&booked).Error)
	fmt.Println(booked, "booked")
	// Output: 20 booked
}
