package message

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers that a dead letter carries beside its own.
const (
	HeaderReason   = "Tccsaga-Dead-Reason"   // the last error of the handler
	HeaderConsumer = "Tccsaga-Dead-Consumer" // who could not handle it
	HeaderSubject  = "Tccsaga-Dead-Subject"  // where it was published
	HeaderAttempts = "Tccsaga-Dead-Attempts" // how often it was handled
)

const deadPrefix = "dead."

// maxReason keeps a dead letter's headers small, in bytes.
const maxReason = 1000

// bury publishes a message that failed to the last attempt as a dead letter.
func (c *Consumer) bury(ctx context.Context, m Received, reason error) error {
	headers := nats.Header{}
	for name, values := range m.Headers {
		// What the broker reads was for the first publishing: an expected
		// sequence, for example, would not fit here.
		if !strings.HasPrefix(strings.ToLower(name), "nats-") {
			headers[name] = values
		}
	}
	headers.Set(HeaderID, m.ID)
	headers.Set(HeaderReason, oneLine(reason.Error()))
	headers.Set(HeaderConsumer, c.config.Name)
	headers.Set(HeaderSubject, m.Subject)
	headers.Set(HeaderAttempts, strconv.Itoa(m.Attempt))
	msg := &nats.Msg{Subject: deadPrefix + m.Stream + "." + m.Subject, Header: headers, Data: m.Data}
	id := fmt.Sprintf("dead/%s/%s/%d", c.config.Name, m.Stream, m.Sequence)
	_, err := c.js.PublishMsg(ctx, msg, jetstream.WithMsgID(id), jetstream.WithExpectStream(c.config.DeadLetters))
	return err
}

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

// Resend publishes up to limit dead letters of the stream deadLetters again,
// the oldest first, on the subjects that they came from, and removes them
// there. Consumers that have handled them know them by their logical ids and do
// nothing. It returns how many were sent; after an error, one may have been
// sent and not yet removed, and is sent again next time.
func Resend(ctx context.Context, js jetstream.JetStream, deadLetters string, limit int) (sent int, err error) {
	stream, err := js.Stream(ctx, deadLetters)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, fmt.Errorf("%w: %s", ErrNoDeadLetters, deadLetters)
	}
	if err != nil {
		return 0, fmt.Errorf("message: resend: %w", err)
	}
	state := stream.CachedInfo().State
	next := state.FirstSeq
	for sent < limit {
		letter, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(">"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return sent, nil
		}
		if err != nil {
			return sent, fmt.Errorf("message: resend: reading dead letters: %w", err)
		}
		if letter.Sequence > state.LastSeq {
			return sent, nil // it came meanwhile, perhaps of one that was just sent
		}
		if err := resend(ctx, js, stream, deadLetters, letter); err != nil {
			return sent, err
		}
		sent++
		next = letter.Sequence + 1
	}
	return sent, nil
}

func resend(ctx context.Context, js jetstream.JetStream, stream jetstream.Stream, deadLetters string, letter *jetstream.RawStreamMsg) error {
	subject := letter.Header.Get(HeaderSubject)
	if subject == "" {
		return fmt.Errorf("message: resend: letter %d of %s has no header %s: it was not written by a Consumer", letter.Sequence, deadLetters, HeaderSubject)
	}
	msg := &nats.Msg{Subject: subject, Header: nats.Header(maps.Clone(letter.Header)), Data: letter.Data}
	for _, name := range []string{HeaderReason, HeaderConsumer, HeaderSubject, HeaderAttempts, jetstream.ExpectedStreamHeader} {
		msg.Header.Del(name)
	}
	// An id of its own, or the broker would take it for the message that it
	// has seen; the logical id stays.
	id := fmt.Sprintf("resent/%s/%d/%d", deadLetters, letter.Sequence, letter.Time.UnixNano())
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := js.PublishMsg(ctx, msg, jetstream.WithMsgID(id)); err != nil {
		return fmt.Errorf("message: resend: publishing on %s: %w", subject, err)
	}
	if err := stream.DeleteMsg(ctx, letter.Sequence); err != nil {
		return fmt.Errorf("message: resend: removing letter %d of %s: %w", letter.Sequence, deadLetters, err)
	}
	return nil
}
