package natsjs_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/branches/message/broker/brokertest"
	"github.com/tccsaga/tccsaga/branches/message/natsjs"
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
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		return conn
	}
	brokertest.Receiving(t, brokertest.Receiver{
		Broker: func(t *testing.T) (broker.Broker, func()) {
			conn := connect(t)
			b, err := natsjs.New(conn, natsjs.Config{})
			if err != nil {
				t.Fatal(err)
			}
			return b, conn.Close
		},
		Stream: func(t *testing.T) (string, func()) {
			js, err := jetstream.New(connect(t))
			if err != nil {
				t.Fatal(err)
			}
			name := "t" + strings.ReplaceAll(uuid.NewString(), "-", "")
			_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}})
			if err != nil {
				t.Fatal(err)
			}
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
