package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/branches/message/natsjs"
)

// newPublisher returns the ready-made branch for messages, on a stream of its
// own in the broker's file storage, a subject there, and how to remove it.
func newPublisher(ctx context.Context, db *gorm.DB) (publisher *message.Publisher, subject string, remove func(), err error) {
	conn, err := nats.Connect(os.Getenv("TCCSAGA_TEST_NATS"))
	if err != nil {
		return nil, "", nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, "", nil, err
	}
	stream := fmt.Sprintf("bench_%d", time.Now().UnixNano())
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: stream, Subjects: []string{stream + ".>"}, Storage: jetstream.FileStorage})
	if err != nil {
		return nil, "", nil, err
	}
	broker, err := natsjs.New(conn, natsjs.Config{})
	if err != nil {
		return nil, "", nil, err
	}
	publisher, err = message.NewPublisher(ctx, db, broker, message.Config{Stream: stream, Subjects: []string{stream + ".>"}})
	return publisher, stream + ".placed", func() {
		publisher.Stop(context.WithoutCancel(ctx))
		js.DeleteStream(context.WithoutCancel(ctx), stream)
		conn.Close()
	}, err
}
