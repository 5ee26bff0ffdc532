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
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// sendKeyed sends messages of several keys in turn: their ids are key-number.
func (b *bench) sendKeyed(keys, each int) {
	b.t.Helper()
	for i := range each {
		for k := range keys {
			key := fmt.Sprint("k", k)
			b.send("a", key, nats.Header{message.HeaderID: {fmt.Sprintf("%s-%03d", key, i)}, message.HeaderKey: {key}})
		}
	}
}

// ordered checks that the effects of each key are there once, in their order.
func (b *bench) ordered(keys, each int) {
	b.t.Helper()
	for k := range keys {
		var ids, want []string
		must(b.t, b.db.Raw("SELECT id FROM effects WHERE consumer = ? ORDER BY n", fmt.Sprint("k", k)).Scan(&ids).Error)
		for i := range each {
			want = append(want, fmt.Sprintf("k%d-%03d", k, i))
		}
		if !slices.Equal(ids, want) {
			b.t.Errorf("key %d: %v", k, ids)
		}
	}
}

// inOrder is a table of effects with the order in which they came.
func (b *bench) inOrder() (handle func(tx *gorm.DB, m message.Received) error) {
	b.t.Helper()
	exec(b.t, b.db, "CREATE TABLE effects (n BIGINT NOT NULL, consumer VARCHAR(64) NOT NULL, id VARCHAR(200) NOT NULL)")
	var n atomic.Int64
	return func(tx *gorm.DB, m message.Received) error {
		return tx.Exec("INSERT INTO effects VALUES (?, ?, ?)", n.Add(1), m.Key, m.ID).Error
	}
}

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
		eventually(t, "it has failed once", func() bool {
			_, now := longAgo(db)
			return db.Exec("UPDATE saga_inbox SET handled_at = "+now+" WHERE message_id = 'm' AND attempts = 1").RowsAffected == 1
		})
		b.settled("worker")
		if n := len(seen.all()); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
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
		eventually(t, "the connection is lost", func() bool { return !js.Conn().IsConnected() })
		broker.start()
		eventually(t, "the connection is back", js.Conn().IsConnected)
	}
	b.settled("worker")
	b.ordered(4, 100)
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
		must(t, err)
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
		must(t, db.Raw("SELECT COALESCE(SUM(attempts), 0) FROM saga_inbox").Scan(&failed).Error)
		if failed != 4 {
			t.Errorf("%d attempts have failed, want 4", failed)
		}
	})
}

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
				eventually(t, "some calls", func() bool { return calls.Load() > before+20 || calls.Load() >= messages })
				must(t, c.Stop(t.Context()))
			}
			b.consume(config, handle)
			b.settled("worker")
			if calls.Load() != messages || again.Load() != 0 {
				t.Errorf("%d calls, %d after an attempt", calls.Load(), again.Load())
			}
			var attempts int64
			must(t, b.db.Raw("SELECT COUNT(*) FROM saga_inbox WHERE attempts > 0 OR begun_by <> ''").Scan(&attempts).Error)
			if attempts != 0 {
				t.Errorf("%d rows have an attempt", attempts)
			}
		})
	}
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
	eventually(t, "the other process has handled the rest", func() bool {
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
	must(t, err)
	if info := c.CachedInfo(); info.NumRedelivered != 0 || info.Delivered.Consumer != 2 {
		t.Errorf("delivered %+v, again %d", info.Delivered, info.NumRedelivered)
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
	eventually(t, "it lags behind", func() bool {
		s := c.State(t.Context())
		return s.Status == message.Paused && s.Lag == 1
	})
	if n := len(seen.all()); n != 1 {
		t.Errorf("%d calls while it is paused", n)
	}
	c.Resume()
	seen.reaches(t, 2)
	b.settled("worker")
	eventually(t, "it runs", func() bool {
		s := c.State(t.Context())
		return s.Status == message.Running && s.Lag == 0 && s.Handled == 2
	})
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
			eventually(t, "the consumer takes messages ahead, as its handler is fast", func() bool {
				warm++
				send(fmt.Sprint("warm-", warm))
				b.settled("worker")
				return c.Window() >= 3
			})
			for _, id := range []string{"first", "second", "third"} {
				send(id)
			}
			eventually(t, "all three have come", func() bool {
				var rows int64
				must(t, b.db.Raw("SELECT COUNT(*) FROM saga_inbox WHERE message_id = 'third'").Scan(&rows).Error)
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
		ways := map[string]func(tx *gorm.DB) error{
			"an error":                 func(*gorm.DB) error { return errors.New("on purpose") },
			"a panic":                  func(*gorm.DB) error { panic("on purpose") },
			"a statement that fails":   func(tx *gorm.DB) error { return tx.Exec("INSERT INTO nowhere VALUES (1)").Error },
			"a permanent failure":      func(*gorm.DB) error { return message.Permanent(errors.New("on purpose")) },
			"the first one, each time": func(*gorm.DB) error { return errors.New("on purpose") },
		}
		b := newBench(t, db)
		b.effects()
		number := 0
		for name, way := range ways {
			number++
			consumer := fmt.Sprint("worker-", number)
			bad, attempts := "5", 3
			switch name {
			case "a permanent failure":
				attempts = 1
			case "the first one, each time":
				bad = "0"
			}
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
				if id == bad {
					return way(tx)
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
				if id == bad {
					want, effects = attempts, 0
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
	eventually(t, "the second message has come", func() bool { return c.State(t.Context()).InProgress == 2 })
	stopped := make(chan error, 1)
	go func() { stopped <- c.Stop(t.Context()) }()
	eventually(t, "the second message is given back", func() bool { return c.State(t.Context()).InProgress == 1 })
	close(release)
	must(t, <-stopped)
	b.consume(config, func(_ context.Context, tx *gorm.DB, m message.Received) error { return effect(tx, "worker", m.ID) })
	b.settled("worker")
	b.had("worker", "first", 1)
	b.had("worker", "second", 1)
}
