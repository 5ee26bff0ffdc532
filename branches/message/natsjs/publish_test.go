package natsjs_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/branches/message/broker/brokertest"
	"github.com/tccsaga/tccsaga/branches/message/natsjs"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// harness is for a server at an address.
func harness(t *testing.T, url string) brokertest.Harness {
	return brokertest.Harness{
		Broker: func(t *testing.T) broker.Broker { return newBroker(t, connectTo(t, url)) },
		Name:   func(t *testing.T) string { return newName(t, own(t, connectTo(t, url))) },
		Stored: func(t *testing.T, stream string) []broker.Stored { return stored(t, own(t, connectTo(t, url)), stream) },
		Break: func(t *testing.T) (broker.Broker, func(string) []broker.Stored, func(), func()) {
			e := newServer(t)
			conn := connectTo(t, e.server.ClientURL())
			return newBroker(t, conn), func(stream string) []broker.Stored { return stored(t, own(t, conn), stream) }, e.stop, e.start
		},
	}
}

func TestPublishing(t *testing.T) {
	t.Parallel()
	brokertest.Publishing(t, harness(t, connect(t).ConnectedUrl()))
}

// What needs no newer server works with NATS 2.9.
func TestPublishingOnAnOldServer(t *testing.T) {
	t.Parallel()
	url := os.Getenv("TCCSAGA_TEST_NATS_2_9")
	if url == "" {
		t.Skip("TCCSAGA_TEST_NATS_2_9 is not set")
	}
	h := harness(t, url)
	h.Break = nil
	brokertest.Publishing(t, h)

	js := own(t, connectTo(t, url))
	name := newName(t, js)
	s, err := newBroker(t, js.Conn()).OpenStream(t.Context(), broker.StreamConfig{Name: name, Subjects: []string{name + ".>"}})
	sagatest.Must(t, err)
	err = s.Check(broker.Message{ID: "x", Subject: name + ".a", Headers: map[string][]string{"Nats-TTL": {"1h"}}})
	if !errors.Is(err, broker.ErrInvalid) || !strings.Contains(err.Error(), "needs NATS 2.11") {
		t.Error(err)
	}
}

// Settings with which a message may be lost are refused, or warned of, by name.
func TestStreamsThatCannotKeepThePromise(t *testing.T) {
	t.Parallel()
	js := own(t, connect(t))
	b := newBroker(t, js.Conn())
	for setting, c := range map[string]struct {
		config  jetstream.StreamConfig
		warning bool
		prepare func(stream string) error
	}{
		"no_ack":               {config: jetstream.StreamConfig{NoAck: true}},
		"storage":              {config: jetstream.StreamConfig{Storage: jetstream.MemoryStorage}},
		"retention":            {config: jetstream.StreamConfig{Retention: jetstream.InterestPolicy}},
		"persist_mode":         {config: jetstream.StreamConfig{PersistMode: jetstream.AsyncPersistMode}},
		"duplicate_window":     {config: jetstream.StreamConfig{Duplicates: time.Minute}, warning: true},
		"max_msgs":             {config: jetstream.StreamConfig{MaxMsgs: 10}, warning: true},
		"max_bytes":            {config: jetstream.StreamConfig{MaxBytes: 1 << 20}, warning: true},
		"max_msgs_per_subject": {config: jetstream.StreamConfig{MaxMsgsPerSubject: 1}, warning: true},
		"retention ": {config: jetstream.StreamConfig{Retention: jetstream.InterestPolicy}, warning: true, prepare: func(stream string) error {
			_, err := js.CreateConsumer(t.Context(), stream, jetstream.ConsumerConfig{Durable: "x"})
			return err
		}},
		"": {config: jetstream.StreamConfig{Retention: jetstream.WorkQueuePolicy, MaxBytes: 1 << 20, Discard: jetstream.DiscardNew}},
	} {
		t.Run(setting, func(t *testing.T) {
			name := newName(t, js)
			c.config.Name, c.config.Subjects = name, []string{name + ".>"}
			_, err := js.CreateStream(t.Context(), c.config)
			sagatest.Must(t, err)
			if c.prepare != nil {
				sagatest.Must(t, c.prepare(name))
			}
			setting := strings.TrimSpace(setting)
			s, err := b.OpenStream(t.Context(), broker.StreamConfig{Name: name, Subjects: []string{name + ".>"}, RetryFor: 2 * time.Minute})
			switch {
			case setting == "" && (err != nil || len(s.Info().Warnings) > 0):
				t.Errorf("%v, %v", err, s.Info().Warnings)
			case setting != "" && !c.warning && (!errors.Is(err, broker.ErrUnsafe) || !strings.Contains(err.Error(), setting+" is ")):
				t.Errorf("opened: %v", err)
			case c.warning && (err != nil || len(s.Info().Warnings) != 1 || s.Info().Warnings[0].Setting != setting):
				t.Errorf("%v, %+v", err, s)
			}
			// A consumer may read it all the same.
			_, err = b.OpenStream(t.Context(), broker.StreamConfig{Name: name})
			sagatest.Must(t, err)
		})
	}
}

// The headers that NATS defines are taken where they keep the promise.
func TestHeadersOfNATS(t *testing.T) {
	t.Parallel()
	js := own(t, connect(t))
	b := newBroker(t, js.Conn())
	plain, ttl := newName(t, js), newName(t, js)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: ttl, Subjects: []string{ttl + ".>"}, AllowMsgTTL: true})
	sagatest.Must(t, err)
	for _, c := range []struct{ stream, header, value, says string }{
		{plain, "Nats-TTL", "1h", "allow_msg_ttl off"},
		{ttl, "Nats-TTL", "1h", ""},
		{ttl, "Nats-TTL", "90", ""},
		{ttl, "Nats-TTL", "never", ""},
		{ttl, "Nats-TTL", "10ms", "a second or more"},
		{ttl, "Nats-TTL", "soon", "use never"},
		{ttl, "nats-ttl", "1h", "write it as Nats-TTL"},
		{plain, "Nats-Expected-Stream", plain, ""},
		{plain, "Nats-Expected-Stream", ttl, "the stream is"},
		{plain, "Nats-Expected-Last-Sequence", "0", "after the decision"},
		{plain, "nats-expected-last-subject-sequence", "0", "after the decision"},
		{plain, "Nats-Expected-Last-Msg-Id", "x", "after the decision"},
		{plain, "Nats-Msg-Id", "x", "sets the id"},
		{plain, "Nats-Rollup", "all", "would remove later messages"},
		{plain, "Nats-Schedule", "@at 2030-01-01T00:00:00Z", "use Publish.After"},
		{plain, "Nats-Schedule-Target", "x", "use Publish.After"},
		{plain, "Nats-Anything", "x", "reserved"},
	} {
		s, err := b.OpenStream(t.Context(), broker.StreamConfig{Name: c.stream, Subjects: []string{c.stream + ".>"}})
		sagatest.Must(t, err)
		m := broker.Message{ID: c.header + c.value, Subject: c.stream + ".a", Headers: map[string][]string{c.header: {c.value}}}
		err = s.Check(m)
		if c.says != "" && (!errors.Is(err, broker.ErrInvalid) || !strings.Contains(err.Error(), c.says)) || c.says == "" && err != nil {
			t.Errorf("%s: %s: %v, want %q", c.header, c.value, err, c.says)
		}
		if c.says == "" {
			sagatest.Must(t, s.Publish(t.Context(), []broker.Message{m})[0].Err)
		}
	}
}

// Nothing waits for an acknowledgement for longer than AckTimeout, whatever
// becomes of the stream's leader, and the user's own context is not touched.
func TestNothingKeepsWaiting(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(4))
	sagatest.Must(t, err)
	name := newName(t, js)
	b, err := natsjs.New(conn, natsjs.Config{AckTimeout: 50 * time.Millisecond})
	sagatest.Must(t, err)
	s, err := b.OpenStream(t.Context(), broker.StreamConfig{Name: name, Subjects: []string{name + ".>"}})
	sagatest.Must(t, err)
	sagatest.Must(t, js.DeleteStream(t.Context(), name))
	silent, err := conn.SubscribeSync(name + ".>")
	sagatest.Must(t, err)
	messages := make([]broker.Message, 500)
	for i := range messages {
		messages[i] = broker.Message{ID: fmt.Sprint(i), Subject: name + ".a"}
	}
	for range 3 {
		for i, r := range s.Publish(t.Context(), messages) {
			if r.Err == nil {
				t.Fatalf("number %d: %+v", i, r)
			}
		}
	}
	sagatest.Eventually(t, "nothing waits", func() bool { return b.Pending() == 0 })
	if n := js.PublishAsyncPending(); n != 0 {
		t.Errorf("%d wait in the user's context", n)
	}
	sagatest.Must(t, silent.Unsubscribe())
	_, err = b.OpenStream(t.Context(), broker.StreamConfig{Name: name, Subjects: []string{name + ".>"}})
	sagatest.Must(t, err)
	future, err := js.PublishAsync(name+".a", nil)
	sagatest.Must(t, err)
	select {
	case <-future.Ok():
	case err := <-future.Err():
		t.Error(err)
	}
}
