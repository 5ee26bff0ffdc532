package main

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"gorm.io/gorm"
)

// handPublish is [Raw] with a real publish: the broker has acknowledged the message before the
// last of the four local transactions marks it as sent.
type handPublish struct {
	db     *Database
	stream *ownStream
}

func newHandPublish(ctx context.Context, db *Database) (Contender, error) {
	stream, err := openStream(ctx)
	return handPublish{db, stream}, err
}

func (h handPublish) Name() string { return "publish by hand" }

func (h handPublish) Place(ctx context.Context, o Order) error {
	return inOrder(ctx, h.db, o, func() error {
		_, err := h.stream.js.PublishMsg(ctx, &nats.Msg{Subject: h.stream.subject, Data: []byte(o.ID)}, jetstream.WithMsgID(o.ID+"/02"))
		return err
	})
}

func (h handPublish) Close() error {
	h.stream.close()
	h.db.close()
	return nil
}

// inOrder makes the statements of an order by hand, in four local transactions, and calls
// deliver before the last one.
func inOrder(ctx context.Context, db *Database, o Order, deliver func() error) error {
	for i, work := range byHand(o) {
		if i == 3 {
			if err := deliver(); err != nil {
				return err
			}
		}
		if err := db.write(ctx, work); err != nil {
			return err
		}
	}
	return nil
}

// byHand are the statements of an order.
func byHand(o Order) [4]func(tx *gorm.DB) error {
	return [4]func(tx *gorm.DB) error{
		func(tx *gorm.DB) error { return one(tx.Exec(tryStock, o.SKU)) },
		func(tx *gorm.DB) error { return prepareMessage(tx, o.ID, "02", o.ID) },
		func(tx *gorm.DB) error { return one(tx.Exec(confirmStock, o.SKU)) },
		func(tx *gorm.DB) error { return markSent(tx, o.ID, "02") },
	}
}

func one(result *gorm.DB) error {
	if result.Error == nil && result.RowsAffected != 1 {
		return errors.New("not one row")
	}
	return result.Error
}
