package natsjs_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/branches/message/broker/brokertest"
	"github.com/tccsaga/tccsaga/branches/message/natsjs"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

func TestReceiving(t *testing.T) {
	connect := func(t *testing.T) *nats.Conn {
		url := os.Getenv("TCCSAGA_TEST_NATS")
		if url == "" {
			const text = "TCCSAGA_TEST_NATS is not set: run the tests with make test, which starts the servers"
			if os.Getenv("CI") != "" {
				t.Fatal(text)
			}
			t.Skip(text)
		}
		conn, err := nats.Connect(url, nats.MaxReconnects(-1))
		sagatest.Must(t, err)
		t.Cleanup(conn.Close)
		return conn
	}
	brokertest.Receiving(t, brokertest.Receiver{
		Broker: func(t *testing.T) (broker.Broker, func()) {
			conn := connect(t)
			b, err := natsjs.New(conn, natsjs.Config{})
			sagatest.Must(t, err)
			return b, conn.Close
		},
		Stream: func(t *testing.T) (string, func()) {
			js, err := jetstream.New(connect(t))
			sagatest.Must(t, err)
			name := "t" + strings.ReplaceAll(uuid.NewString(), "-", "")
			_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}})
			sagatest.Must(t, err)
			remove := func() {
				if err := js.DeleteStream(context.Background(), name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
					t.Error(err)
				}
			}
			t.Cleanup(remove)
			return name, remove
		},
	})
}

// A subscription sees each interruption of the connection, also one that came and
// went between two calls, and asks on after it; several may ask for the backlog.
func TestInterruptions(t *testing.T) {
	t.Parallel()
	e := newServer(t)
	conn := connectTo(t, e.server.ClientURL())
	b := newBroker(t, conn)
	const name = "INTERRUPTED"
	_, err := b.OpenStream(t.Context(), broker.StreamConfig{Name: name, Subjects: []string{name + ".>"}})
	sagatest.Must(t, err)
	s, err := b.Subscribe(t.Context(), broker.SubscriptionConfig{Stream: name, Name: "worker"})
	sagatest.Must(t, err)
	js := own(t, conn)
	for round := range 3 {
		_, err := js.Publish(t.Context(), name+".a", []byte{byte(round)})
		sagatest.Must(t, err)
		sagatest.Eventually(t, "the message comes", func() bool {
			got, err := s.Fetch(t.Context(), 1)
			sagatest.Must(t, err)
			for _, d := range got {
				sagatest.Must(t, d.Ack())
			}
			return len(got) > 0
		})
		e.stop()
		e.start()
		sagatest.Eventually(t, "the connection is back", func() bool { return conn.Stats().Reconnects > uint64(round) && conn.IsConnected() })
		if _, err := s.Fetch(t.Context(), 1); !errors.Is(err, broker.ErrRepeat) {
			t.Fatalf("round %d: %v", round, err)
		}
		var asking sync.WaitGroup
		for range 2 {
			asking.Go(func() {
				if _, err := s.Backlog(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		asking.Wait()
	}
}
