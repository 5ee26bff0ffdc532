package natsjs_test

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

	"github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/branches/message/natsjs"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// connect returns a connection to the shared server.
func connect(t testing.TB) *nats.Conn {
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

func connectTo(t testing.TB, url string) *nats.Conn {
	t.Helper()
	conn, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	sagatest.Must(t, err)
	t.Cleanup(conn.Close)
	return conn
}

func newBroker(t testing.TB, conn *nats.Conn) *natsjs.Broker {
	t.Helper()
	b, err := natsjs.New(conn, natsjs.Config{})
	sagatest.Must(t, err)
	return b
}

// context returns the user's own JetStream context.
func own(t testing.TB, conn *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(conn)
	sagatest.Must(t, err)
	return js
}

// newName returns a name for a stream, which is removed after the test.
func newName(t testing.TB, js jetstream.JetStream) string {
	t.Helper()
	name := "t" + strings.ReplaceAll(uuid.NewString(), "-", "")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) && js.Conn().IsConnected() {
			t.Errorf("deleting stream %s: %v", name, err)
		}
	})
	return name
}

// stored returns what a stream holds.
func stored(t testing.TB, js jetstream.JetStream, name string) (all []broker.Stored) {
	t.Helper()
	s, err := js.Stream(t.Context(), name)
	sagatest.Must(t, err)
	for next := uint64(1); ; {
		msg, err := s.GetMsg(t.Context(), next, jetstream.WithGetMsgSubject(">"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return all
		}
		sagatest.Must(t, err)
		all = append(all, broker.Stored{Sequence: msg.Sequence, Time: msg.Time, Message: broker.Message{
			ID: msg.Header.Get(jetstream.MsgIDHeader), Subject: msg.Subject, Headers: msg.Header, Data: msg.Data}})
		next = msg.Sequence + 1
	}
}

// embedded is a server that a test can shut down and start again.
type embedded struct {
	t       testing.TB
	options server.Options
	server  *server.Server
}

func newServer(t testing.TB) *embedded {
	t.Helper()
	e := &embedded{t: t, options: server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()}}
	e.start()
	t.Cleanup(e.stop)
	return e
}

// start starts the server, after the first time on the same port.
func (e *embedded) start() {
	options := e.options
	s, err := server.NewServer(&options)
	sagatest.Must(e.t, err)
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		e.t.Fatal("the embedded server did not start")
	}
	e.options.Port, e.server = options.Port, s
}

func (e *embedded) stop() {
	e.server.Shutdown()
	e.server.WaitForShutdown()
}
