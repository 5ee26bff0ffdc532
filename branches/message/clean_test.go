package message_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// longAgo is a time before every retention, now one of this moment.
func longAgo(db *gorm.DB) (longAgo, now string) {
	switch db.Name() {
	case "mysql":
		return "UTC_TIMESTAMP(6) - INTERVAL 31 DAY", "UTC_TIMESTAMP(6)"
	case "postgres":
		return "clock_timestamp() - INTERVAL '31 days'", "clock_timestamp()"
	default:
		return "strftime('%Y-%m-%d %H:%M:%f', 'now', '-31 days')", "strftime('%Y-%m-%d %H:%M:%f', 'now')"
	}
}

func TestInboxIsCleaned(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		past, now := longAgo(db)
		insert := func(consumer, id, at string) {
			must(t, db.Exec("INSERT INTO saga_inbox (consumer, message_id, handled_at) VALUES (?, ?, "+at+")", consumer, id).Error)
		}
		must(t, db.Transaction(func(tx *gorm.DB) error {
			for i := range 1100 { // more than two pages
				if err := tx.Exec("INSERT INTO saga_inbox (consumer, message_id, handled_at) VALUES (?, ?, "+past+")", "worker", fmt.Sprintf("m%04d", i)).Error; err != nil {
					return err
				}
			}
			return nil
		}))
		insert("worker", "m0500-young", now)
		insert("somebody-else", "m0001", past)
		b.consume(message.ConsumerConfig{}, func(context.Context, *gorm.DB, message.Received) error { return nil })
		eventually(t, "the old ones are gone", func() bool {
			var left []string
			must(t, db.Raw("SELECT message_id FROM saga_inbox ORDER BY message_id").Scan(&left).Error)
			return len(left) == 2 && left[0] == "m0001" && left[1] == "m0500-young"
		})
	})
}

// What the outbox holds goes with its transaction, also from another database.
func TestOutboxIsCleaned(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) { outboxIsCleaned(t, db, db) })
}

func TestOutboxElsewhereIsCleaned(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) { outboxIsCleaned(t, db, sqltest.Open(t, "sqlite")) })
}

func outboxIsCleaned(t *testing.T, db, outbox *gorm.DB) {
	js := connect(t)
	stream := newStream(t, js)
	orch, err := saga.Open(t.Context(), db, saga.Config{Poll: 20 * time.Millisecond, CallTimeout: time.Second, Retention: 2 * time.Second, Logger: quiet})
	must(t, err)
	publisher, err := message.NewPublisher(t.Context(), outbox, wrap(js), message.Config{Stream: stream, Subjects: []string{stream + ".>"}})
	must(t, err)
	must(t, tcc.Register(orch, publisher))
	running, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- orch.Run(running) }()
	_, err = tcc.Execute(t.Context(), orch, "order-1", message.Publish{Subject: stream + ".a", Data: []byte("x")})
	must(t, err)
	past, _ := longAgo(db)
	must(t, db.Exec("UPDATE saga_transactions SET deadline_at = "+past+", finished_at = "+past).Error)
	eventually(t, "the outbox is empty", func() bool {
		var n int
		must(t, outbox.Raw("SELECT COUNT(*) FROM saga_outbox").Scan(&n).Error)
		return n == 0
	})
	stop()
	must(t, <-ended)
}
