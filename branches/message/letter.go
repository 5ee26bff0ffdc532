package message

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// Headers that a dead letter carries beside its own.
const (
	HeaderReason   = "Tccsaga-Dead-Reason"   // the last error of the handler
	HeaderConsumer = "Tccsaga-Dead-Consumer" // who could not handle it
	HeaderSubject  = "Tccsaga-Dead-Subject"  // where it was published
	HeaderAttempts = "Tccsaga-Dead-Attempts" // how often it was handled
	HeaderStream   = "Tccsaga-Dead-Stream"   // the stream that it came from
	HeaderSequence = "Tccsaga-Dead-Sequence" // its sequence there
	HeaderTime     = "Tccsaga-Dead-Time"     // when it was stored there

	// HeaderWithout says that the dead letter is without its data and its own
	// headers, because it would be too large with them: they are still in the
	// stream that it came from.
	HeaderWithout = "Tccsaga-Dead-Without-Data"
)

// deadHeaders begins the names of all of them.
const deadHeaders = "Tccsaga-Dead-"

// A dead letter has the subject dead.STREAM.letter.CONSUMER.SUBJECT; while it is on
// its way back to its consumer, it has dead.STREAM.again.CONSUMER.SUBJECT.
const deadPrefix = "dead."

func letterPrefix(stream, consumer string) string {
	return deadPrefix + stream + ".letter." + consumer + "."
}

func resentPrefix(stream, consumer string) string {
	return deadPrefix + stream + ".again." + consumer + "."
}

// settleTimeout bounds writing a dead letter.
const settleTimeout = 10 * time.Second

// bury puts a message aside whose attempts are used up, as far as a worker has to.
func (c *Consumer) bury(e *entry, reason error) {
	if delay, held := c.putAside(e, reason); held {
		c.queue.back([]*entry{e}, delay)
	}
}

// putAside writes the dead letter of a message. If it cannot, it tries again after a
// while, without the handler.
func (c *Consumer) putAside(e *entry, reason error) (delay time.Duration, held bool) {
	ctx, cancel := context.WithTimeout(c.ctx, settleTimeout)
	defer cancel()
	if err := c.writeLetter(ctx, e, reason); err != nil {
		c.warn("writing a dead letter, which is tried again", e, err)
		e.bury, e.alone, e.reason = true, true, oneLine(reason.Error())
		e.failures++
		return c.after(e, c.pause(max(e.failures, 3)))
	}
	c.state.count(tally{buried: 1})
	for {
		err := c.inbox.buried(c.ctx, e)
		if err == nil {
			break
		}
		if c.waitForDatabase(err) != nil {
			c.leave([]*entry{e}) // the letter is there, and its repetition is dropped
			return 0, false
		}
	}
	c.acknowledge(e)
	c.queue.done(e)
	return 0, false
}

// openDead opens the stream of the dead letters, and creates it if need be.
func (c *Consumer) openDead(ctx context.Context) (broker.Stream, error) {
	source, err := c.broker.OpenStream(ctx, broker.StreamConfig{Name: c.config.Stream})
	if err != nil {
		return nil, err
	}
	dead, err := c.broker.OpenStream(ctx, broker.StreamConfig{Name: c.config.DeadLetters,
		Subjects: []string{deadPrefix + c.config.Stream + ".>"}, Replicas: source.Info().Replicas})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.dead = dead
	c.mu.Unlock()
	return dead, nil
}

// errKeep says that a message can be put aside only where it is.
var errKeep = errors.New("it is too large for a dead letter, and its stream removes what is acknowledged: it stays there, and is looked at again later")

// writeLetter publishes the dead letter, without data if it is too large with them.
func (c *Consumer) writeLetter(ctx context.Context, e *entry, reason error) error {
	c.mu.Lock()
	dead := c.dead
	c.mu.Unlock()
	letter := c.letter(e, reason)
	err := publishOne(ctx, dead, letter)
	if err == nil {
		return nil
	}
	if errors.Is(dead.Check(letter), broker.ErrInvalid) {
		return c.writeWithout(ctx, dead, e, letter)
	}
	// Somebody may have deleted the stream.
	again, openErr := c.openDead(ctx)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	return publishOne(ctx, again, letter)
}

func (c *Consumer) writeWithout(ctx context.Context, dead broker.Stream, e *entry, letter broker.Message) error {
	keeps, err := c.broker.Keeps(ctx, c.config.Stream)
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
	return publishOne(ctx, dead, letter)
}

func publishOne(ctx context.Context, stream broker.Stream, m broker.Message) error {
	return stream.Publish(ctx, []broker.Message{m})[0].Err
}

// letter makes the dead letter of a message.
func (c *Consumer) letter(e *entry, reason error) broker.Message {
	m := e.m
	headers := map[string][]string{}
	for name, values := range m.Headers {
		// What the broker reads was for the first publishing: an expected
		// sequence, for example, would not fit here.
		if !strings.HasPrefix(strings.ToLower(name), "nats-") && !strings.HasPrefix(name, deadHeaders) {
			headers[name] = values
		}
	}
	for name, value := range map[string]string{
		HeaderID: m.ID, HeaderReason: oneLine(reason.Error()), HeaderConsumer: c.config.Name, HeaderSubject: m.Subject,
		HeaderAttempts: strconv.Itoa(max(e.attempts, 1)), HeaderStream: c.config.Stream,
		HeaderSequence: strconv.FormatUint(m.Sequence, 10), HeaderTime: m.Time.UTC().Format(time.RFC3339Nano),
	} {
		headers[name] = []string{value}
	}
	id := fmt.Sprintf("dead/%s/%s/%d/%d", c.config.Name, m.Stream, m.Sequence, m.Time.UnixNano())
	if e.resent > 0 { // it has been a dead letter before
		id = fmt.Sprintf("%s/%d", id, e.resent)
	}
	return broker.Message{ID: id, Subject: letterPrefix(c.config.Stream, c.config.Name) + m.Subject, Headers: headers, Data: m.Data}
}

// fromLetter makes the message of a dead letter that was sent again.
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

// maxReason keeps a dead letter's headers small, in bytes.
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

// complete reads the data and headers that a letter is without, from the stream that
// the message came from. The error wraps [broker.ErrNotFound] if they are gone.
func complete(ctx context.Context, b broker.Broker, m Received) (Received, error) {
	source, err := b.First(ctx, m.Stream, ">", m.Sequence)
	if errors.Is(err, broker.ErrNotFound) || err == nil && (source.Sequence != m.Sequence || !source.Time.Equal(m.Time)) {
		return m, fmt.Errorf("the stream %s does not have message %d any more: %w", m.Stream, m.Sequence, broker.ErrNotFound)
	}
	if err != nil {
		return m, err
	}
	m.Data, m.Headers = source.Data, source.Headers
	return m, nil
}
