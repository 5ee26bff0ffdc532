package main

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/tcc"
)

// halfMessage is tccsaga with the orders in another database than the log and the outbox. The
// COMMIT of the order is the decision.
type halfMessage struct {
	*Embedded
	orders    *Database
	stream    *ownStream
	publisher *message.Publisher
}

func newHalfMessage(ctx context.Context, orders *Database, seen func(id string)) (poster, error) {
	log, err := openDatabase(ctx, orders.dialect)
	if err != nil {
		return nil, err
	}
	stream, err := openStream(ctx)
	if err != nil {
		return nil, err
	}
	publisher, err := stream.publisher(ctx, log.DB, seen)
	if err != nil {
		return nil, err
	}
	e, err := newEmbedded(ctx, "tccsaga", log)
	if err != nil {
		return nil, err
	}
	return &halfMessage{e, orders, stream, publisher}, errors.Join(tcc.Register(e.orch, publisher), e.orch.Register(saga.NewDatabase("orders", orders.DB)))
}

func (h *halfMessage) Place(ctx context.Context, o Order) error {
	work := func(_ context.Context, tx *gorm.DB) error { return tx.Exec(insertOrder, o.ID, o.SKU).Error }
	_, err := tcc.ExecuteWith(ctx, h.orch, o.ID, saga.Options{LocalWorkIn: "orders", LocalWork: work, ReturnDecided: true},
		message.Publish{Subject: h.stream.subject, Data: []byte(o.ID)})
	return err
}

func (h *halfMessage) Close() error {
	err := h.Embedded.Close()
	err = errors.Join(err, h.publisher.Stop(context.Background()))
	h.stream.close()
	h.orders.close()
	return err
}
