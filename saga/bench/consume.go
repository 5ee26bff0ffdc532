package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/branches/message/natsjs"
)

// consuming is a comparison of ways to handle a backlog of messages, each with one
// INSERT, once.
type consuming struct {
	Name       string
	Database   string
	Contenders []string
	Messages   int
	Delay      time.Duration // of the network to the database, one way
}

func (s *Suite) consuming() []consuming {
	n, far, others := 20_000, 1_000, 10_000
	if s.Short {
		n, far, others = 2_000, 200, 1_000
	}
	all := []string{"by hand", "by hand, 64 a commit", "1 worker", "16 workers", "batches of 64"}
	return []consuming{
		{"consume", "mysql", append(all, "watermill"), n, 0},
		{"consume-far", "mysql", []string{"former", "by hand", "1 worker", "16 workers", "batches of 64"}, far, time.Millisecond},
		{"consume", "postgres", append(all, "river, 1 worker", "river, 16 workers"), others, 0},
	}
}

// consume measures each way once.
func (s *Suite) consume(ctx context.Context) error {
	for _, e := range s.consuming() {
		if s.Only != "" && s.Only != "consume" || s.Database != "" && s.Database != e.Database {
			continue
		}
		for _, contender := range e.Contenders {
			if !s.wantedCase(contender, 1) {
				continue
			}
			perSecond, err := drain(ctx, e, contender)
			if err != nil {
				return fmt.Errorf("%s on %s, %s: %w", e.Name, e.Database, contender, err)
			}
			k := Key{e.Name, e.Database, contender, 1}
			s.runs[k] = append(s.runs[k], Figures{PerSecond: perSecond})
			if !s.Short {
				fmt.Fprintf(os.Stderr, "%-11s %-9s %-22s %7.0f/s\n", e.Name, e.Database, contender, perSecond)
			}
		}
	}
	return nil
}

// backlog is a stream with messages that wait for a consumer, and the database where
// it works.
type backlog struct {
	*Database
	js       jetstream.JetStream
	stream   string
	messages int
}

// drain returns how many messages a contender handles per second.
func drain(ctx context.Context, e consuming, contender string) (float64, error) {
	db, err := openDatabase(ctx, e.Database)
	if err != nil {
		return 0, err
	}
	defer db.close()
	if err := db.Exec("CREATE TABLE bench_effects (id VARCHAR(64) NOT NULL PRIMARY KEY)").Error; err != nil {
		return 0, err
	}
	b := &backlog{Database: db, messages: e.Messages}
	switch contender {
	case "watermill":
		return b.watermill(ctx)
	case "river, 1 worker":
		return b.river(ctx, 1)
	case "river, 16 workers":
		return b.river(ctx, 16)
	}
	remove, err := b.fill(ctx)
	if err != nil {
		return 0, err
	}
	defer remove()
	if e.Delay > 0 {
		far, err := db.far(e.Delay)
		if err != nil {
			return 0, err
		}
		defer closePool(far)
		b.Database = &Database{DB: far, dialect: db.dialect}
	}
	switch contender {
	case "by hand":
		return b.timed(ctx, func(ctx context.Context) error { return b.hand(ctx, 1) })
	case "by hand, 64 a commit":
		return b.timed(ctx, func(ctx context.Context) error { return b.hand(ctx, 64) })
	case "former":
		return b.timed(ctx, b.former)
	case "1 worker":
		return b.timed(ctx, b.consumer(message.ConsumerConfig{}))
	case "16 workers":
		return b.timed(ctx, b.consumer(message.ConsumerConfig{Workers: 16}))
	default:
		return b.timed(ctx, b.batches)
	}
}

// fill makes the stream with its messages.
func (b *backlog) fill(ctx context.Context) (remove func(), err error) {
	conn, err := nats.Connect(os.Getenv("TCCSAGA_TEST_NATS"))
	if err != nil {
		return nil, err
	}
	if b.js, err = jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(256)); err != nil {
		return nil, err
	}
	b.stream = fmt.Sprintf("bench_%d", time.Now().UnixNano())
	remove = func() {
		for _, name := range []string{b.stream, b.stream + "_dead"} {
			b.js.DeleteStream(context.WithoutCancel(ctx), name)
		}
		conn.Close()
	}
	if _, err := b.js.CreateStream(ctx, jetstream.StreamConfig{Name: b.stream, Subjects: []string{b.stream + ".>"}, Storage: jetstream.FileStorage}); err != nil {
		return remove, err
	}
	for i := range b.messages {
		if _, err := b.js.PublishAsync(b.stream+".placed", []byte("a phone"), jetstream.WithMsgID(fmt.Sprintf("m-%d", i))); err != nil {
			return remove, err
		}
	}
	select {
	case <-b.js.PublishAsyncComplete():
		return remove, nil
	case <-ctx.Done():
		return remove, ctx.Err()
	}
}

// timed runs work until all messages had their effect.
func (b *backlog) timed(ctx context.Context, work func(ctx context.Context) error) (float64, error) {
	began := time.Now()
	if err := work(ctx); err != nil {
		return 0, err
	}
	perSecond := float64(b.messages) / time.Since(began).Seconds()
	n, err := b.effects()
	if err == nil && n != b.messages {
		err = fmt.Errorf("%d effects of %d messages", n, b.messages)
	}
	return perSecond, err
}

func (b *backlog) effects() (n int, err error) {
	err = b.Raw("SELECT COUNT(*) FROM bench_effects").Scan(&n).Error
	return n, err
}

const (
	effect = "INSERT INTO bench_effects (id) VALUES (?)"
	noted  = "INSERT INTO saga_inbox (consumer, stream, message_id, handled_at) VALUES ('hand', ?, ?, CURRENT_TIMESTAMP)"
)

// hand is what somebody writes who knows how: an inbox row and the work in one
// local transaction, for one message or several.
func (b *backlog) hand(ctx context.Context, most int) error {
	consumer, err := b.js.CreateConsumer(ctx, b.stream, jetstream.ConsumerConfig{Durable: "hand", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		return err
	}
	for done := 0; done < b.messages; {
		fetched, err := consumer.Fetch(min(64, b.messages-done))
		if err != nil {
			return err
		}
		var batch []jetstream.Msg
		for msg := range fetched.Messages() {
			if batch = append(batch, msg); len(batch) >= most {
				if err := b.together(ctx, batch); err != nil {
					return err
				}
				done += len(batch)
				batch = nil
			}
		}
		if len(batch) > 0 {
			if err := b.together(ctx, batch); err != nil {
				return err
			}
			done += len(batch)
		}
	}
	return nil
}

func (b *backlog) together(ctx context.Context, batch []jetstream.Msg) error {
	err := b.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		for _, msg := range batch {
			id := msg.Headers().Get("Nats-Msg-Id")
			if err := tx.Exec(noted, b.stream, id).Error; err != nil {
				return err
			}
			if err := tx.Exec(effect, id).Error; err != nil {
				return err
			}
		}
		return nil
	})
	for _, msg := range batch {
		err = errors.Join(err, msg.Ack())
	}
	return err
}

// former is what the consumer of tccsaga did before: one message at a time, asked
// for and acknowledged one by one.
func (b *backlog) former(ctx context.Context) error {
	consumer, err := b.js.CreateConsumer(ctx, b.stream, jetstream.ConsumerConfig{Durable: "former", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		return err
	}
	for range b.messages {
		msg, err := consumer.Next()
		if err != nil {
			return err
		}
		if err := b.together(ctx, []jetstream.Msg{silent{msg}}); err != nil {
			return err
		}
		if err := msg.DoubleAck(ctx); err != nil {
			return err
		}
	}
	return nil
}

// silent is a message whose acknowledgement somebody else sends.
type silent struct{ jetstream.Msg }

func (silent) Ack() error { return nil }

// consumer runs tccsaga's.
func (b *backlog) consumer(config message.ConsumerConfig) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		return b.until(ctx, config, func(seam broker.Broker, config message.ConsumerConfig) (*message.Consumer, error) {
			return message.Consume(ctx, b.DB, seam, config, func(_ context.Context, tx *gorm.DB, m message.Received) error {
				return tx.Exec(effect, m.ID).Error
			})
		})
	}
}

// batches runs tccsaga's with a handler that gets 64 messages at once.
func (b *backlog) batches(ctx context.Context) error {
	return b.until(ctx, message.ConsumerConfig{}, func(seam broker.Broker, config message.ConsumerConfig) (*message.Consumer, error) {
		return message.ConsumeBatch(ctx, b.DB, seam, config, func(_ context.Context, tx *gorm.DB, messages []message.Received) error {
			for _, m := range messages {
				if err := tx.Exec(effect, m.ID).Error; err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// until runs a consumer until it has handled all messages.
func (b *backlog) until(ctx context.Context, config message.ConsumerConfig, consume func(broker.Broker, message.ConsumerConfig) (*message.Consumer, error)) error {
	seam, err := natsjs.New(b.js.Conn(), natsjs.Config{})
	if err != nil {
		return err
	}
	config.Stream, config.Name, config.Logger = b.stream, "bench", slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	c, err := consume(seam, config)
	if err != nil {
		return err
	}
	for c.State(ctx).Handled < uint64(b.messages) {
		select {
		case <-c.Done():
			return c.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return c.Stop(ctx)
}
