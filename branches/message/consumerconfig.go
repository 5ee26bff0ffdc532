package message

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"regexp"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/saga"
)

// Received is a message as a handler gets it.
type Received struct {
	// ID is the logical id, the same in every delivery. It is the header
	// Tccsaga-Id, or else the id that the publisher gave to the broker. Without
	// both, it is made from the time and the sequence at which the stream stored
	// the message.
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

// HeaderKey is the header with the ordering key of a message, escaped as in the path of a
// URL.
const HeaderKey = "Tccsaga-Key"

// Handler handles a message in the local transaction tx. It neither commits nor rolls back
// tx. After an error or a panic, its work is rolled back, and the message comes again. After
// an error of [Permanent], the message becomes a dead letter at once.
//
// A handler may run more than once for one attempt: after a deadlock, a lost connection, or
// the failure of another message in the same local transaction. The work in tx is committed
// only once. Other effects may happen more than once.
type Handler func(ctx context.Context, tx *gorm.DB, m Received) error

// BatchHandler handles several messages in one local transaction; see [Handler]. The
// messages of one key are in their order. If the handler fails, all work is rolled back, and
// each message is handled alone, in a batch of one. So only the messages that cause a
// failure fail.
type BatchHandler func(ctx context.Context, tx *gorm.DB, messages []Received) error

// ConsumerConfig configures [Consume]. Stream and Name are required.
type ConsumerConfig struct {
	// Stream to consume from. It has to exist.
	Stream string

	// Name is the consumer's durable name: 1 to 64 letters, digits, dashes and
	// underscores. Processes with the same name share the messages. Each name gets
	// all messages.
	Name string

	// Subjects selects messages. Defaults to all subjects of the stream, or to the
	// subjects of an existing consumer with this name.
	Subjects []string

	// Start is where a new consumer begins. Defaults to the first message that is
	// still in the stream. An existing consumer goes on where it is.
	Start broker.Start

	// Workers is how many local transactions run at once in this process. With one
	// worker, messages are handled in the order of the stream, except for messages
	// without a key that come again. Defaults to 1.
	Workers int

	// Batch is the most messages in one local transaction. With 1, each message has
	// its own local transaction.
	//
	// [Consume] calls the handler for one message after the other. Each message has
	// a savepoint: if a handler fails, only its own work is rolled back. By default,
	// as many messages share a local transaction as the handlers do in 20
	// milliseconds, and at most 32. So messages do not wait long for a slow handler.
	//
	// [ConsumeBatch] gives all messages to the handler at once, by default up to 64.
	// If the handler fails, it gets each message alone.
	//
	// If the process dies, it is not known which message was being handled. Then
	// each message is handled alone from then on. The death of the process counts as
	// an attempt only if the process dies again. So if Attempts is 1, messages share
	// no local transaction.
	Batch int

	// Key returns the ordering key of a message, or "" for no key. Messages with the
	// same key are handled one after the other, in the order of the stream. A
	// message that fails delays the later ones of its key, until it is handled or
	// becomes a dead letter. There is no order between processes: if you need the
	// order, run only one process with this Name. Defaults to the ordering key that
	// the message was published with.
	Key func(m Received) string

	// Attempts is how often the handler of a message may fail, or end the process,
	// before the message becomes a dead letter. Faults of the database and of the
	// broker do not count. Defaults to 10.
	Attempts int

	// MinBackoff and MaxBackoff bound the pause between attempts, which doubles.
	// Default to 200 milliseconds and 30 seconds.
	MinBackoff, MaxBackoff time.Duration

	// Timeout bounds one attempt, which is one local transaction. While the handler
	// runs, the broker does not deliver the message again. If the handler still runs
	// 10 seconds after its timeout, the broker may deliver the message again.
	// Defaults to 30 seconds.
	Timeout time.Duration

	// AckWait is how long the messages of a process that died stay undelivered.
	// MaxAckPending is how many messages all processes of this Name may have at
	// once. Description is a text for people who look at the broker. If they are
	// zero, an existing consumer keeps its own settings, and a new one has 5 seconds
	// and the broker's limit.
	AckWait       time.Duration
	MaxAckPending int
	Description   string

	// DeadLetters is the dead-letter stream: it gets the messages whose attempts are
	// used up. It is created if it does not exist, with the subjects "dead.STREAM.>"
	// and as many replicas as Stream has. Defaults to STREAM_dead.
	DeadLetters string

	// Retention is how long the inbox keeps a handled message at least. The inbox
	// also keeps a message as long as the stream has it. After that, a message comes
	// again only if it is published again, for example by a Publisher that did not
	// learn the outcome, or that lost its log. So choose a longer time than the
	// retention of the transactions. Defaults to 30 days.
	Retention time.Duration

	// Propagator reads the trace context from the headers. Defaults to W3C trace
	// context and baggage.
	Propagator propagation.TextMapPropagator

	// Observers are told of the calls of the handler; see [saga.Observer]. The handler of a
	// batch is told of once for each message. Package otelsaga has one for OpenTelemetry.
	// Defaults to none.
	Observers []saga.Observer

	// Logger gets errors and warnings. Defaults to [slog.Default].
	Logger *slog.Logger

	observers *saga.Observers // of Observers
}

var validName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (c ConsumerConfig) check() error {
	switch {
	case c.Stream == "" || len(c.Stream) > 255 || !validName.MatchString(c.Name):
		return fmt.Errorf("ConsumerConfig.Stream and Name are required, the name with 1 to 64 letters, digits, dashes and underscores: %w", ErrInvalid)
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
		c.Batch = 1 // otherwise it is not known at once which message ends the process
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

// backoff is the pause after the n-th attempt. It doubles each time up to MaxBackoff, and
// its second half is random.
func (c ConsumerConfig) backoff(n int) time.Duration {
	longest := c.MaxBackoff
	if n < 32 && c.MinBackoff<<(n-1) > 0 {
		longest = min(longest, c.MinBackoff<<(n-1))
	}
	return longest/2 + rand.N(longest/2+1)
}

// subscriptions are those of the stream, and of the messages that were sent again.
func (c ConsumerConfig) subscriptions() []broker.SubscriptionConfig {
	return []broker.SubscriptionConfig{
		{Stream: c.Stream, Name: c.Name, Subjects: c.Subjects, Start: c.Start, AckWait: c.AckWait, MaxAckPending: c.MaxAckPending, Description: c.Description},
		{Stream: c.DeadLetters, Name: "resent-" + c.Name, Subjects: []string{resentPrefix(c.Stream, c.Name) + ">"}},
	}
}

// publishedKey is the ordering key that a message was published with.
func publishedKey(m Received) string {
	key := header(m.Headers, HeaderKey)
	if plain, err := url.PathUnescape(key); err == nil {
		return plain
	}
	return key // another program has not escaped it
}
