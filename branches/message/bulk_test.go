package message_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// Many messages at once: each is on the stream once, with the data and the
// headers of its own, and the outbox knows where.
func TestManyMessagesAtOnce(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		const many = 60
		gids := make([]string, many)
		var callers sync.WaitGroup
		for i := range many {
			callers.Go(func() {
				first, second := b.publish("a", fmt.Sprint(i)), b.publish("b", fmt.Sprint(i))
				first.Headers = map[string][]string{"X-Number": {fmt.Sprint(i)}}
				gids[i] = b.execute(first, second)
			})
		}
		callers.Wait()
		b.holds(b.name, 2*many)
		for i, gid := range gids {
			for n, row := range b.outboxRows(gid) {
				msg := read(t, b.js, b.name, row.Sequence)
				if row.State != "published" || row.Stream != b.name || string(msg.Data) != fmt.Sprint(i) ||
					msg.Header.Get(message.HeaderID) != b.id(gid, saga.BranchID(n+1)) || n == 0 && msg.Header.Get("X-Number") != fmt.Sprint(i) {
					t.Errorf("number %d: %+v, %s, %v", i, row, msg.Data, msg.Header)
				}
			}
		}
	})
}

// One of many that cannot be published, written or delivered hurts no other.
func TestOneBadMessageOfMany(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		items := make([]tcc.Item[message.Publish], 5)
		for i := range items {
			items[i].Context, items[i].GID, items[i].BranchID = t.Context(), fmt.Sprint("bulk-", i), "01"
			items[i].In = b.publish("a", "x")
		}
		items[2].In.Subject = "elsewhere"
		var failures []error
		sagatest.Must(t, db.Transaction(func(tx *gorm.DB) (err error) {
			failures, err = b.publisher.TryAll(t.Context(), tx, items)
			return err
		}))
		for i, failure := range failures {
			if (failure != nil) != (i == 2) || i == 2 && !strings.Contains(failure.Error(), "does not carry") {
				t.Errorf("number %d: %v", i, failure)
			}
		}
		var receipts []any
		receipts, failures = b.publisher.DeliverAll(t.Context(), items)
		for i, failure := range failures {
			if (failure != nil) != (i == 2) || i == 2 && !strings.Contains(failure.Error(), "not in the outbox") {
				t.Errorf("number %d: %v", i, failure)
			}
			items[i].Receipt = receipts[i]
		}
		b.holds(b.name, 4)
		confirm := func(items []tcc.Item[message.Publish]) error {
			return db.Transaction(func(tx *gorm.DB) error { return b.publisher.ConfirmAll(t.Context(), tx, items) })
		}
		if err := confirm(items); err == nil {
			t.Error("confirmed what was not delivered")
		}
		sagatest.Must(t, confirm(items[3:]))
		if err := confirm(items[3:]); err == nil || !strings.Contains(err.Error(), "not prepared") {
			t.Errorf("confirmed twice: %v", err)
		}
	})
}

// One of many that the stream refuses hurts no other.
func TestOneOfManyRefusedByTheStream(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	items := b.prepared(5, func(i int) string { return strings.Repeat("x", 1+i/2%2*4000) }) // the third and the fourth are long
	_, err := b.js.UpdateStream(t.Context(), jetstream.StreamConfig{Name: b.name, Subjects: []string{b.name + ".>"}, MaxMsgSize: 2000})
	sagatest.Must(t, err)
	_, failures := b.publisher.DeliverAll(t.Context(), items)
	for i, failure := range failures {
		if long := i/2 == 1; (failure != nil) != long || long && !strings.Contains(failure.Error(), "message size exceeds maximum") {
			t.Errorf("number %d: %v", i, failure)
		}
	}
	b.holds(b.name, 3)
}

// A broker that takes messages and says nothing is not waited for longer than
// AckTimeout.
func TestManyMessagesWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	items := b.prepared(5, func(int) string { return "x" })
	publisher, err := message.NewPublisher(t.Context(), b.db, wrap(b.js), message.Config{Stream: b.name, Subjects: []string{b.name + ".>"}, AckTimeout: 50 * time.Millisecond})
	sagatest.Must(t, err)
	sagatest.Must(t, b.js.DeleteStream(t.Context(), b.name))
	silent, err := b.js.Conn().SubscribeSync(b.name + ".>")
	sagatest.Must(t, err)
	_, failures := publisher.DeliverAll(t.Context(), items)
	for i, failure := range failures {
		if !errors.Is(failure, context.DeadlineExceeded) {
			t.Errorf("number %d: %v", i, failure)
		}
	}
	if sent, _, err := silent.Pending(); err != nil || sent != 5 {
		t.Errorf("%d messages were sent, %v", sent, err)
	}
}

// prepared writes messages into the outbox.
func (b *bench) prepared(n int, data func(i int) string) []tcc.Item[message.Publish] {
	b.t.Helper()
	items := make([]tcc.Item[message.Publish], n)
	for i := range items {
		items[i].Context, items[i].GID, items[i].BranchID = b.t.Context(), sagatest.GID(), "01"
		items[i].In = b.publish("a", data(i))
	}
	sagatest.Must(b.t, b.db.Transaction(func(tx *gorm.DB) error {
		failures, err := b.publisher.TryAll(b.t.Context(), tx, items)
		return errors.Join(err, errors.Join(failures...))
	}))
	return items
}
