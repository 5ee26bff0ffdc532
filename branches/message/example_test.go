package message_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/glebarez/sqlite"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/branches/message/natsjs"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/tcc"
)

func Example() {
	dir, err := os.MkdirTemp("", "message")
	ok(err)
	defer os.RemoveAll(dir)
	server, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: filepath.Join(dir, "nats")})
	ok(err)
	server.Start()
	defer server.WaitForShutdown()
	defer server.Shutdown()
	if !server.ReadyForConnections(10 * time.Second) {
		panic("the broker did not start")
	}
	conn, err := nats.Connect(server.ClientURL(), nats.MaxReconnects(-1))
	ok(err)
	defer conn.Close()
	broker, err := natsjs.New(conn, natsjs.Config{})
	ok(err)
	db, err := gorm.Open(sqlite.Open(filepath.Join(dir, "shop.db")+
		"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"), &gorm.Config{Logger: logger.Discard})
	ok(err)
	ctx, stop := context.WithCancel(context.Background())
	ok(schema.Migrate(ctx, db))

	// The publishing side.
	publisher, err := message.NewPublisher(ctx, db, broker, message.Config{Stream: "ORDERS", Subjects: []string{"orders.>"}})
	ok(err)
	orch, err := embedded.Open(ctx, db, embedded.Config{})
	ok(err)
	defer publisher.Stop(ctx)
	ok(tcc.Register(orch, publisher))
	ended := make(chan error)
	go func() { ended <- orch.Run(ctx) }()
	defer func() { stop(); <-ended }()

	// The consuming side, commonly in another process, with its own database.
	handled := make(chan message.Received, 1)
	consumer, err := message.Consume(ctx, db, broker, message.ConsumerConfig{Stream: "ORDERS", Name: "mailer"},
		func(ctx context.Context, tx *gorm.DB, m message.Received) error {
			// Here the work would be done, with tx.
			handled <- m
			return nil
		})
	ok(err)
	defer consumer.Stop(ctx)

	outcome, err := tcc.Execute(ctx, orch, "order-1", message.Publish{Subject: "orders.placed", Data: []byte("a phone")})
	fmt.Println(outcome.State, err)
	m := <-handled
	fmt.Printf("%s: %s\n", m.Subject, m.Data)
	// Output:
	// confirmed <nil>
	// orders.placed: a phone
}

// A row of the caller's own and a message, both or neither. No engine is needed.
func ExamplePublisher_PublishIn() {
	dir, err := os.MkdirTemp("", "message")
	ok(err)
	defer os.RemoveAll(dir)
	server, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: filepath.Join(dir, "nats")})
	ok(err)
	server.Start()
	defer server.WaitForShutdown()
	defer server.Shutdown()
	if !server.ReadyForConnections(10 * time.Second) {
		panic("the broker did not start")
	}
	conn, err := nats.Connect(server.ClientURL(), nats.MaxReconnects(-1))
	ok(err)
	defer conn.Close()
	broker, err := natsjs.New(conn, natsjs.Config{})
	ok(err)
	db, err := gorm.Open(sqlite.Open(filepath.Join(dir, "shop.db")+
		"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"), &gorm.Config{Logger: logger.Discard})
	ok(err)
	ctx := context.Background()
	ok(schema.Migrate(ctx, db))
	ok(db.Exec("CREATE TABLE orders (id TEXT PRIMARY KEY)").Error)
	publisher, err := message.NewPublisher(ctx, db, broker, message.Config{Stream: "ORDERS", Subjects: []string{"orders.>"}})
	ok(err)
	defer publisher.Stop(ctx)
	published, err := conn.SubscribeSync("orders.>")
	ok(err)

	ok(db.Transaction(func(tx *gorm.DB) error {
		if err := tx.Exec("INSERT INTO orders VALUES ('order-1')").Error; err != nil {
			return err
		}
		return publisher.PublishIn(ctx, tx,
			message.Publish{Subject: "orders.placed", Data: []byte("a phone")},
			message.Publish{Subject: "orders.placed", Data: []byte("a case")})
	}))
	for range 2 {
		m, err := published.NextMsg(10 * time.Second)
		ok(err)
		fmt.Printf("%s: %s\n", m.Subject, m.Data)
	}
	// Output:
	// orders.placed: a phone
	// orders.placed: a case
}

func ok(err error) {
	if err != nil {
		panic(err)
	}
}
