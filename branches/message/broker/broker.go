// Package broker is the interface between package message and a message broker. It has
// small interfaces for publishing, consuming and reading messages. Package natsjs
// implements them for NATS JetStream.
//
// An implementation keeps the promises in the comment of each method. It has to pass the
// tests of package brokertest.
//
// A broker stores messages in streams. A stream has an order, and each message in it has
// a sequence number. Other brokers call a stream a topic or a queue.
package broker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Publisher opens streams for publishing.
type Publisher interface {
	// OpenStream creates a stream, or reads the settings of an existing one. It
	// changes nothing in an existing stream.
	//
	// The error wraps ErrInvalid if the stream does not carry a subject of the
	// configuration. It wraps ErrUnsafe if a setting of the stream cannot keep the
	// promise of publishing: after Publish has reported a message as stored, the
	// message stays until the consumers have it.
	OpenStream(ctx context.Context, config StreamConfig) (Stream, error)
}

// StreamConfig describes a stream to open. Name is required.
type StreamConfig struct {
	// Name of the stream.
	Name string

	// Subjects that the stream has to carry. Check accepts no others. Without
	// Subjects, OpenStream opens an existing stream, and never creates one.
	Subjects []string

	// Replicas of a new stream. Defaults to 1.
	Replicas int

	// RetryFor is the longest time for which a publish with an unknown outcome is
	// repeated. If the stream recognizes a repeated id only for a shorter time,
	// there is a warning. Zero means no check.
	RetryFor time.Duration
}

// StreamInfo describes a stream at the time when it was opened.
type StreamInfo struct {
	Name     string
	Subjects []string // patterns of the subjects that it carries
	Replicas int
	Window   time.Duration // how long it recognizes a repeated id; 0 if it does not

	// Warnings are settings that may break a promise in some cases. For a setting
	// that always breaks one, OpenStream returns an error.
	Warnings []Problem
}

// Problem is a setting of a stream that does not keep a promise.
type Problem struct {
	Setting string // the broker's name for it
	Value   string
	Why     string // which promise it breaks, and which value keeps the promise
}

func (p Problem) String() string { return fmt.Sprintf("%s is %s: %s", p.Setting, p.Value, p.Why) }

// Stream is a stream that messages are published on. It is safe for concurrent
// use.
type Stream interface {
	// Info describes the stream at the time when it was opened. It makes no request.
	Info() StreamInfo

	// Check returns an error, which wraps ErrInvalid, if the stream can never store
	// the message because of its subject, a header or its size. It makes no request.
	// Publish may still refuse a message that has passed Check, for example because
	// the stream was changed.
	Check(m Message) error

	// Publish sends messages, in their order, and waits until the broker has
	// stored all of them, or until ctx ends. It returns one result for each
	// message, in the same order.
	//
	// If a result has no error, the broker has stored this message durably, now or
	// earlier. If the broker has another message with the same id and different
	// content, the error wraps ErrForeign. After any other error the message may be
	// stored or not, and it is safe to publish it again. A failure of one message
	// does not affect the others. After Publish has returned, it does not send a
	// message later, and does not wait for an acknowledgement.
	Publish(ctx context.Context, messages []Message) []Result
}

// Message is a message to publish, or a stored one.
type Message struct {
	// ID names the message. Publish requires it. Within its window, a stream stores
	// no second message with the same ID.
	ID      string
	Subject string
	Headers map[string][]string
	Data    []byte
}

// Result is the outcome of publishing one message.
type Result struct {
	Receipt Receipt
	Err     error
}

// Receipt says where the broker has stored a message.
type Receipt struct {
	Stream    string
	Sequence  uint64 // position in the stream
	Duplicate bool   // the broker had stored it earlier
}

var (
	// ErrInvalid is wrapped if a message, a name or a configuration is not valid.
	ErrInvalid = errors.New("invalid")

	// ErrUnsafe is wrapped if a setting of a stream or consumer cannot keep the
	// promise of publishing or receiving.
	ErrUnsafe = errors.New("the stream cannot keep the promise")

	// ErrForeign is wrapped if the broker has stored another message with the same
	// id and different content. Publishing again cannot succeed: a person has to
	// look at it.
	ErrForeign = errors.New("the broker has stored another message under this id")

	// ErrNotFound is wrapped if there is no such stream, consumer or message.
	ErrNotFound = errors.New("not found")
)
