package main

import (
	"context"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
)

// publishin is tccsaga for a message alone: a row in the user's own local transaction.
type publishin struct {
	db        *Database
	stream    *ownStream
	publisher *message.Publisher
}

func newPublishIn(ctx context.Context, db *Database, seen func(id string)) (poster, error) {
	stream, err := openStream(ctx)
	if err != nil {
		return nil, err
	}
	publisher, err := stream.publisher(ctx, db.DB, seen)
	return &publishin{db, stream, publisher}, err
}

func (p *publishin) Place(ctx context.Context, o Order) error {
	return p.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.Exec(insertOrder, o.ID, o.SKU).Error; err != nil {
			return err
		}
		return p.publisher.PublishIn(ctx, tx, message.Publish{Subject: p.stream.subject, Data: []byte(o.ID)})
	})
}

func (p *publishin) Close() error {
	err := p.publisher.Stop(context.Background())
	p.stream.close()
	p.db.close()
	return err
}
