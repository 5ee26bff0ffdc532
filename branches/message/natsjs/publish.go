package natsjs

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// Publish sends all messages, and then waits for all acknowledgements.
func (s *stream) Publish(ctx context.Context, messages []broker.Message) []broker.Result {
	ctx, cancel := context.WithTimeout(ctx, s.Broker.config.AckTimeout)
	defer cancel()
	results := make([]broker.Result, len(messages))
	sent := make([]jetstream.PubAckFuture, len(messages))
	var stalled error
	for i, m := range messages {
		if results[i].Err = stalled; stalled != nil {
			continue
		}
		if sent[i], results[i].Err = s.send(m); errors.Is(results[i].Err, jetstream.ErrTooManyStalledMsgs) {
			stalled = results[i].Err // sending the others would wait and fail, too
		}
	}
	for i, future := range sent {
		if future != nil {
			results[i].Receipt, results[i].Err = acknowledgement(ctx, future)
		}
	}
	s.compareDuplicates(ctx, messages, results)
	for i := range results {
		if err := results[i].Err; err != nil {
			results[i].Err = fmt.Errorf("publishing on %s: %w", messages[i].Subject, err)
		}
	}
	return results
}

// send publishes a message and does not wait for its acknowledgement. The server refuses
// a message that the stream has already, and a message for another stream.
func (s *stream) send(m broker.Message) (jetstream.PubAckFuture, error) {
	if err := s.connected(); err != nil {
		return nil, err
	}
	msg := &nats.Msg{Subject: m.Subject, Data: m.Data, Header: nats.Header{}}
	for name, values := range m.Headers {
		msg.Header[name] = values
	}
	return s.js.PublishMsgAsync(msg, jetstream.WithMsgID(m.ID), jetstream.WithExpectStream(s.info.Name))
}

func acknowledgement(ctx context.Context, future jetstream.PubAckFuture) (broker.Receipt, error) {
	select {
	case ack := <-future.Ok():
		return broker.Receipt{Stream: ack.Stream, Sequence: ack.Sequence, Duplicate: ack.Duplicate}, nil
	case err := <-future.Err():
		return broker.Receipt{}, err
	case <-ctx.Done():
		return broker.Receipt{}, context.Cause(ctx)
	}
}

// Check returns the reason why the stream can never store a message.
func (s *stream) Check(m broker.Message) error {
	switch {
	case m.Subject == "" || strings.ContainsAny(m.Subject, "*> \t\r\n") ||
		strings.HasPrefix(m.Subject, ".") || strings.HasSuffix(m.Subject, ".") || strings.Contains(m.Subject, ".."):
		return fmt.Errorf("%w: the subject %.80q must be tokens separated by dots, without wildcards", broker.ErrInvalid, m.Subject)
	case !carried(s.subjects, m.Subject):
		return fmt.Errorf("%w: the stream %s does not carry the subject %q, only %s", broker.ErrInvalid, s.info.Name, m.Subject, strings.Join(s.subjects, ", "))
	}
	if err := (headerRules{s.info.Name, s.config.AllowMsgTTL}).check(m.Headers); err != nil {
		return err
	}
	size := wireSize(m.Headers)
	if size > maxHeaders {
		return fmt.Errorf("%w: the headers have %d bytes, %d are allowed", broker.ErrInvalid, size, maxHeaders)
	}
	size += len(m.Data)
	if most := s.most(); int64(size) > most {
		return fmt.Errorf("%w: it has %d bytes with its headers, the broker takes %d", broker.ErrInvalid, size, most)
	}
	return nil
}

const (
	// publishRoom is room for the headers that publishing adds.
	publishRoom = 1 << 10

	// letterRoom is room for the headers that publishing adds, also to a dead letter.
	letterRoom = 4 << 10

	// maxHeaders is the most bytes of headers. JetStream takes 64 KiB; the rest is
	// room for added headers.
	maxHeaders = 48 << 10
)

// most is how many bytes a message may have with its headers, so that both broker and
// stream accept it.
func (s *stream) most() int64 {
	most := int64(math.MaxInt32) // the limit of the server is known after the first connect
	if broker := s.conn.MaxPayload(); broker > 0 {
		most = broker - letterRoom
	}
	if s.config.MaxMsgSize > 0 {
		most = min(most, int64(s.config.MaxMsgSize)-publishRoom)
	}
	return max(most, 0)
}

// wireSize is how many bytes the headers have when they are sent: one line for each
// value, with the name.
func wireSize(headers map[string][]string) int {
	size := 0
	for name, values := range headers {
		for _, value := range values {
			size += len(name) + len(value) + len(": \r\n")
		}
	}
	return size
}
