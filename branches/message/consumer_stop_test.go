package message_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// Stop waits for the handler under way, whose work is then committed, and takes
// no further message.
func TestStopWaits(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	b.effects()
	begun, release := make(chan struct{}, 2), make(chan struct{})
	c := b.consume(message.ConsumerConfig{}, func(ctx context.Context, tx *gorm.DB, m message.Received) error {
		begun <- struct{}{}
		select {
		case <-release:
		case <-ctx.Done():
			return ctx.Err()
		}
		return effect(tx, "worker", m.ID)
	})
	b.send("a", "x", nats.Header{message.HeaderID: {"m1"}})
	<-begun
	stopped := make(chan error)
	go func() { stopped <- c.Stop(t.Context()) }()
	close(release)
	sagatest.Must(t, <-stopped)
	sagatest.Must(t, c.Stop(t.Context())) // once more does no harm
	b.had("worker", "m1", 1)
	b.send("a", "x", nats.Header{message.HeaderID: {"m2"}})
	b.consume(message.ConsumerConfig{Name: "other"}, func(context.Context, *gorm.DB, message.Received) error { return nil })
	b.settled("other")
	b.had("worker", "m2", 0)
}

// When the patience of a Stop ends, the handler is interrupted, and the message
// comes again: here to the next process.
func TestStopInterrupts(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	b.effects()
	begun, ended := make(chan struct{}), make(chan error, 1)
	c := b.consume(message.ConsumerConfig{Attempts: 1}, func(ctx context.Context, tx *gorm.DB, m message.Received) error {
		err := effect(tx, "worker", m.ID)
		close(begun)
		<-ctx.Done()
		ended <- errors.Join(err, ctx.Err())
		return ctx.Err()
	})
	b.send("a", "x", nats.Header{message.HeaderID: {"m"}})
	<-begun
	patient := make(chan error)
	go func() { patient <- c.Stop(t.Context()) }()
	impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Stop(impatient); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop: %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler: %v", err)
	}
	sagatest.Must(t, <-patient)
	b.consume(message.ConsumerConfig{Attempts: 1}, func(_ context.Context, tx *gorm.DB, m message.Received) error {
		return effect(tx, "worker", m.ID)
	})
	b.settled("worker")
	b.had("worker", "m", 1)
	b.holds(b.name+"_dead", 0) // an interruption is not the message's fault
}

// The broker goes away while a message is handled: the acknowledgement is lost,
// the message comes again, and the inbox knows it.
func TestBrokerDownAtAck(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	js := connectTo(t, broker.server.ClientURL())
	db := sqltest.Open(t, "sqlite")
	b := newBenchOn(t, db, db, js)
	b.effects()
	begun, release := make(chan struct{}, 10), make(chan struct{})
	b.consume(message.ConsumerConfig{Timeout: time.Minute}, func(_ context.Context, tx *gorm.DB, m message.Received) error {
		begun <- struct{}{}
		<-release
		return effect(tx, "worker", m.ID)
	})
	b.send("a", "x", nats.Header{message.HeaderID: {"m1"}})
	<-begun
	broker.stop()
	sagatest.Eventually(t, "the connection is lost", func() bool { return !js.Conn().IsConnected() })
	close(release)
	sagatest.Eventually(t, "the handler is done", func() bool {
		var n int64
		sagatest.Must(t, db.Raw("SELECT COUNT(*) FROM saga_inbox").Scan(&n).Error)
		return n == 1
	})
	broker.start()
	sagatest.Eventually(t, "the connection is back", js.Conn().IsConnected)
	b.send("a", "x", nats.Header{message.HeaderID: {"m2"}})
	b.settled("worker")
	b.had("worker", "m1", 1)
	b.had("worker", "m2", 1)
}

// The broker is away for a while, and somebody deletes the consumer: it goes on
// when they are back.
func TestConsumerComesBack(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	js := connectTo(t, broker.server.ClientURL())
	db := sqltest.Open(t, "sqlite")
	b := newBenchOn(t, db, db, js)
	var seen journal
	handle := func(_ context.Context, _ *gorm.DB, m message.Received) error {
		seen.note(m)
		return nil
	}
	b.consume(message.ConsumerConfig{}, handle)
	b.send("a", "1", nil)
	seen.reaches(t, 1)
	broker.stop()
	sagatest.Eventually(t, "the connection is lost", func() bool { return !js.Conn().IsConnected() })
	broker.start()
	sagatest.Eventually(t, "the connection is back", js.Conn().IsConnected)
	b.send("a", "2", nil)
	seen.reaches(t, 2)

	sagatest.Must(t, js.DeleteConsumer(t.Context(), b.name, "worker"))
	b.send("a", "3", nil)
	// It begins at the start again, and the inbox knows what was handled.
	entries := seen.reaches(t, 3)
	b.settled("worker")
	if last := entries[2]; string(last.Data) != "3" || len(seen.all()) != 3 {
		t.Errorf("handled %+v", seen.all())
	}
}
