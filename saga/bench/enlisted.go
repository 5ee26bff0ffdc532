package main

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/tcc"
)

const insertOrder = "INSERT INTO bench_orders (id, sku, quantity) VALUES (?, ?, 1)"

// enlisted is tccsaga in the user's own local transaction.
type enlisted struct {
	*Embedded
	stream    *ownStream
	publisher *message.Publisher
}

func newEnlisted(ctx context.Context, db *Database, seen func(id string)) (poster, error) {
	stream, err := openStream(ctx)
	if err != nil {
		return nil, err
	}
	publisher, err := stream.publisher(ctx, db.DB, seen)
	if err != nil {
		return nil, err
	}
	e, err := newEmbedded(ctx, "tccsaga", db)
	if err != nil {
		return nil, err
	}
	return &enlisted{e, stream, publisher}, tcc.Register(e.orch, publisher)
}

func (e *enlisted) Place(ctx context.Context, o Order) error {
	return e.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.Exec(insertOrder, o.ID, o.SKU).Error; err != nil {
			return err
		}
		_, err := tcc.ExecuteIn(ctx, e.orch, tx, o.ID, message.Publish{Subject: e.stream.subject, Data: []byte(o.ID)})
		return err
	})
}

func (e *enlisted) Close() error {
	err := e.Embedded.Close()
	err = errors.Join(err, e.publisher.Stop(context.Background()))
	e.stream.close()
	return err
}
