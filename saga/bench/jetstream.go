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
	"github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/branches/message/natsjs"
)

// ownStream is a stream in the broker's file storage that one contender has for itself.
type ownStream struct {
	conn    *nats.Conn
	js      jetstream.JetStream
	name    string
	subject string // on which the contender publishes
}

func openStream(ctx context.Context) (*ownStream, error) {
	conn, err := nats.Connect(os.Getenv("TCCSAGA_TEST_NATS"))
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("bench_%d", time.Now().UnixNano())
	s := &ownStream{conn: conn, name: name, subject: name + ".placed"}
	if s.js, err = jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(256)); err != nil {
		return nil, err
	}
	_, err = s.js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}, Storage: jetstream.FileStorage})
	return s, err
}

func (s *ownStream) close() {
	s.js.DeleteStream(context.Background(), s.name)
	s.conn.Close()
}

// publisher returns the ready-made branch for messages. It calls seen with the data of each
// message that the broker has acknowledged.
func (s *ownStream) publisher(ctx context.Context, db *gorm.DB, seen func(data string)) (*message.Publisher, error) {
	seam, err := natsjs.New(s.conn, natsjs.Config{})
	if err != nil {
		return nil, err
	}
	return message.NewPublisher(ctx, db, watched{seam, seen}, message.Config{Stream: s.name, Subjects: []string{s.name + ".>"}})
}

// watched is a broker whose acknowledgements are noted.
type watched struct {
	broker.Publisher
	seen func(data string)
}

func (w watched) OpenStream(ctx context.Context, config broker.StreamConfig) (broker.Stream, error) {
	stream, err := w.Publisher.OpenStream(ctx, config)
	return watchedStream{stream, w.seen}, err
}

type watchedStream struct {
	broker.Stream
	seen func(data string)
}

func (w watchedStream) Publish(ctx context.Context, messages []broker.Message) []broker.Result {
	results := w.Stream.Publish(ctx, messages)
	for i, result := range results {
		if result.Err == nil {
			w.seen(string(messages[i].Data))
		}
	}
	return results
}
