package message

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
)

const deadPrefix = "dead."

// maxReason keeps a dead letter's headers small, in bytes.
const maxReason = 1000

// bury publishes a message that failed to the last attempt as a dead letter.
func (c *Consumer) bury(ctx context.Context, m Received, reason error) error {
	headers := map[string][]string{}
	for name, values := range m.Headers {
		// What the broker reads was for the first publishing: an expected
		// sequence, for example, would not fit here.
		if !strings.HasPrefix(strings.ToLower(name), "nats-") {
			headers[name] = values
		}
	}
	headers[HeaderID] = []string{m.ID}
	headers[HeaderReason] = []string{oneLine(reason.Error())}
	headers[HeaderConsumer] = []string{c.config.Name}
	headers[HeaderSubject] = []string{m.Subject}
	headers[HeaderAttempts] = []string{strconv.Itoa(m.Attempt)}
	return c.dead.Publish(ctx, []broker.Message{{
		ID:      fmt.Sprintf("dead/%s/%s/%d", c.config.Name, m.Stream, m.Sequence),
		Subject: deadPrefix + m.Stream + "." + m.Subject, Headers: headers, Data: m.Data,
	}})[0].Err
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
func Resend(ctx context.Context, b broker.Broker, deadLetters string, limit int) (sent int, err error) {
	last, err := b.Last(ctx, deadLetters)
	if errors.Is(err, broker.ErrNotFound) {
		return 0, fmt.Errorf("%w: %s", ErrNoDeadLetters, deadLetters)
	}
	if err != nil {
		return 0, fmt.Errorf("message: resend: %w", err)
	}
	next := uint64(1)
	for sent < limit {
		letter, err := b.First(ctx, deadLetters, next)
		if errors.Is(err, broker.ErrNotFound) {
			return sent, nil
		}
		if err != nil {
			return sent, fmt.Errorf("message: resend: reading dead letters: %w", err)
		}
		if letter.Sequence > last {
			return sent, nil // it came meanwhile, perhaps of one that was just sent
		}
		if err := resend(ctx, b, deadLetters, letter); err != nil {
			return sent, err
		}
		sent++
		next = letter.Sequence + 1
	}
	return sent, nil
}

func resend(ctx context.Context, b broker.Broker, deadLetters string, letter broker.Stored) error {
	subject := header(letter.Headers, HeaderSubject)
	source, ok := strings.CutSuffix(strings.TrimPrefix(letter.Subject, deadPrefix), "."+subject)
	if subject == "" || !ok {
		return fmt.Errorf("message: resend: letter %d of %s has no header %s: it was not written by a Consumer", letter.Sequence, deadLetters, HeaderSubject)
	}
	headers := maps.Clone(letter.Headers)
	maps.DeleteFunc(headers, func(name string, _ []string) bool {
		return strings.HasPrefix(strings.ToLower(name), "nats-")
	})
	for _, name := range []string{HeaderReason, HeaderConsumer, HeaderSubject, HeaderAttempts} {
		delete(headers, name)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	stream, err := b.OpenStream(ctx, broker.StreamConfig{Name: source})
	if err != nil {
		return fmt.Errorf("message: resend: publishing on %s: %w", subject, err)
	}
	// An id of its own, or the broker would take it for the message that it
	// has seen; the logical id stays.
	id := fmt.Sprintf("resent/%s/%d/%d", deadLetters, letter.Sequence, letter.Time.UnixNano())
	if err := stream.Publish(ctx, []broker.Message{{ID: id, Subject: subject, Headers: headers, Data: letter.Data}})[0].Err; err != nil {
		return fmt.Errorf("message: resend: %w", err)
	}
	if err := b.Remove(ctx, deadLetters, letter.Sequence); err != nil {
		return fmt.Errorf("message: resend: removing letter %d of %s: %w", letter.Sequence, deadLetters, err)
	}
	return nil
}
