package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/branches/message/natsjs"
	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/examples/internal/web"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/tcc"
)

// Service takes orders. It is put together as a user's own service would be.
type Service struct {
	backend   *backend
	orch      *embedded.Engine
	stock     *stock.Stock
	publisher *message.Publisher
	consumer  *message.Consumer
	faults    *faults
	public    web.Hosts
	ran       chan struct{} // closed when Run has returned
	failed    error         // what Run returned; readable after ran
}

// The stream, and what a placed order is published on.
const (
	stream      = "ORDERS"
	orderPlaced = "orders.placed"
)

// Start puts the service together and begins to recover what an earlier
// process has left.
func Start(ctx context.Context, config Config) (*Service, error) {
	backend, err := openBackend(ctx, config)
	if err != nil {
		return nil, err
	}
	s := &Service{backend: backend, faults: &faults{cable: backend.cable}, public: config.Public, ran: make(chan struct{})}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Stop(ctx))
	}
	return s, nil
}

func (s *Service) start(ctx context.Context) error {
	db := s.backend.db
	if err := schema.Migrate(ctx, db); err != nil {
		return err
	}
	if err := db.WithContext(ctx).AutoMigrate(&Notification{}); err != nil {
		return fmt.Errorf("migrating the notifications: %w", err)
	}
	broker, err := natsjs.New(s.backend.nats, natsjs.Config{})
	if err != nil {
		return err
	}
	s.publisher, err = message.NewPublisher(ctx, db, broker, message.Config{Stream: stream, Subjects: []string{"orders.>"}})
	if err != nil {
		return err
	}
	s.stock = stock.New(db)
	if s.orch, err = embedded.Open(ctx, db, embedded.Config{MaxBackoff: 5 * time.Second}); err != nil {
		return err
	}
	// Without the fault switches these are s.stock and publisher themselves.
	err = errors.Join(
		tcc.Register(s.orch, faultyStock{s.stock, s.faults}),
		tcc.Register(s.orch, faultyPublisher{s.publisher, s.faults}),
	)
	if err != nil {
		return err
	}
	s.consumer, err = message.Consume(ctx, db, broker, message.ConsumerConfig{Stream: stream, Name: "notifications", Subjects: []string{orderPlaced}}, notify)
	if err != nil {
		return err
	}
	go func() {
		defer close(s.ran)
		s.failed = s.orch.Run(context.WithoutCancel(ctx)) // until Stop
	}()
	return nil
}

// Order is the body of POST /orders, and the message that announces it.
type Order struct {
	OrderID  string `json:"order_id"`
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
}

// plan is what placing an order takes: stock locked, and a message sent.
func (o Order) plan() ([]tcc.Payload, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	return []tcc.Payload{
		stock.Lock{Items: []stock.Item{{SKU: o.SKU, Quantity: o.Quantity}}},
		message.Publish{Subject: orderPlaced, Data: body},
	}, nil
}

// Notification is what the consumer of placed orders writes: one row each time
// that it handles one.
type Notification struct {
	ID        uint64    `json:"-" gorm:"primaryKey"`
	OrderID   string    `json:"order_id"`
	SKU       string    `json:"sku" gorm:"column:sku"`
	Quantity  int64     `json:"quantity"`
	MessageID string    `json:"message_id"`
	HandledAt time.Time `json:"handled_at"`
}

// notify handles a placed order, in the local transaction with its inbox row.
func notify(ctx context.Context, tx *gorm.DB, m message.Received) error {
	var order Order
	if err := json.Unmarshal(m.Data, &order); err != nil {
		return fmt.Errorf("decoding the order: %w", err)
	}
	return tx.Create(&Notification{OrderID: order.OrderID, SKU: order.SKU, Quantity: order.Quantity,
		MessageID: m.ID, HandledAt: time.Now().UTC()}).Error
}

// Handler returns the HTTP interface: the routes behind their guard.
func (s *Service) Handler() http.Handler { return web.Guard(api{s}.routes(), s.public) }
