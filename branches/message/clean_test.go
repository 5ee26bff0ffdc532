package message_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	seam "github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
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

// Old rows go, a page at a time: those whose message the stream has no longer, and
// those of schema version 1. A row stays as long as its message can come again.
func TestInboxIsCleaned(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		past, now := longAgo(db)
		insert := func(consumer, stream, id string, sequence int, at string) {
			sagatest.Must(t, db.Exec("INSERT INTO saga_inbox (consumer, stream, message_id, sequence, handled_at) VALUES (?, ?, ?, ?, "+at+")", consumer, stream, id, sequence).Error)
		}
		for range 3 {
			b.send("a", "x", nil)
		}
		stream, err := b.js.Stream(t.Context(), b.name)
		sagatest.Must(t, err)
		sagatest.Must(t, stream.DeleteMsg(t.Context(), 1))
		sagatest.Must(t, db.Transaction(func(tx *gorm.DB) error {
			for i := range 1100 { // more than two pages
				if err := tx.Exec("INSERT INTO saga_inbox (consumer, stream, message_id, sequence, handled_at) VALUES (?, ?, ?, 1, "+past+")", "worker", b.name, fmt.Sprintf("m%04d", i)).Error; err != nil {
					return err
				}
			}
			return nil
		}))
		insert("worker", b.name, "m0500-young", 1, now)
		insert("worker", b.name, "m0501-stays", 2, past) // the stream has it
		insert("worker", "", "m0502-version-1", 0, past)
		insert("somebody-else", b.name, "m0001", 1, past)
		insert("worker", "another-stream", "m0002", 1, past)
		b.consume(message.ConsumerConfig{Start: seam.Start{New: true}}, func(context.Context, *gorm.DB, message.Received) error { return nil })
		sagatest.Eventually(t, "the old ones are gone", func() bool {
			var left []string
			sagatest.Must(t, db.Raw("SELECT message_id FROM saga_inbox ORDER BY message_id").Scan(&left).Error)
			return slices.Equal(left, []string{"m0001", "m0002", "m0500-young", "m0501-stays"})
		})
	})
}

// Of many processes one scans at a time, and the next begins where it ended.
func TestOneProcessCleans(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "postgres")
	b := newBench(t, db)
	_, now := longAgo(db)
	sagatest.Must(t, db.Exec("INSERT INTO saga_inbox_cleaning (consumer, stream, after_id, next_at) VALUES ('worker', ?, 'm1', "+now+" + INTERVAL '1 hour')", b.name).Error)
	past, _ := longAgo(db)
	for _, id := range []string{"m0", "m2"} {
		sagatest.Must(t, db.Exec("INSERT INTO saga_inbox (consumer, stream, message_id, handled_at) VALUES ('worker', ?, ?, "+past+")", b.name, id).Error)
	}
	left := func() (ids []string) {
		sagatest.Must(t, db.Raw("SELECT message_id FROM saga_inbox ORDER BY message_id").Scan(&ids).Error)
		return ids
	}
	run := func() {
		c := b.consume(message.ConsumerConfig{}, func(context.Context, *gorm.DB, message.Received) error { return nil })
		b.send("a", "x", nil)
		b.settled("worker")
		sagatest.Must(t, c.Stop(t.Context()))
	}
	run()
	if ids := left(); !slices.Contains(ids, "m2") {
		t.Errorf("cleaned in another one's turn: %v", ids)
	}
	sagatest.Must(t, db.Exec("UPDATE saga_inbox_cleaning SET next_at = "+now).Error)
	c := b.consume(message.ConsumerConfig{}, func(context.Context, *gorm.DB, message.Received) error { return nil })
	sagatest.Eventually(t, "the page behind the last is cleaned", func() bool { return !slices.Contains(left(), "m2") })
	if ids := left(); !slices.Contains(ids, "m0") {
		t.Errorf("it began at the start again: %v", ids)
	}
	sagatest.Must(t, c.Stop(t.Context()))
}

// A message that was handled before the inbox knew streams is handled no more.
func TestInboxOfVersion1(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		_, now := longAgo(db)
		for _, id := range []string{"named", b.name + "/2"} {
			sagatest.Must(t, db.Exec("INSERT INTO saga_inbox (consumer, message_id, handled_at) VALUES ('worker', ?, "+now+")", id).Error)
		}
		b.send("a", "1", nats.Header{message.HeaderID: {"named"}})
		b.send("a", "2", nil)
		b.send("a", "3", nil)
		var seen journal
		b.consume(message.ConsumerConfig{}, func(_ context.Context, _ *gorm.DB, m message.Received) error {
			seen.note(m)
			return nil
		})
		b.settled("worker")
		if all := seen.all(); len(all) != 1 || string(all[0].Data) != "3" {
			t.Errorf("handled %+v", all)
		}
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
	orch := sagatest.Open(t, db, embedded.Config{CallTimeout: time.Second, Retention: 2 * time.Second})
	publisher, err := message.NewPublisher(t.Context(), outbox, wrap(js), message.Config{Stream: stream, Subjects: []string{stream + ".>"}})
	sagatest.Must(t, err)
	sagatest.Must(t, tcc.Register(orch, publisher))
	sagatest.Run(t, orch)
	_, err = tcc.Execute(t.Context(), orch, "order-1", message.Publish{Subject: stream + ".a", Data: []byte("x")})
	sagatest.Must(t, err)
	past, _ := longAgo(db)
	sagatest.Must(t, db.Exec("UPDATE saga_transactions SET deadline_at = "+past+", finished_at = "+past).Error)
	sagatest.Eventually(t, "the outbox is empty", func() bool {
		var n int
		sagatest.Must(t, outbox.Raw("SELECT COUNT(*) FROM saga_outbox").Scan(&n).Error)
		return n == 0
	})
}
