package message

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// Headers of a dead letter, in addition to the headers of the message.
const (
	HeaderReason   = "Tccsaga-Dead-Reason"   // the last error of the handler
	HeaderConsumer = "Tccsaga-Dead-Consumer" // the consumer that could not handle it
	HeaderSubject  = "Tccsaga-Dead-Subject"  // the subject that it was published on
	HeaderAttempts = "Tccsaga-Dead-Attempts" // how often it was handled
	HeaderStream   = "Tccsaga-Dead-Stream"   // the stream of the message
	HeaderSequence = "Tccsaga-Dead-Sequence" // its sequence in that stream
	HeaderTime     = "Tccsaga-Dead-Time"     // when that stream stored it

	// HeaderWithout marks a dead letter without the data and headers of the message,
	// because the letter would be too large with them. They are still in the stream
	// of the message.
	HeaderWithout = "Tccsaga-Dead-Without-Data"
)

// deadHeaders is the prefix of these names.
const deadHeaders = "Tccsaga-Dead-"

// deadPrefix begins the subject of each dead letter: dead.STREAM.letter.CONSUMER.SUBJECT.
// A letter that is sent again to its consumer has the subject
// dead.STREAM.again.CONSUMER.SUBJECT.
const deadPrefix = "dead."

func letterPrefix(stream, consumer string) string {
	return deadPrefix + stream + ".letter." + consumer + "."
}

func resentPrefix(stream, consumer string) string {
	return deadPrefix + stream + ".again." + consumer + "."
}

// letterWriter writes dead letters. It is safe for concurrent use.
type letterWriter struct {
	broker broker.Broker
	config ConsumerConfig

	mu     sync.Mutex
	stream broker.Stream // of the dead letters
}

// open opens the dead-letter stream, and creates it if it does not exist.
func (w *letterWriter) open(ctx context.Context) (broker.Stream, error) {
	source, err := w.broker.OpenStream(ctx, broker.StreamConfig{Name: w.config.Stream})
	if err != nil {
		return nil, err
	}
	stream, err := w.broker.OpenStream(ctx, broker.StreamConfig{Name: w.config.DeadLetters,
		Subjects: []string{deadPrefix + w.config.Stream + ".>"}, Replicas: source.Info().Replicas})
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.stream = stream
	w.mu.Unlock()
	return stream, nil
}

// errKeep says why a message stays in its stream and cannot become a dead letter.
var errKeep = errors.New("the message is too large for a dead letter, and its stream removes acknowledged messages: it stays there, and is tried again later")

// write publishes the dead letter of a message. If the letter is too large, it is
// published without the data.
func (w *letterWriter) write(ctx context.Context, e *entry, reason error) error {
	w.mu.Lock()
	stream := w.stream
	w.mu.Unlock()
	letter := w.letter(e, reason)
	err := publishOne(ctx, stream, letter)
	if err == nil {
		return nil
	}
	if errors.Is(stream.Check(letter), broker.ErrInvalid) {
		return w.writeWithoutData(ctx, stream, e, letter)
	}
	// Perhaps the stream was deleted.
	again, openErr := w.open(ctx)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	return publishOne(ctx, again, letter)
}

func (w *letterWriter) writeWithoutData(ctx context.Context, stream broker.Stream, e *entry, letter broker.Message) error {
	keeps, err := w.broker.Keeps(ctx, w.config.Stream)
	if err != nil {
		return err
	}
	if !keeps && e.resent == 0 {
		return errKeep
	}
	for name := range letter.Headers {
		if !strings.HasPrefix(name, deadHeaders) && name != HeaderID {
			delete(letter.Headers, name)
		}
	}
	letter.Data = nil
	letter.Headers[HeaderWithout] = []string{"true"}
	return publishOne(ctx, stream, letter)
}

func publishOne(ctx context.Context, stream broker.Stream, m broker.Message) error {
	return stream.Publish(ctx, []broker.Message{m})[0].Err
}

// letter returns the dead letter of a message.
func (w *letterWriter) letter(e *entry, reason error) broker.Message {
	m, c := e.m, w.config
	headers := map[string][]string{}
	for name, values := range m.Headers {
		// Headers for the broker apply to the stream of the message: an expected
		// sequence, for example, is wrong for the letter.
		if !strings.HasPrefix(strings.ToLower(name), "nats-") && !strings.HasPrefix(name, deadHeaders) {
			headers[name] = values
		}
	}
	for name, value := range map[string]string{
		HeaderID: m.ID, HeaderReason: oneLine(reason.Error()), HeaderConsumer: c.Name, HeaderSubject: m.Subject,
		HeaderAttempts: strconv.Itoa(max(e.attempts, 1)), HeaderStream: c.Stream,
		HeaderSequence: strconv.FormatUint(m.Sequence, 10), HeaderTime: m.Time.UTC().Format(time.RFC3339Nano),
	} {
		headers[name] = []string{value}
	}
	id := fmt.Sprintf("dead/%s/%s/%d/%d", c.Name, m.Stream, m.Sequence, m.Time.UnixNano())
	if e.resent > 0 { // it was a dead letter before
		id = fmt.Sprintf("%s/%d", id, e.resent)
	}
	return broker.Message{ID: id, Subject: letterPrefix(c.Stream, c.Name) + m.Subject, Headers: headers, Data: m.Data}
}

// fromLetter returns the message of a dead letter.
func fromLetter(m Received, stream string) Received {
	own := map[string][]string{}
	for name, values := range m.Headers {
		if !strings.HasPrefix(name, deadHeaders) && !strings.HasPrefix(strings.ToLower(name), "nats-") {
			own[name] = values
		}
	}
	source := Received{Subject: header(m.Headers, HeaderSubject), Data: m.Data, Headers: own, Stream: stream, Attempt: 1}
	source.Sequence, _ = strconv.ParseUint(header(m.Headers, HeaderSequence), 10, 64)
	source.Time, _ = time.Parse(time.RFC3339Nano, header(m.Headers, HeaderTime))
	return source
}

// maxReason is the most bytes of a reason: it keeps the headers of a dead letter small.
const maxReason = 1000

func oneLine(text string) string {
	if len(text) > maxReason {
		text = text[:maxReason]
	}
	line := []byte(text)
	for i, b := range line {
		if b < ' ' || b > '~' {
			line[i] = ' '
		}
	}
	return string(line)
}

// complete reads the data and headers of a letter without data from the stream of the
// message. The error wraps [broker.ErrNotFound] if the message is not there.
func complete(ctx context.Context, b broker.Broker, m Received) (Received, error) {
	source, err := b.First(ctx, m.Stream, ">", m.Sequence)
	if errors.Is(err, broker.ErrNotFound) || err == nil && (source.Sequence != m.Sequence || !source.Time.Equal(m.Time)) {
		return m, fmt.Errorf("message %d is no longer in the stream %s: %w", m.Sequence, m.Stream, broker.ErrNotFound)
	}
	if err != nil {
		return m, err
	}
	m.Data, m.Headers = source.Data, source.Headers
	return m, nil
}
