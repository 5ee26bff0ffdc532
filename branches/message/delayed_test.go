package message_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// A delayed message stays in the outbox until it is due by the database's clock,
// also after the retention of its transaction, and without the process that
// confirmed it; it is then published once.
func TestDelayedMessage(t *testing.T) {
	outboxes(t, func(t *testing.T, b *bench) {
		in := b.publish("later", "1")
		in.After = 240 * time.Hour
		in.Headers = map[string][]string{"X-Tag": {"one"}}
		gid := b.execute(in, b.publish("now", "2"))
		b.holds(b.name, 1)
		id := b.id(gid, "01")
		if rows := b.outboxRows(gid); rows[0].State != "delayed" || rows[1].State != "published" {
			t.Errorf("outbox %+v", rows)
		}
		sagatest.Must(t, b.publisher.Stop(t.Context()))
		sagatest.Must(t, b.outbox.Transaction(func(tx *gorm.DB) error { return b.publisher.Clean(t.Context(), tx, []string{gid}) }))
		past, _ := longAgo(b.outbox)
		sqltest.Exec(t, b.outbox, "UPDATE saga_outbox_delayed SET due_at = "+past+" WHERE gid = ?", gid)
		b.holds(b.name, 1)

		// Several instances start.
		for range 3 {
			publisher, err := message.NewPublisher(t.Context(), b.outbox, wrap(b.js), message.Config{Stream: b.name, Subjects: []string{b.name + ".>"}})
			sagatest.Must(t, err)
			t.Cleanup(func() { publisher.Stop(t.Context()) })
		}
		sagatest.Eventually(t, "it is published", func() bool { return b.delayed() == 0 })
		b.holds(b.name, 2)
		if msg := read(t, b.js, b.name, 2); string(msg.Data) != "1" || msg.Header.Get(message.HeaderID) != id || msg.Header.Get("X-Tag") != "one" {
			t.Errorf("%v: %s", msg.Header, msg.Data)
		}
	})
}

func (b *bench) delayed() (n int) {
	b.t.Helper()
	sagatest.Must(b.t, b.outbox.Raw("SELECT COUNT(*) FROM saga_outbox_delayed").Scan(&n).Error)
	return n
}

// A delayed message outlasts an outage of the broker, and is marked published.
func TestDelayedMessageInAnOutage(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		broker := newBroker(t)
		b := newBenchOn(t, db, db, connectTo(t, broker.server.ClientURL()))
		broker.stop()
		in := b.publish("later", "1")
		in.After = time.Millisecond
		gid := b.execute(in) // needs no broker
		sagatest.Eventually(t, "a failed attempt", func() bool {
			var failures int
			sagatest.Must(t, db.Raw("SELECT COALESCE(MAX(failures), 0) FROM saga_outbox_delayed").Scan(&failures).Error)
			return failures > 0
		})
		broker.start()
		sagatest.Eventually(t, "it is published", func() bool { return b.outboxRows(gid)[0].State == "published" })
		b.holds(b.name, 1)
		if row := b.outboxRows(gid)[0]; row.Sequence != 1 || row.Stream != b.name || !row.Published || b.delayed() != 0 {
			t.Errorf("%+v", row)
		}
	})
}

// A transaction that is cancelled leaves no delayed message.
func TestDelayedAndCancelled(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	in := b.publish("later", "1")
	in.After = time.Hour
	gid := sagatest.GID()
	_, err := tcc.Execute(t.Context(), b.orch, gid, in, phones(11))
	if !errors.Is(err, saga.ErrCancelled) || b.delayed() != 0 {
		t.Errorf("%v, %d, %+v", err, b.delayed(), b.outboxRows(gid))
	}
}

func TestDelayedRefusals(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	for says, in := range map[string]message.Publish{
		"between 0 and ten years": {Subject: b.name + ".a", After: -1},
		"has no order":            {Subject: b.name + ".a", After: time.Second, Key: "x"},
	} {
		_, err := tcc.Execute(t.Context(), b.orch, sagatest.GID(), in)
		if !errors.Is(err, saga.ErrCancelled) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
}

// Delayed messages of one plan do not hold up the others on their subject.
func TestDelayedBesideOthers(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	in := b.publish("a", "later")
	in.After = time.Hour
	b.execute(b.publish("a", "1"), in, b.publish("a", "2"))
	if got := b.stored("a"); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("stored %v", got)
	}
}
