package broker

import (
	"context"
	"errors"
	"time"
)

// Subscriber opens consumers of streams.
type Subscriber interface {
	// Subscribe creates the named consumer of a stream, or takes the one that
	// exists. Processes that subscribe with the same name share the messages;
	// each name gets all of them.
	//
	// A setting of an existing consumer is changed only if config sets another
	// value, or if the consumer would give a message up before it is settled. The
	// place where it starts is never changed.
	//
	// The error wraps ErrNotFound if the stream does not exist, ErrInvalid if the
	// configuration cannot work, ErrUnsafe if a setting of an existing consumer
	// cannot keep the promise of receiving, and ErrClosed.
	Subscribe(ctx context.Context, config SubscriptionConfig) (Subscription, error)
}

// SubscriptionConfig says what to consume. Stream and Name are needed. A field
// that is zero has its default when the consumer is created, and leaves an
// existing one as it is.
type SubscriptionConfig struct {
	Stream string
	Name   string

	// Subjects are patterns of what is consumed. Defaults to all of the stream.
	Subjects []string

	// Start is where a new consumer begins.
	Start Start

	// AckWait is for how long a delivered message goes to nobody else, until it
	// is settled or extended. Defaults to 5 seconds.
	AckWait time.Duration

	// MaxAckPending is how many messages of the consumer may be delivered and not
	// settled, in all of its processes. Defaults to the broker's own limit.
	MaxAckPending int

	// Description is for the people who look at the broker.
	Description string
}

// Start says where a new consumer begins: at a sequence, at a time, or with
// messages that are stored from now on. At most one field is set. The zero value
// is the first message that the stream still has.
type Start struct {
	Sequence uint64
	Time     time.Time
	New      bool
}

// Subscription gets messages of a stream for one named consumer. One goroutine at
// a time calls Fetch or Close; the other methods are safe for concurrent use.
type Subscription interface {
	// AckWait is the AckWait of the consumer, as it was when it was opened.
	AckWait() time.Duration

	// Fetch waits for messages, and returns at most that many as soon as there
	// are some. It returns none, and no error, when it has waited for about a
	// second in vain, and the error of ctx when that ends; no message is lost by
	// either. Messages that nobody has had come in the order of the stream,
	// those that come again before them.
	//
	// ErrRepeat is wrapped after a fault that has lost what was on its way: such
	// messages come again when their AckWait is over. Fetch may be called again.
	// ErrNotFound is wrapped when the stream or the consumer is gone: the caller
	// subscribes again. ErrClosed is wrapped when the connection is closed for
	// good. After any other error Fetch may be called again.
	Fetch(ctx context.Context, most int) ([]Delivery, error)

	// Backlog asks the broker what it has for the consumer.
	Backlog(ctx context.Context) (Backlog, error)

	// Close ends the asking and returns the messages that came meanwhile, so that
	// the caller can give them back. When it returns without an error, the broker
	// has got what deliveries were settled before, and has sent all that it will
	// send. It does not remove the consumer from the broker.
	Close(ctx context.Context) ([]Delivery, error)

	// Flush waits until the broker has got what deliveries were settled before.
	Flush(ctx context.Context) error
}

// Backlog is what a broker has for a consumer.
type Backlog struct {
	Waiting   uint64 // messages that were never delivered
	Unsettled int    // messages that were delivered, to any process, and are not settled
}

// Delivery is one delivery of a message. Exactly one of Ack and Again settles it.
// Without either the message comes again after AckWait. Its methods do not wait
// for the broker: if what they say is lost, the message comes again. They are safe
// for concurrent use.
type Delivery interface {
	// Message returns the message. Its ID is the one that the publisher gave to
	// the broker; empty if it gave none.
	Message() Message

	// Position returns where the message is stored.
	Position() Position

	// Ack says that the message is handled.
	Ack() error

	// Again asks for the message once more, after a delay; at once if it is 0.
	Again(delay time.Duration) error

	// Extend gives the delivery another AckWait from now.
	Extend() error
}

// Position says where a message is stored.
type Position struct {
	Stream   string
	Sequence uint64    // position in the stream
	Time     time.Time // when it was stored, by the broker's clock; the same in every delivery
	Waiting  uint64    // messages of the consumer that were never delivered, behind this one
}

// Archive reads and removes stored messages, for example dead letters.
type Archive interface {
	// First returns the first message of a stream at or after a sequence, on a
	// subject that fits the pattern. The error wraps ErrNotFound if there is no
	// such message, or no such stream.
	First(ctx context.Context, stream, pattern string, from uint64) (Stored, error)

	// Range returns the sequences of the first message that a stream still has,
	// and of the one that was stored last, removed or not; 0 and 0 if there was
	// none. The error wraps ErrNotFound if there is no such stream.
	Range(ctx context.Context, stream string) (first, last uint64, err error)

	// Keeps says whether a stream keeps a message after its consumers have
	// acknowledged it. The error wraps ErrNotFound if there is no such stream.
	Keeps(ctx context.Context, stream string) (bool, error)

	// Remove removes a message. It is no error if it is gone.
	Remove(ctx context.Context, stream string, sequence uint64) error
}

// Stored is a stored message.
type Stored struct {
	Message
	Sequence uint64
	Time     time.Time // when it was stored, by the broker's clock
}

// Broker is all that package message needs of a broker.
type Broker interface {
	Publisher
	Subscriber
	Archive
}

var (
	// ErrClosed is wrapped when the connection to the broker is closed for good.
	ErrClosed = errors.New("the connection to the broker is closed")

	// ErrRepeat is wrapped when messages that were on their way are lost, and come
	// again.
	ErrRepeat = errors.New("the connection to the broker was interrupted")
)
