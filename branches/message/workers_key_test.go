package message_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// Several workers, one handler at a time per key, in order, also when some fail and
// come again.
func TestWorkersKeepTheOrderOfAKey(t *testing.T) {
	for _, batch := range []int{1, 8} {
		t.Run(fmt.Sprint("batch ", batch), func(t *testing.T) {
			sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
				b := newBench(t, db)
				work := b.inOrder()
				b.sendKeyed(5, 30)
				var busy sync.Map
				b.consume(message.ConsumerConfig{Workers: 8, Batch: batch}, func(_ context.Context, tx *gorm.DB, m message.Received) error {
					if _, at := busy.LoadOrStore(m.Key, true); at {
						t.Errorf("two handlers of the key %s at once", m.Key)
					}
					defer busy.Delete(m.Key)
					if err := work(tx, m); err != nil {
						return err
					}
					if strings.HasSuffix(m.ID, "7") && m.Attempt == 1 {
						return errors.New("on purpose")
					}
					return nil
				})
				b.settled("worker")
				b.ordered(5, 30)
			})
		})
	}
}

// The key that a message is published with arrives, whatever its characters are.
func TestKeyOfPublisher(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	var seen journal
	b.consume(message.ConsumerConfig{}, func(_ context.Context, _ *gorm.DB, m message.Received) error {
		seen.note(m)
		return nil
	})
	const key = "größe 7\r\n 100%/é"
	in := b.publish("a", "x")
	in.Key = key
	b.execute(in)
	if m := seen.reaches(t, 1)[0]; m.Key != key {
		t.Errorf("the key is %q", m.Key)
	}
}

// Two keys are independent: one that fails holds up its own messages only.
func TestFailingKeyHoldsUpItsOwn(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	healed := make(chan struct{})
	var seen journal
	b.consume(message.ConsumerConfig{Workers: 2, Attempts: 1_000_000, Key: func(m message.Received) string { return string(m.Data) }},
		func(_ context.Context, _ *gorm.DB, m message.Received) error {
			if m.ID == "bad-1" {
				select {
				case <-healed:
				default:
					return errors.New("on purpose")
				}
			}
			seen.note(m)
			return nil
		})
	for i := range 3 {
		for _, key := range []string{"bad", "good"} {
			b.send("a", key, nats.Header{message.HeaderID: {fmt.Sprint(key, "-", i+1)}})
		}
	}
	for _, m := range seen.reaches(t, 3) {
		if m.Key != "good" {
			t.Errorf("%s was handled", m.ID)
		}
	}
	close(healed)
	var ids []string
	for _, m := range seen.reaches(t, 6)[3:] {
		ids = append(ids, m.ID)
	}
	if !slices.Equal(ids, []string{"bad-1", "bad-2", "bad-3"}) {
		t.Errorf("then %v", ids)
	}
}

// The broker goes away and comes back under load, and so does the process: the
// messages of each key are handled once and in their order.
func TestOrderOverInterruptions(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	js := connectTo(t, broker.server.ClientURL())
	db := sqltest.Open(t, "mysql")
	b := newBenchOn(t, sqltest.Open(t, "sqlite"), sqltest.Open(t, "sqlite"), js)
	b.db = db
	work := b.inOrder()
	var calls atomic.Int64
	marks := make(chan struct{}, 100)
	handle := func(_ context.Context, tx *gorm.DB, m message.Received) error {
		if calls.Add(1)%60 == 0 {
			marks <- struct{}{}
		}
		return work(tx, m)
	}
	b.sendKeyed(4, 100)
	config := message.ConsumerConfig{Workers: 4, AckWait: time.Second}
	c := b.consume(config, handle)
	for round := range 3 {
		<-marks
		if round == 1 { // the process stops in the middle, without patience
			over, cancel := context.WithCancel(t.Context())
			cancel()
			if c.Stop(over) == nil {
				t.Error("Stop had patience")
			}
			<-c.Done()
			c = b.consume(config, handle)
			continue
		}
		broker.stop()
		sagatest.Eventually(t, "the connection is lost", func() bool { return !js.Conn().IsConnected() })
		broker.start()
		sagatest.Eventually(t, "the connection is back", js.Conn().IsConnected)
	}
	b.settled("worker")
	b.ordered(4, 100)
}
