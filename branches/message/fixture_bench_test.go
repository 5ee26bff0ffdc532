package message_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/tcc"
)

var quiet = slog.New(slog.DiscardHandler)

// bench is an engine with stock, of which there are ten phones, and a
// publisher with a stream of its own, which carries the subjects name.>
type bench struct {
	t          testing.TB
	db, outbox *gorm.DB
	js         jetstream.JetStream
	name       string // of the stream, and the first token of its subjects
	orch       *embedded.Engine
	publisher  *message.Publisher
}

// newBench has the outbox in the engine's database.
func newBench(t testing.TB, db *gorm.DB) *bench {
	t.Helper()
	return newBenchOn(t, db, db, connect(t))
}

func newBenchOn(t testing.TB, db, outbox *gorm.DB, js jetstream.JetStream) *bench {
	t.Helper()
	b := &bench{t: t, db: db, outbox: outbox, js: js, name: newStream(t, js)}
	sagatest.Must(t, stock.New(db).Put(t.Context(), "phone", 10))
	orch := sagatest.Open(t, db, embedded.Config{Lease: time.Second, MaxPayload: 16_000_000})
	publisher, err := message.NewPublisher(t.Context(), outbox, wrap(js), message.Config{Stream: b.name, Subjects: []string{b.name + ".>"}})
	sagatest.Must(t, err)
	sagatest.Must(t, tcc.Register(orch, publisher))
	sagatest.Must(t, tcc.Register(orch, stock.New(db)))
	b.orch, b.publisher = orch, publisher
	stopAtEnd(t, publisher)
	sagatest.Run(t, orch)
	return b
}

// stopAtEnd stops a publisher or a consumer when the test ends.
func stopAtEnd(t testing.TB, s interface{ Stop(context.Context) error }) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
}

// publish asks for a message on the last token of the subject.
func (b *bench) publish(last, data string) message.Publish {
	return message.Publish{Subject: b.name + "." + last, Data: []byte(data)}
}

func phones(n int64) stock.Lock {
	return stock.Lock{Items: []stock.Item{{SKU: "phone", Quantity: n}}}
}

// execute runs a plan that has to be confirmed.
func (b *bench) execute(payloads ...tcc.Payload) (gid string) {
	b.t.Helper()
	gid = sagatest.GID()
	outcome, err := tcc.Execute(b.t.Context(), b.orch, gid, payloads...)
	if err != nil || outcome.State != saga.Confirmed {
		b.t.Fatalf("%+v, %v", outcome, err)
	}
	return gid
}

// send publishes a message past the outbox, as other programs do.
func (b *bench) send(last, data string, headers nats.Header) {
	b.t.Helper()
	_, err := b.js.PublishMsg(b.t.Context(), &nats.Msg{Subject: b.name + "." + last, Data: []byte(data), Header: headers})
	sagatest.Must(b.t, err)
}

func (b *bench) reaches(gid string, state saga.State) *saga.Transaction {
	b.t.Helper()
	return sagatest.Reach(b.t, b.orch, gid, state)
}

// consume runs a consumer of the bench's stream until the test ends, with
// short pauses.
func (b *bench) consume(config message.ConsumerConfig, handle message.Handler) *message.Consumer {
	b.t.Helper()
	config.Stream, config.Logger = b.name, quiet
	if config.Name == "" {
		config.Name = "worker"
	}
	if config.MinBackoff == 0 {
		config.MinBackoff, config.MaxBackoff = 5*time.Millisecond, 20*time.Millisecond
	}
	c, err := message.Consume(b.t.Context(), b.db, wrap(b.js), config, handle)
	sagatest.Must(b.t, err)
	stopAtEnd(b.t, c)
	return c
}

// settled waits until the consumer has acknowledged all that the stream has now. A
// consumer that was not told yet of the last message says that it has no more; so
// its acknowledgements count, not what it says about the rest.
func (b *bench) settled(consumer string) {
	b.t.Helper()
	s, err := b.js.Stream(b.t.Context(), b.name)
	sagatest.Must(b.t, err)
	last := s.CachedInfo().State.LastSeq
	sagatest.Eventually(b.t, consumer+" has acknowledged everything", func() bool {
		c, err := b.js.Consumer(b.t.Context(), b.name, consumer)
		return err == nil && c.CachedInfo().AckFloor.Stream >= last
	})
}

// journal notes what handlers were called with.
type journal struct {
	mu      sync.Mutex
	entries []message.Received
}

func (j *journal) note(m message.Received) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, m)
}

func (j *journal) all() []message.Received {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]message.Received(nil), j.entries...)
}

// reaches waits until the handlers were called n times.
func (j *journal) reaches(t testing.TB, n int) []message.Received {
	t.Helper()
	sagatest.Eventually(t, fmt.Sprintf("%d calls of the handler", n), func() bool { return len(j.all()) >= n })
	return j.all()
}
