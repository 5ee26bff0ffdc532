// Package broker is the seam between package message and a message broker:
// small interfaces that say what publishing and consuming need. Package natsjs
// implements them for NATS JetStream.
//
// An implementation keeps the promises that are written at each method. Package
// brokertest has the tests that it has to pass.
//
// A stream is where a broker stores messages, in the order in which it has
// stored them, each with a sequence number. Other brokers call it a topic or a
// queue.
package broker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Publisher opens streams for publishing.
type Publisher interface {
	// OpenStream creates a stream that does not exist, and reads the settings
	// of one that does. It changes nothing of an existing stream.
	//
	// The error wraps ErrInvalid if the stream does not carry a subject of the
	// configuration, and ErrUnsafe if a setting of the stream cannot keep the
	// promise of publishing: a message that Publish says is stored stays until
	// the consumers have it.
	OpenStream(ctx context.Context, config StreamConfig) (Stream, error)
}

// StreamConfig says which stream to open. Name is needed.
type StreamConfig struct {
	// Name of the stream.
	Name string

	// Subjects that the stream has to carry, and the only ones that Check accepts.
	// With none, a stream that exists is opened, and none is created.
	Subjects []string

	// Replicas of a stream that is created. Defaults to 1.
	Replicas int

	// RetryFor is for how long a publish is repeated at most while its outcome
	// is unknown. A stream that recognizes a repeated id for a shorter time gets
	// a warning. Zero asks for no such check.
	RetryFor time.Duration
}

// StreamInfo is what a stream was like when it was opened.
type StreamInfo struct {
	Name     string
	Subjects []string // patterns of what it carries
	Replicas int
	Window   time.Duration // for how long it recognizes a repeated id; 0 if it does not

	// Warnings are settings that may break a promise in some case. Those that
	// break one for certain are an error of OpenStream.
	Warnings []Problem
}

// Problem is a setting of a stream that does not keep a promise.
type Problem struct {
	Setting string // by the broker's own name
	Value   string
	Why     string // which promise breaks, and which value keeps it
}

func (p Problem) String() string { return fmt.Sprintf("%s is %s: %s", p.Setting, p.Value, p.Why) }

// Stream is a stream that messages are published on. It is safe for concurrent
// use.
type Stream interface {
	// Info returns what the stream was like when it was opened. It makes no
	// request.
	Info() StreamInfo

	// Check says why the stream could never store the message: its subject, a
	// header or its size. The error wraps ErrInvalid. Check makes no request. A
	// message that passes may still be refused by Publish, for example after
	// somebody has changed the stream.
	Check(m Message) error

	// Publish sends messages, in their order, and waits until the broker has
	// stored each of them, or ctx ends. It returns one result for each message,
	// in the same order.
	//
	// A result without an error says that the broker has stored this very
	// message durably, at that time or before: a repeated id counts only if the
	// stored message has the same content, and else the error wraps ErrForeign.
	// After any other error the message may be stored or not, and a repetition
	// is safe. A message that fails affects no other. Publish keeps nothing of a
	// message after it has returned: it neither sends it later, nor waits for
	// its acknowledgement.
	Publish(ctx context.Context, messages []Message) []Result
}

// Message is a message to be published, or a stored one.
type Message struct {
	// ID names the message. A stream stores a second message with the same ID
	// only after its window. Publish needs one.
	ID      string
	Subject string
	Headers map[string][]string
	Data    []byte
}

// Result is what came of publishing one message.
type Result struct {
	Receipt Receipt
	Err     error
}

// Receipt says where a message is stored.
type Receipt struct {
	Stream    string
	Sequence  uint64 // position in the stream
	Duplicate bool   // the broker had it already
}

var (
	// ErrInvalid is wrapped when a message, a name or a configuration cannot
	// work.
	ErrInvalid = errors.New("invalid message")

	// ErrUnsafe is wrapped when a setting of a stream cannot keep the promise of
	// publishing.
	ErrUnsafe = errors.New("the stream cannot keep the promise")

	// ErrForeign is wrapped when the broker took a message for a repetition of
	// another one, which has the same id and other content. A repetition cannot
	// succeed; a person has to look at it.
	ErrForeign = errors.New("the broker has stored another message under this id")

	// ErrNotFound is wrapped when there is no such stream, consumer or message.
	ErrNotFound = errors.New("not found")
)
