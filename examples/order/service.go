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
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/console"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/tcc"
)

// Service takes orders.
type Service struct {
	backend   *backend
	engine    *embedded.Engine
	stock     *stock.Stock
	publisher *message.Publisher
	consumer  *message.Consumer
	faults    *faults
	health    *health
	telemetry *telemetry
	console   *console.Console
	public    web.Hosts
	ran       chan struct{} // closed when Run has returned
	failed    error         // what Run returned; readable after ran
}

// The stream, and the subject of placed orders.
const (
	stream      = "ORDERS"
	orderPlaced = "orders.placed"
)

// Start opens the service, and begins to finish the transactions of an earlier process.
func Start(ctx context.Context, config Config) (*Service, error) {
	backend, err := openBackend(ctx, config)
	if err != nil {
		return nil, err
	}
	telemetry, err := openTelemetry(config.Traces)
	if err != nil {
		backend.close()
		return nil, err
	}
	s := &Service{backend: backend, telemetry: telemetry, faults: &faults{dialer: backend.dialer}, health: &health{backend: backend}, public: config.Public, ran: make(chan struct{})}
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
		return fmt.Errorf("migrate the notifications: %w", err)
	}
	broker, err := natsjs.New(s.backend.nats, natsjs.Config{})
	if err != nil {
		return err
	}
	observers := []saga.Observer{s.telemetry.observer}
	s.publisher, err = message.NewPublisher(ctx, db, broker, message.Config{Stream: stream, Subjects: []string{"orders.>"}})
	if err != nil {
		return err
	}
	s.stock = stock.New(db)
	if s.engine, err = embedded.Open(ctx, db, embedded.Config{MaxBackoff: 5 * time.Second, Observers: observers}); err != nil {
		return err
	}
	s.health.engine = s.engine
	// A service without the fault switches registers s.stock and s.publisher.
	err = errors.Join(
		tcc.Register(s.engine, faultyStock{s.stock, s.faults}),
		tcc.Register(s.engine, faultyPublisher{s.publisher, s.faults}),
	)
	if err != nil {
		return err
	}
	s.consumer, err = message.Consume(ctx, db, broker, message.ConsumerConfig{Stream: stream, Name: "notifications", Subjects: []string{orderPlaced}, Observers: observers}, notify)
	if err != nil {
		return err
	}
	if err := s.openTools(broker); err != nil {
		return err
	}
	go func() {
		defer close(s.ran)
		s.failed = s.engine.Run(context.WithoutCancel(ctx)) // until Stop
	}()
	return nil
}

// Order is the body of POST /orders, and the message that is published.
type Order struct {
	OrderID  string `json:"order_id"`
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
	Customer string `json:"customer,omitempty"`
}

// labels are what people search the transaction by.
func (o Order) labels() map[string]string {
	labels := map[string]string{"order_id": o.OrderID}
	if o.Customer != "" {
		labels["customer"] = o.Customer
	}
	return labels
}

// plan returns the branches of an order: stock is locked, and a message published.
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

// Notification is a row that the consumer writes for each message that it handles.
type Notification struct {
	ID        uint64    `json:"-" gorm:"primaryKey"`
	OrderID   string    `json:"order_id"`
	SKU       string    `json:"sku" gorm:"column:sku"`
	Quantity  int64     `json:"quantity"`
	MessageID string    `json:"message_id"`
	HandledAt time.Time `json:"handled_at"`
}

// notify handles a placed order, in the local transaction of its inbox row.
func notify(ctx context.Context, tx *gorm.DB, m message.Received) error {
	var order Order
	if err := json.Unmarshal(m.Data, &order); err != nil {
		return fmt.Errorf("decode the order: %w", err)
	}
	return tx.Create(&Notification{OrderID: order.OrderID, SKU: order.SKU, Quantity: order.Quantity,
		MessageID: m.ID, HandledAt: time.Now().UTC()}).Error
}

// Handler returns the HTTP interface: the routes behind their guard.
func (s *Service) Handler() http.Handler {
	return web.Guard(s.telemetry.trace(api{s}.routes(), s.public.Any()), s.public)
}
