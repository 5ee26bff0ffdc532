package message

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// Received is a message as a handler gets it.
type Received struct {
	// ID is the logical id, the same in every delivery: the header Tccsaga-Id, or
	// the id that the publisher gave to the broker, or, of a message without
	// either, one made of the time and the sequence at which the stream stored it.
	ID       string
	Subject  string
	Data     []byte
	Headers  map[string][]string
	Stream   string
	Sequence uint64
	Time     time.Time // when the stream stored it, by the broker's clock
	Attempt  int       // from 1; only failures of the handler count
	Key      string    // its ordering key; empty if it has none
}

// HeaderKey is the header with the ordering key of a message that has one, escaped as
// in the path of a URL.
const HeaderKey = "Tccsaga-Key"

// Handler does the work of a message in the local transaction tx, which it
// neither commits nor rolls back. After an error, or a panic, all is rolled back,
// and the message comes again. An error of [Permanent] puts the message aside at
// once.
//
// A handler may run more than once for one attempt: after a deadlock, a lost
// connection, or the failure of another message in the same local transaction. Of
// the work in tx only one run is ever committed; other effects may happen more
// than once.
type Handler func(ctx context.Context, tx *gorm.DB, m Received) error

// BatchHandler does the work of several messages in one local transaction; see
// [Handler]. The messages of one key are in their order. If it fails, all is rolled
// back, and each message is handled alone, in a batch of one, so that only those
// at fault fail.
type BatchHandler func(ctx context.Context, tx *gorm.DB, messages []Received) error

// ConsumerConfig configures [Consume]. Stream and Name are needed.
type ConsumerConfig struct {
	// Stream to consume from. It has to exist.
	Stream string

	// Name is the consumer's durable name: letters, digits, dashes and
	// underscores, at most 64. Processes with the same name share the
	// messages; each name gets all of them.
	Name string

	// Subjects narrows what is consumed. Defaults to all of the stream, or to what
	// an existing consumer of this name has.
	Subjects []string

	// Start is where a new consumer begins. Defaults to the first message that the
	// stream still has. An existing consumer goes on where it is.
	Start broker.Start

	// Workers is how many local transactions run at once, in this process. With
	// one, messages are handled in the order of the stream, except for those
	// without a key that come again. Defaults to 1.
	Workers int

	// Batch is how many messages are handled in one local transaction, at most:
	// fewer if fewer are there. 1 gives each message a local transaction of its own.
	//
	// [Consume] calls the handler for one message after the other. Each has a
	// savepoint: a handler that fails undoes its own work only. By default, so many
	// messages share a local transaction as the handlers do in 20 milliseconds, and
	// 32 at most. So the messages of a slow handler do not wait for each other.
	//
	// [ConsumeBatch] gives all messages to the handler at once, by default 64. If it
	// fails, it gets each of them alone.
	//
	// If the process dies, nobody knows which one of them was at work: each is
	// handled alone from then on, and has spent no attempt by it unless the process
	// dies again. So messages share no local transaction if Attempts is 1.
	Batch int

	// Key returns the ordering key of a message. Messages with the same key are
	// handled one after the other, in the order of the stream; one that fails
	// holds up those behind it until it is handled or put aside. This holds within
	// one process: run only one with this Name if the order counts. Empty is no
	// key. Defaults to the ordering key that the message was published with.
	Key func(m Received) string

	// Attempts is how often the handler of a message may fail, or end the process,
	// before the message goes to the dead letters. Faults of the database and of
	// the broker do not count. Defaults to 10.
	Attempts int

	// MinBackoff and MaxBackoff bound the pause between attempts, which doubles.
	// Default to 200 milliseconds and 30 seconds.
	MinBackoff, MaxBackoff time.Duration

	// Timeout bounds one attempt: one local transaction. While it lasts, the broker
	// is told so, and delivers the message to nobody else. A handler that goes on
	// for 10 seconds after it loses this protection. Defaults to 30 seconds.
	Timeout time.Duration

	// AckWait is for how long the messages of a process that died stay undelivered,
	// MaxAckPending how many messages all processes of this Name may have at once,
	// and Description a text for the people who look at the broker. If they are
	// zero, an existing consumer keeps its own, and a new one has 5 seconds and the
	// broker's limit.
	AckWait       time.Duration
	MaxAckPending int
	Description   string

	// DeadLetters is the stream for messages that failed to the last attempt. It is
	// created if it does not exist, with the subjects "dead.STREAM.>" and with as
	// many replicas as Stream has. Defaults to STREAM_dead.
	DeadLetters string

	// Retention is how long the inbox knows a message that was handled, at least.
	// It knows each message for as long as the stream has it. Beyond that a message
	// comes again only if it is published again, such as by a Publisher that does
	// not know whether it was, or that lost its log: choose a longer time than the
	// retention of the transactions. Defaults to 30 days.
	Retention time.Duration

	// Propagator takes the trace context out of the headers. Defaults to W3C
	// trace context and baggage.
	Propagator propagation.TextMapPropagator

	// Logger takes what goes wrong. Defaults to [slog.Default].
	Logger *slog.Logger
}

var validName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (c ConsumerConfig) check() error {
	switch {
	case c.Stream == "" || len(c.Stream) > 255 || !validName.MatchString(c.Name):
		return fmt.Errorf("ConsumerConfig.Stream and Name are needed, the name with 1 to 64 letters, digits, dashes and underscores: %w", ErrInvalid)
	case c.DeadLetters == c.Stream:
		return fmt.Errorf("ConsumerConfig.DeadLetters is the stream %s itself: %w", c.Stream, ErrInvalid)
	}
	return nil
}

func (c ConsumerConfig) withDefaults() ConsumerConfig {
	c.Workers, c.Batch = max(1, c.Workers), max(0, c.Batch)
	if c.Attempts <= 0 {
		c.Attempts = 10
	}
	if c.Attempts == 1 {
		c.Batch = 1 // the one that ends the process is not known at once otherwise
	}
	if c.MinBackoff <= 0 {
		c.MinBackoff = 200 * time.Millisecond
	}
	if c.MaxBackoff <= 0 {
		c.MaxBackoff = 30 * time.Second
	}
	if c.Timeout <= 0 {
		c.Timeout = 30 * time.Second
	}
	if c.Retention <= 0 {
		c.Retention = 30 * 24 * time.Hour
	}
	if c.DeadLetters == "" {
		c.DeadLetters = c.Stream + "_dead"
	}
	if c.Key == nil {
		c.Key = publishedKey
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Propagator = propagatorOr(c.Propagator)
	return c
}

// publishedKey is the ordering key that a message was published with.
func publishedKey(m Received) string {
	key := header(m.Headers, HeaderKey)
	if plain, err := url.PathUnescape(key); err == nil {
		return plain
	}
	return key // of another program
}
