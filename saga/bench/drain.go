package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/branches/message/natsjs"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/tcc"
)

// ownBroker is a broker that can be stopped and started.
type ownBroker struct {
	options server.Options
	server  *server.Server
}

func (b *ownBroker) start() error {
	options := b.options
	s, err := server.NewServer(&options)
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return errors.New("the broker did not start")
	}
	b.options.Port, b.server = options.Port, s
	return nil
}

func (b *ownBroker) stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// outage is a time in which the broker is away and messages gather.
type outage struct{ backlog int }

// drain measures how many orders with a message are confirmed per second after the outage,
// and how many callers place per second without one.
func (o outage) drain(ctx context.Context, database string) (drained, normal float64, err error) {
	folder, err := os.MkdirTemp("", "bench-nats")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(folder)
	broker := &ownBroker{options: server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, JetStream: true, StoreDir: folder}}
	if err := broker.start(); err != nil {
		return 0, 0, err
	}
	defer func() { broker.stop() }()
	conn, err := nats.Connect(broker.server.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	db, err := openDatabase(ctx, database)
	if err != nil {
		return 0, 0, err
	}
	e, err := newEmbedded(ctx, "drain", db)
	if err != nil {
		return 0, 0, err
	}
	js, err := natsjs.New(conn, natsjs.Config{})
	if err != nil {
		return 0, 0, err
	}
	publisher, err := message.NewPublisher(ctx, db.DB, js, message.Config{Stream: "ORDERS", Subjects: []string{"orders.>"}})
	if err != nil {
		return 0, 0, err
	}
	defer publisher.Stop(ctx)
	if err := tcc.Register(e.orch, publisher); err != nil {
		return 0, 0, err
	}
	e.plan = published("orders.placed")

	if err := e.placeMany(ctx, "warm", o.backlog/20, saga.Confirmed); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := e.placeMany(ctx, "normal", o.backlog, saga.Confirmed); err != nil {
		return 0, 0, err
	}
	normal = float64(o.backlog) / time.Since(began).Seconds()
	broker.stop()
	if err := e.placeMany(ctx, "late", o.backlog, saga.Confirming); err != nil {
		return 0, 0, err
	}
	began = time.Now()
	if err := broker.start(); err != nil {
		return 0, 0, err
	}
	for left := int64(1); left > 0; {
		time.Sleep(50 * time.Millisecond)
		if err := db.Raw("SELECT COUNT(*) FROM (SELECT 1 FROM saga_transactions WHERE due_at IS NOT NULL LIMIT 1) x").Scan(&left).Error; err != nil {
			return 0, 0, err
		}
		if time.Since(began) > 10*time.Minute {
			return 0, 0, errors.New("the backlog does not drain")
		}
	}
	drained = float64(o.backlog) / time.Since(began).Seconds()
	return drained, normal, e.Close()
}

// placeMany places orders with 64 callers, which do not wait for what cannot be
// confirmed.
func (e *Embedded) placeMany(ctx context.Context, name string, n int, want saga.State) error {
	const callers = 64
	errs := make(chan error, callers)
	var placing sync.WaitGroup
	for i := range callers {
		placing.Go(func() {
			for k := i; k < n; k += callers {
				o := Order{ID: fmt.Sprintf("%s-%d", name, k), SKU: spread(int64(k))}
				outcome, err := tcc.Execute(ctx, e.orch, o.ID, e.plan(o)...)
				if err == nil && outcome.State != want {
					err = fmt.Errorf("%s is %s, not %s", o.ID, outcome.State, want)
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	placing.Wait()
	close(errs)
	return <-errs
}
