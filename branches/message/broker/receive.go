package broker

import (
	"context"
	"errors"
	"time"
)

// Subscriber opens consumers of streams.
type Subscriber interface {
	// Subscribe creates the named consumer of a stream, or opens an existing one.
	// Processes that subscribe with the same name share the messages. Each name
	// gets all messages.
	//
	// Subscribe changes a setting of an existing consumer only if config sets
	// another value, or if the consumer would drop a message before it is settled.
	// It never changes where the consumer starts.
	//
	// The error wraps ErrNotFound if the stream does not exist, ErrInvalid if the
	// configuration is not valid, ErrUnsafe if a setting of an existing consumer
	// cannot keep the promise of receiving, and ErrClosed if the connection is closed.
	Subscribe(ctx context.Context, config SubscriptionConfig) (Subscription, error)
}

// SubscriptionConfig configures a consumer. Stream and Name are required. A zero field
// means the default for a new consumer. In an existing consumer it changes nothing.
type SubscriptionConfig struct {
	Stream string
	Name   string

	// Subjects are patterns of the messages to consume. Defaults to all messages
	// of the stream.
	Subjects []string

	// Start is where a new consumer begins.
	Start Start

	// AckWait is how long the broker waits, after a delivery, until it delivers a
	// message again that was neither settled nor extended. Defaults to 5 seconds.
	AckWait time.Duration

	// MaxAckPending is how many messages of the consumer may be delivered and not
	// settled, in all processes together. Defaults to the broker's own limit.
	MaxAckPending int

	// Description is a text for people who look at the broker.
	Description string
}

// Start says where a new consumer begins: at a sequence, at a time, or with the messages
// that are stored from now on. Set at most one field. With the zero value, the consumer
// begins with the first message that is still in the stream.
type Start struct {
	Sequence uint64
	Time     time.Time
	New      bool
}

// Subscription receives messages of a stream for one named consumer. Only one goroutine
// at a time may call Fetch or Close. The other methods are safe for concurrent use.
type Subscription interface {
	// AckWait returns the AckWait of the consumer at the time when it was opened.
	AckWait() time.Duration

	// Fetch waits for messages, and returns up to most messages as soon as there
	// are some. If none come for about a second, it returns no messages and no
	// error. If ctx ends, it returns the error of ctx. Neither loses a message.
	// Messages that come for the first time are in the order of the stream.
	// Messages that come again are before them.
	//
	// The error wraps ErrRepeat after a fault in which messages were lost on their
	// way: they come again when their AckWait is over. It wraps ErrNotFound if the
	// stream or the consumer does not exist: the caller subscribes again. It wraps
	// ErrClosed if the connection is closed for good. After ErrRepeat, and after
	// any other error, Fetch may be called again.
	Fetch(ctx context.Context, most int) ([]Delivery, error)

	// Backlog asks the broker how many messages it has for the consumer.
	Backlog(ctx context.Context) (Backlog, error)

	// Close stops fetching and returns the messages that came meanwhile, so that
	// the caller can give them back. If it returns no error, the broker has
	// received all earlier calls of Ack and Again, and sends nothing more. Close does not
	// remove the consumer from the broker.
	Close(ctx context.Context) ([]Delivery, error)

	// Flush waits until the broker has received all earlier calls of Ack and Again.
	Flush(ctx context.Context) error
}

// Backlog is how many messages a broker has for a consumer.
type Backlog struct {
	Waiting   uint64 // messages that were never delivered
	Unsettled int    // messages that were delivered, to any process, and are not settled
}

// Delivery is one delivery of a message. Call Ack or Again, but not both, to settle it. If
// it is not settled, the message comes again after AckWait. The methods do not wait for
// the broker: if an Ack is lost, the message comes again. They are safe for concurrent
// use.
type Delivery interface {
	// Message returns the message. Its ID is the id that the publisher gave to the
	// broker, or empty.
	Message() Message

	// Position returns where the message is stored.
	Position() Position

	// Ack reports the message as handled.
	Ack() error

	// Again asks for the message once more, after a delay. With 0 it comes at once.
	Again(delay time.Duration) error

	// Extend gives the delivery another AckWait from now.
	Extend() error
}

// Position is where and when a message was stored.
type Position struct {
	Stream   string
	Sequence uint64    // position in the stream
	Time     time.Time // when it was stored, by the broker's clock; the same in every delivery
	Waiting  uint64    // later messages of the consumer that were never delivered
}

// Archive reads and removes stored messages, for example dead letters.
type Archive interface {
	// First returns the first message of a stream at or after a sequence whose
	// subject matches the pattern. The error wraps ErrNotFound if there is no such
	// message, or no such stream.
	First(ctx context.Context, stream, pattern string, from uint64) (Stored, error)

	// Range returns two sequences: of the first message that is still in the
	// stream, and of the message that was stored last, even if it was removed. Both
	// are 0 if the stream never had a message. The error wraps ErrNotFound if there
	// is no such stream.
	Range(ctx context.Context, stream string) (first, last uint64, err error)

	// Keeps reports whether a stream keeps a message after its consumers have
	// acknowledged it. The error wraps ErrNotFound if there is no such stream.
	Keeps(ctx context.Context, stream string) (bool, error)

	// Remove removes a message. If the message does not exist, Remove succeeds.
	Remove(ctx context.Context, stream string, sequence uint64) error
}

// Stored is a stored message.
type Stored struct {
	Message
	Sequence uint64
	Time     time.Time // when it was stored, by the broker's clock
}

// Broker has everything that package message needs from a broker.
type Broker interface {
	Publisher
	Subscriber
	Archive
}

var (
	// ErrClosed is wrapped if the connection to the broker is closed for good.
	ErrClosed = errors.New("the connection to the broker is closed")

	// ErrRepeat is wrapped if messages were lost on their way. They come again.
	ErrRepeat = errors.New("the connection to the broker was interrupted")
)
