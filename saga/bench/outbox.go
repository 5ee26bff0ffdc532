package main

import (
	"context"
	"errors"
	"strings"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/tcc"
)

// Message is a message as the branch message.publish writes it, except that it
// is marked as sent where it would be published: all contenders do the same
// work in the database.
type Message struct{ Text string }

func (Message) Branch() string { return "bench.message" }

type messages struct{}

func (messages) Try(ctx context.Context, tx *gorm.DB, in Message) error {
	call := tcc.CallOf(ctx)
	return prepareMessage(tx, call.GID, call.BranchID, in.Text)
}

func (messages) Confirm(ctx context.Context, tx *gorm.DB, in Message) error {
	call := tcc.CallOf(ctx)
	return markSent(tx, call.GID, call.BranchID)
}

func (messages) Cancel(ctx context.Context, tx *gorm.DB, in Message) error {
	call := tcc.CallOf(ctx)
	return one(tx.Exec(discard, call.GID, call.BranchID))
}

// sent is messages with a bulk interface.
type sent struct{ messages }

func (sent) TryAll(ctx context.Context, tx *gorm.DB, items []tcc.Item[Sent]) ([]error, error) {
	rows, arguments := make([]string, len(items)), make([]any, 0, 3*len(items))
	for i, item := range items {
		rows[i] = "(?, ?, 'prepared', 'orders.placed', '{}', ?, CURRENT_TIMESTAMP)"
		arguments = append(arguments, item.GID, item.BranchID, []byte(item.In.Text))
	}
	return nil, tx.Exec("INSERT INTO saga_outbox (gid, branch_id, state, subject, headers, data, prepared_at) VALUES "+strings.Join(rows, ", "), arguments...).Error
}

func (sent) ConfirmAll(ctx context.Context, tx *gorm.DB, items []tcc.Item[Sent]) error {
	gids := make([]string, len(items))
	for i, item := range items {
		gids[i] = item.GID
	}
	result := tx.Exec("UPDATE saga_outbox SET state = 'published', published_at = CURRENT_TIMESTAMP WHERE branch_id = ? AND gid IN ? AND state = 'prepared'", items[0].BranchID, gids)
	if result.Error == nil && result.RowsAffected != int64(len(items)) {
		return errors.New("not every message is prepared")
	}
	return result.Error
}

func (sent) Try(ctx context.Context, tx *gorm.DB, in Sent) error {
	return messages{}.Try(ctx, tx, Message(in))
}
func (sent) Confirm(ctx context.Context, tx *gorm.DB, in Sent) error {
	return messages{}.Confirm(ctx, tx, Message(in))
}
func (sent) Cancel(ctx context.Context, tx *gorm.DB, in Sent) error {
	return messages{}.Cancel(ctx, tx, Message(in))
}

// Sent is a Message for a branch with a bulk interface.
type Sent struct{ Text string }

func (Sent) Branch() string { return "bench.sent" }

func prepareMessage(tx *gorm.DB, gid, branchID, text string) error {
	return one(tx.Exec(prepare, gid, branchID, []byte(text)))
}

func markSent(tx *gorm.DB, gid, branchID string) error {
	return one(tx.Exec(send, gid, branchID))
}

// Lock is a user's own branch for the stock.
type Lock struct{ SKU string }

func (Lock) Branch() string { return "bench.lock" }

type locks struct{}

func (locks) Try(ctx context.Context, tx *gorm.DB, in Lock) error {
	return one(tx.Exec(tryStock, in.SKU))
}
func (locks) Confirm(ctx context.Context, tx *gorm.DB, in Lock) error {
	return one(tx.Exec(confirmStock, in.SKU))
}
func (locks) Cancel(ctx context.Context, tx *gorm.DB, in Lock) error {
	return one(tx.Exec(cancelStock, in.SKU))
}
