package main

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"gorm.io/gorm"
)

// outbox is what somebody writes who knows how: a row for the message in the local
// transaction of the order, and a relay that publishes the rows and deletes them.
type outbox struct {
	db     *Database
	stream *ownStream
	seen   func(id string)
	wake   chan struct{} // a caller has committed
	stop   context.CancelFunc
	ended  chan error
}

// relayBatch is the most rows that the relay publishes with one commit.
const relayBatch = 100

func newOutbox(ctx context.Context, db *Database, seen func(id string)) (poster, error) {
	table := "CREATE TABLE bench_outbox (id BIGINT AUTO_INCREMENT PRIMARY KEY, message_id VARCHAR(64) NOT NULL, subject VARCHAR(255) NOT NULL, data BLOB NOT NULL)"
	if db.dialect == "postgres" {
		table = "CREATE TABLE bench_outbox (id BIGSERIAL PRIMARY KEY, message_id VARCHAR(64) NOT NULL, subject VARCHAR(255) NOT NULL, data BYTEA NOT NULL)"
	}
	if err := db.Exec(table).Error; err != nil {
		return nil, err
	}
	stream, err := openStream(ctx)
	if err != nil {
		return nil, err
	}
	o := &outbox{db: db, stream: stream, seen: seen, wake: make(chan struct{}, 1), ended: make(chan error, 1)}
	ctx, o.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() { o.ended <- o.relay(ctx) }()
	return o, nil
}

func (o *outbox) Place(ctx context.Context, order Order) error {
	err := o.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.Exec(insertOrder, order.ID, order.SKU).Error; err != nil {
			return err
		}
		return tx.Exec("INSERT INTO bench_outbox (message_id, subject, data) VALUES (?, ?, ?)", order.ID, o.stream.subject, []byte(order.ID)).Error
	})
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return err
}

// relay publishes until ctx ends.
func (o *outbox) relay(ctx context.Context) error {
	for {
		n, err := o.publishSome(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("the relay: %w", err)
		case n == relayBatch:
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-o.wake:
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// row is a row of the outbox.
type row struct {
	ID                 int64
	MessageID, Subject string
	Data               []byte
}

// publishSome publishes the oldest rows that no other relay has locked, and deletes them.
func (o *outbox) publishSome(ctx context.Context) (n int, err error) {
	err = o.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		var rows []row
		err := tx.Raw("SELECT id, message_id, subject, data FROM bench_outbox ORDER BY id LIMIT ? FOR UPDATE SKIP LOCKED", relayBatch).Scan(&rows).Error
		if n = len(rows); err != nil || n == 0 {
			return err
		}
		acks, ids := make([]jetstream.PubAckFuture, n), make([]int64, n)
		for i, r := range rows {
			ids[i] = r.ID
			if acks[i], err = o.stream.js.PublishMsgAsync(&nats.Msg{Subject: r.Subject, Data: r.Data}, jetstream.WithMsgID(r.MessageID)); err != nil {
				return err
			}
		}
		for i, ack := range acks {
			select {
			case <-ack.Ok():
				o.seen(rows[i].MessageID)
			case err := <-ack.Err():
				return err
			}
		}
		return tx.Exec("DELETE FROM bench_outbox WHERE id IN ?", ids).Error
	}, &sql.TxOptions{Isolation: sql.LevelReadCommitted}) // no gap locks, for which the callers would wait
	return n, err
}

func (o *outbox) Close() error {
	o.stop()
	err := <-o.ended
	o.stream.close()
	o.db.close()
	return err
}
