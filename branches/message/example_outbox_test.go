package message_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga/schema"
)

// An Outbox needs the database of the publisher, and no broker.
func ExampleOutbox() {
	dir, err := os.MkdirTemp("", "outbox")
	ok(err)
	defer os.RemoveAll(dir)
	db, err := gorm.Open(sqlite.Open(filepath.Join(dir, "shop.db")), &gorm.Config{Logger: logger.Discard})
	ok(err)
	ctx := context.Background()
	ok(schema.Migrate(ctx, db))
	// A message that a publisher has tried to publish, while its broker was down.
	ok(db.Exec(`INSERT INTO saga_outbox_delayed (message_id, gid, branch_id, destination, subject, headers, data, due_at, failures, error)
		VALUES ('m1', '', '', 'ORDERS', 'orders.placed', '{}', x'2a', '2026-01-01 12:00:00.000', 3, 'no response from the stream')`).Error)

	outbox, err := message.NewOutbox(db)
	ok(err)
	stats, err := outbox.Stats(ctx)
	ok(err)
	fmt.Println("due:", stats.Due.N, "failing:", stats.Failing.N, "longer than a minute:", stats.Lag > time.Minute)
	page, err := outbox.List(ctx, message.OutboxFilter{State: message.OutboxFailing})
	ok(err)
	for _, m := range page.Messages {
		fmt.Printf("%s on %s, %d byte: %d attempts, %s\n", m.ID, m.Subject, m.Bytes, m.Failures, m.Error)
	}
	// Output:
	// due: 1 failing: 1 longer than a minute: true
	// m1 on orders.placed, 1 byte: 3 attempts, no response from the stream
}
