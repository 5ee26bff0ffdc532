package message_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// A clean stop gives back what waits: the next process gets it at once, and no
// attempt is spent.
func TestCleanStopGivesBack(t *testing.T) {
	for name, batch := range map[string]int{"alone": 1, "together": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, sqltest.Open(t, "mysql"))
			b.effects()
			const messages, restarts = 600, 12
			for i := range messages {
				b.send("a", "x", nats.Header{message.HeaderID: {fmt.Sprint("m", i)}})
			}
			var calls, again atomic.Int64
			handle := func(_ context.Context, tx *gorm.DB, m message.Received) error {
				calls.Add(1)
				if m.Attempt > 1 {
					again.Add(1)
				}
				return effect(tx, "worker", m.ID)
			}
			// What is not given back would come again after the test has given up.
			config := message.ConsumerConfig{Workers: 2, Batch: batch, AckWait: time.Minute}
			for range restarts {
				before := calls.Load()
				c := b.consume(config, handle)
				sagatest.Eventually(t, "some calls", func() bool { return calls.Load() > before+20 || calls.Load() >= messages })
				sagatest.Must(t, c.Stop(t.Context()))
			}
			b.consume(config, handle)
			b.settled("worker")
			if calls.Load() != messages || again.Load() != 0 {
				t.Errorf("%d calls, %d after an attempt", calls.Load(), again.Load())
			}
			var attempts int64
			sagatest.Must(t, b.db.Raw("SELECT COUNT(*) FROM saga_inbox WHERE attempts > 0 OR begun_by <> ''").Scan(&attempts).Error)
			if attempts != 0 {
				t.Errorf("%d rows have an attempt", attempts)
			}
		})
	}
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	var seen journal
	c := b.consume(message.ConsumerConfig{}, func(_ context.Context, _ *gorm.DB, m message.Received) error {
		seen.note(m)
		return nil
	})
	b.send("a", "x", nil)
	seen.reaches(t, 1)
	b.settled("worker")
	c.Pause()
	b.send("a", "x", nil)
	b.consume(message.ConsumerConfig{Name: "other"}, func(context.Context, *gorm.DB, message.Received) error { return nil })
	b.settled("other")
	sagatest.Eventually(t, "it lags behind", func() bool {
		s := c.State(t.Context())
		return s.Status == message.Paused && s.Lag == 1
	})
	if n := len(seen.all()); n != 1 {
		t.Errorf("%d calls while it is paused", n)
	}
	c.Resume()
	seen.reaches(t, 2)
	b.settled("worker")
	sagatest.Eventually(t, "it runs", func() bool {
		s := c.State(t.Context())
		return s.Status == message.Running && s.Lag == 0 && s.Handled == 2
	})
}

// A message with a key whose handler fails while the consumer stops is given back like
// those that wait.
func TestFailureWhileStopping(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "postgres"))
	b.effects()
	started, release := make(chan struct{}), make(chan struct{})
	config := message.ConsumerConfig{Batch: 2, AckWait: time.Hour}
	c := b.consume(config, func(context.Context, *gorm.DB, message.Received) error {
		close(started)
		<-release
		return errors.New("on purpose")
	})
	send := func(id string) {
		b.send("a", id, nats.Header{message.HeaderID: {id}, message.HeaderKey: {id}})
	}
	send("first")
	<-started
	send("second")
	sagatest.Eventually(t, "the second message has come", func() bool { return c.State(t.Context()).InProgress == 2 })
	stopped := make(chan error, 1)
	go func() { stopped <- c.Stop(t.Context()) }()
	sagatest.Eventually(t, "the second message is given back", func() bool { return c.State(t.Context()).InProgress == 1 })
	close(release)
	sagatest.Must(t, <-stopped)
	b.consume(config, func(_ context.Context, tx *gorm.DB, m message.Received) error { return effect(tx, "worker", m.ID) })
	b.settled("worker")
	b.had("worker", "first", 1)
	b.had("worker", "second", 1)
}
