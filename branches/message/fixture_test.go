package message_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	seam "github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/branches/message/natsjs"
	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

var quiet = slog.New(slog.DiscardHandler)

// bench is an orchestrator with stock, of which there are ten phones, and a
// publisher with a stream of its own, which carries the subjects name.>
type bench struct {
	t          testing.TB
	db, outbox *gorm.DB
	js         jetstream.JetStream
	name       string // of the stream, and the first token of its subjects
	orch       *embedded.Engine
	publisher  *message.Publisher
}

// newBench has the outbox in the orchestrator's database.
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

// outboxRow is what the tests look at in saga_outbox.
type outboxRow struct {
	BranchID, State, Subject, Stream string
	Sequence                         uint64
	Published, Discarded             bool
}

// id returns the logical id of a message.
func (b *bench) id(gid, branch string) (id string) {
	b.t.Helper()
	sagatest.Must(b.t, b.outbox.Raw("SELECT message_id FROM saga_outbox WHERE gid = ? AND branch_id = ?", gid, branch).Scan(&id).Error)
	if !strings.HasPrefix(id, gid+"/"+branch+"/") {
		b.t.Errorf("message %s/%s has the id %q", gid, branch, id)
	}
	return id
}

func (b *bench) outboxRows(gid string) (rows []outboxRow) {
	b.t.Helper()
	sagatest.Must(b.t, b.outbox.Raw(`SELECT branch_id, state, subject, stream, sequence, published_at IS NOT NULL AS published,
		discarded_at IS NOT NULL AS discarded FROM saga_outbox WHERE gid = ? ORDER BY branch_id`, gid).Scan(&rows).Error)
	return rows
}

// holds checks how many messages there are in a stream.
func (b *bench) holds(stream string, messages uint64) {
	b.t.Helper()
	if got := count(b.t, b.js, stream); got != messages {
		b.t.Errorf("stream %s holds %d messages, want %d", stream, got, messages)
	}
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

// effects is a table that handlers write into, so that what a handler did is
// seen only if its local transaction was committed.
func (b *bench) effects() {
	b.t.Helper()
	sqltest.Exec(b.t, b.db, "CREATE TABLE effects (consumer VARCHAR(64) NOT NULL, id VARCHAR(200) NOT NULL)")
}

func effect(tx *gorm.DB, consumer, id string) error {
	return tx.Exec("INSERT INTO effects VALUES (?, ?)", consumer, id).Error
}

// had checks how often a handler had its effect on a message.
func (b *bench) had(consumer, id string, times int64) {
	b.t.Helper()
	var n int64
	sagatest.Must(b.t, b.db.Raw("SELECT COUNT(*) FROM effects WHERE consumer = ? AND id = ?", consumer, id).Scan(&n).Error)
	if n != times {
		b.t.Errorf("%s had its effect on %s %d times, want %d", consumer, id, n, times)
	}
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
