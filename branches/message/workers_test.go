package message_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// Handlers run at once, up to the number of workers.
func TestWorkersRunAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "mysql"))
	together := make(chan struct{})
	var n atomic.Int64
	b.consume(message.ConsumerConfig{Workers: 4}, func(ctx context.Context, _ *gorm.DB, _ message.Received) error {
		if n.Add(1) == 4 {
			close(together)
		}
		select {
		case <-together:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	for range 4 {
		b.send("a", "x", nil)
	}
	b.settled("worker")
}

// A message that another process has handled meanwhile, while it waited here, is not
// handled again.
func TestHandledElsewhereMeanwhile(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		var seen journal
		b.consume(message.ConsumerConfig{MinBackoff: 4 * time.Second, MaxBackoff: 4 * time.Second}, func(_ context.Context, _ *gorm.DB, m message.Received) error {
			seen.note(m)
			return errors.New("on purpose")
		})
		b.send("a", "x", nats.Header{message.HeaderID: {"m"}, message.HeaderKey: {"k"}})
		sagatest.Eventually(t, "it has failed once", func() bool {
			_, now := longAgo(db)
			return db.Exec("UPDATE saga_inbox SET handled_at = "+now+" WHERE message_id = 'm' AND attempts = 1").RowsAffected == 1
		})
		b.settled("worker")
		if n := len(seen.all()); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}

// Many messages and one commit; one that fails hurts no other.
func TestBatches(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db)
		b.effects()
		for i := range 100 {
			b.send("a", "x", nats.Header{message.HeaderID: {fmt.Sprint("m", i)}})
		}
		var largest, transactions atomic.Int64
		c, err := message.ConsumeBatch(t.Context(), db, wrap(b.js), message.ConsumerConfig{Stream: b.name, Name: "worker", Attempts: 3, Logger: quiet, MinBackoff: time.Millisecond},
			func(_ context.Context, tx *gorm.DB, messages []message.Received) error {
				transactions.Add(1)
				largest.Store(max(largest.Load(), int64(len(messages))))
				for _, m := range messages {
					if err := effect(tx, "worker", m.ID); err != nil {
						return err
					}
					if m.ID == "m13" || m.ID == "m70" && m.Attempt == 1 {
						return errors.New("on purpose")
					}
				}
				return nil
			})
		sagatest.Must(t, err)
		defer c.Stop(t.Context())
		b.settled("worker")
		for i := range 100 {
			want := int64(1)
			if i == 13 {
				want = 0
			}
			b.had("worker", fmt.Sprint("m", i), want)
		}
		if largest.Load() < 20 || largest.Load() > 64 {
			t.Errorf("the largest batch had %d messages", largest.Load())
		}
		letters := b.buried(message.LetterFilter{})
		if len(letters) != 1 || letters[0].Message.ID != "m13" || letters[0].Attempts != 3 {
			t.Errorf("letters %+v", letters)
		}
		var failed int64
		sagatest.Must(t, db.Raw("SELECT COALESCE(SUM(attempts), 0) FROM saga_inbox").Scan(&failed).Error)
		if failed != 4 {
			t.Errorf("%d attempts have failed, want 4", failed)
		}
	})
}

// Messages of a slow handler wait in the broker, where other processes find them.
func TestSlowHandlerTakesNoMore(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "mysql"))
	begun, release := make(chan struct{}, 10), make(chan struct{})
	b.consume(message.ConsumerConfig{}, func(context.Context, *gorm.DB, message.Received) error {
		begun <- struct{}{}
		<-release
		return nil
	})
	for range 5 {
		b.send("a", "x", nil)
	}
	<-begun
	b.consume(message.ConsumerConfig{}, func(context.Context, *gorm.DB, message.Received) error { return nil })
	sagatest.Eventually(t, "the other process has handled the rest", func() bool {
		c, err := b.js.Consumer(t.Context(), b.name, "worker")
		return err == nil && c.CachedInfo().NumPending == 0 && c.CachedInfo().NumAckPending == 1
	})
	close(release)
	b.settled("worker")
}

// A long handler keeps its message, and so do those that wait behind it.
func TestLongHandlerKeepsItsMessage(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "mysql"))
	deliveries := make(chan uint64, 10)
	var n atomic.Int64
	b.consume(message.ConsumerConfig{AckWait: 300 * time.Millisecond}, func(ctx context.Context, _ *gorm.DB, m message.Received) error {
		if n.Add(1) > 1 {
			return nil
		}
		timer := time.NewTimer(time.Second) // several AckWaits: the handler is long
		defer timer.Stop()
		<-timer.C
		deliveries <- m.Sequence
		return nil
	})
	b.send("a", "x", nil)
	b.send("a", "x", nil)
	<-deliveries
	b.settled("worker")
	c, err := b.js.Consumer(t.Context(), b.name, "worker")
	sagatest.Must(t, err)
	if info := c.CachedInfo(); info.NumRedelivered != 0 || info.Delivered.Consumer != 2 {
		t.Errorf("delivered %+v, again %d", info.Delivered, info.NumRedelivered)
	}
}

// What waits behind a message may be handled elsewhere meanwhile, by a process that
// got it while this one was paused.
func TestNextIsHandledElsewhere(t *testing.T) {
	// SQLite lets nothing come while a handler is at work.
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, sqltest.Open(t, dialect))
			b.effects()
			gate := make(chan struct{})
			c := b.consume(message.ConsumerConfig{Batch: 1}, func(_ context.Context, tx *gorm.DB, m message.Received) error {
				if m.ID == "first" {
					<-gate
					if err := tx.Exec("UPDATE saga_inbox SET handled_at = received_at WHERE message_id = 'third'").Error; err != nil {
						return err
					}
				}
				return effect(tx, "worker", m.ID)
			})
			send := func(id string) { b.send("a", id, nats.Header{message.HeaderID: {id}}) }
			warm := 0
			sagatest.Eventually(t, "the consumer takes messages ahead, as its handler is fast", func() bool {
				warm++
				send(fmt.Sprint("warm-", warm))
				b.settled("worker")
				return c.Window() >= 3
			})
			for _, id := range []string{"first", "second", "third"} {
				send(id)
			}
			sagatest.Eventually(t, "all three have come", func() bool {
				var rows int64
				sagatest.Must(t, b.db.Raw("SELECT COUNT(*) FROM saga_inbox WHERE message_id = 'third'").Scan(&rows).Error)
				return rows == 1
			})
			close(gate)
			b.settled("worker")
			b.had("worker", "second", 1)
			b.had("worker", "third", 0)
		})
	}
}

// Messages share a local transaction, and the handler of one that fails undoes only its
// own work: the others are not handled again.
func TestOneOfSeveralFails(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		fails := func(*gorm.DB) error { return errors.New("on purpose") }
		ways := map[string]struct {
			handle   func(tx *gorm.DB) error
			bad      string // the message that fails
			attempts int
		}{
			"an error":                 {fails, "5", 3},
			"a panic":                  {func(*gorm.DB) error { panic("on purpose") }, "5", 3},
			"a statement that fails":   {func(tx *gorm.DB) error { return tx.Exec("INSERT INTO nowhere VALUES (1)").Error }, "5", 3},
			"a permanent failure":      {func(*gorm.DB) error { return message.Permanent(errors.New("on purpose")) }, "5", 1},
			"the first one, each time": {fails, "0", 3},
		}
		b := newBench(t, db)
		b.effects()
		number := 0
		for name, way := range ways {
			number++
			consumer := fmt.Sprint("worker-", number)
			calls := map[string]int{}
			var mu sync.Mutex
			last := make(chan struct{})
			c := b.consume(message.ConsumerConfig{Name: consumer, Batch: 8, Attempts: 3}, func(_ context.Context, tx *gorm.DB, m message.Received) error {
				id := strings.TrimPrefix(m.ID, consumer+"/")
				if id == m.ID {
					return nil // of another round
				}
				if id == "gate" {
					<-last
					return nil
				}
				mu.Lock()
				calls[id]++
				mu.Unlock()
				if err := effect(tx, consumer, id); err != nil {
					return err
				}
				if id == way.bad {
					return way.handle(tx)
				}
				return nil
			})
			b.settled(consumer)
			send := func(id string) { b.send("a", id, nats.Header{message.HeaderID: {consumer + "/" + id}}) }
			c.Pause()
			send("gate")
			for i := range 10 {
				send(fmt.Sprint(i))
			}
			c.Resume()
			close(last)
			b.settled(consumer)
			mu.Lock()
			for i := range 10 {
				id := fmt.Sprint(i)
				want, effects := 1, int64(1)
				if id == way.bad {
					want, effects = way.attempts, 0
				}
				if calls[id] != want {
					t.Errorf("%s: message %s had %d calls, want %d", name, id, calls[id], want)
				}
				b.had(consumer, id, effects)
			}
			mu.Unlock()
		}
	})
}
