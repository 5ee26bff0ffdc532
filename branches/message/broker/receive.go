package broker

import (
	"context"
	"time"
)

// Subscriber opens consumers of streams.
type Subscriber interface {
	// Subscribe creates the named consumer of a stream, or takes the one that
	// exists. Processes that subscribe with the same name share the messages;
	// each name gets all of them. The error wraps ErrNotFound if the stream does
	// not exist.
	Subscribe(ctx context.Context, config SubscriptionConfig) (Subscription, error)
}

// SubscriptionConfig says what to consume. Stream, Name and AckWait are needed.
type SubscriptionConfig struct {
	Stream   string
	Name     string
	Subjects []string // all of the stream if empty

	// AckWait is for how long a delivered message goes to nobody else, until it
	// is acknowledged, asked for again, or extended.
	AckWait time.Duration
}

// Subscription gets messages of a stream for one named consumer. It is safe for
// concurrent use.
type Subscription interface {
	// Fetch waits for messages, and returns at most that many as soon as there
	// are some. It returns none, and no error, when it has waited for some
	// seconds in vain; it returns an error when ctx ends.
	Fetch(ctx context.Context, most int) ([]Delivery, error)
}

// Delivery is one delivery of a message. Exactly one of Ack, Again and Terminate
// settles it. Without any of them the message comes again after AckWait.
type Delivery interface {
	// Message returns the message. Its ID is the one that the publisher gave to
	// the broker; empty if it gave none.
	Message() Message

	// Position returns where the message is stored, and how often it has been
	// delivered, counted from 1.
	Position() (stream string, sequence uint64, deliveries int)

	// Ack says that the message is handled. It returns nil only after the broker
	// has noted so. After an error the message may come again.
	Ack(ctx context.Context) error

	// Again asks for the message once more, after a delay.
	Again(ctx context.Context, delay time.Duration) error

	// Extend gives the delivery another AckWait from now.
	Extend(ctx context.Context) error

	// Terminate says that the message must not come again, although it is not
	// handled.
	Terminate(ctx context.Context, reason string) error
}

// Archive reads and removes stored messages, for example dead letters.
type Archive interface {
	// First returns the first message of a stream at or after a sequence. The
	// error wraps ErrNotFound if there is no such message, or no such stream.
	First(ctx context.Context, stream string, from uint64) (Stored, error)

	// Last returns the sequence of the message that was stored last, removed or
	// not; 0 if there was none. The error wraps ErrNotFound if there is no such
	// stream.
	Last(ctx context.Context, stream string) (sequence uint64, err error)

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
