package message_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	seam "github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/branches/message/natsjs"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// connect returns a connection to the shared broker.
func connect(t testing.TB) jetstream.JetStream {
	t.Helper()
	url := os.Getenv("TCCSAGA_TEST_NATS")
	if url == "" {
		const text = "TCCSAGA_TEST_NATS is not set: run the tests with make test, which starts the servers"
		if os.Getenv("CI") != "" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	return connectTo(t, url)
}

func connectTo(t testing.TB, url string) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	sagatest.Must(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	sagatest.Must(t, err)
	return js
}

// wrap returns the broker that js is connected to; nil if js is.
func wrap(js jetstream.JetStream) seam.Broker {
	if js == nil {
		return nil
	}
	b, err := natsjs.New(js.Conn(), natsjs.Config{})
	if err != nil {
		panic(err)
	}
	return b
}

// newStream returns a name for a stream that the test creates; it and its dead
// letters are removed after the test.
func newStream(t testing.TB, js jetstream.JetStream) string {
	t.Helper()
	name := "t" + strings.ReplaceAll(uuid.NewString(), "-", "")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		for _, stream := range []string{name, name + "_dead"} {
			if err := js.DeleteStream(ctx, stream); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
				t.Errorf("deleting stream %s: %v", stream, err)
			}
		}
	})
	return name
}

// broker is an embedded broker that a test can shut down and start again.
type broker struct {
	t       testing.TB
	options server.Options
	server  *server.Server
}

func newBroker(t testing.TB) *broker {
	t.Helper()
	b := &broker{t: t, options: server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()}}
	b.start()
	t.Cleanup(b.stop)
	return b
}

// start starts the broker, after the first time on the same port.
func (b *broker) start() {
	b.t.Helper()
	options := b.options
	s, err := server.NewServer(&options)
	sagatest.Must(b.t, err)
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		b.t.Fatal("the embedded broker did not start")
	}
	b.options.Port = options.Port
	b.server = s
}

func (b *broker) stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// count returns how many messages there are in a stream.
func count(t testing.TB, js jetstream.JetStream, stream string) uint64 {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	sagatest.Must(t, err)
	return s.CachedInfo().State.Msgs
}

// read returns a message of a stream.
func read(t testing.TB, js jetstream.JetStream, stream string, sequence uint64) *jetstream.RawStreamMsg {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	sagatest.Must(t, err)
	msg, err := s.GetMsg(t.Context(), sequence)
	sagatest.Must(t, err)
	return msg
}
