package natsjs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

const (
	// requestExpiry is how long the server keeps a request for messages.
	requestExpiry = 5 * time.Second

	// heartbeat is how often the server confirms that it has the request. After two
	// missing heartbeats, the request is sent again.
	heartbeat = time.Second

	// fetchWait is how long Fetch waits for the first message.
	fetchWait = time.Second
)

// subscription requests messages for a durable consumer. It does not use the client's
// Fetch, which loses messages on their way when it is interrupted. It does not use the
// client's Consume, which sometimes stops requesting.
type subscription struct {
	*Broker
	stream, name string
	ackWait      time.Duration
	sub          *nats.Subscription

	pending    int       // messages that were requested and did not come yet
	lastSign   time.Time // when the server sent something last
	reconnects uint64    // of the connection, at the last Fetch
	closing    sync.Once
}

func (s *subscription) AckWait() time.Duration { return s.ackWait }

// Fetch returns messages as soon as there are some.
func (s *subscription) Fetch(ctx context.Context, most int) ([]broker.Delivery, error) {
	limit := time.Now().Add(fetchWait)
	for {
		if err := s.interrupted(); err != nil {
			return nil, err
		}
		if queued, _, _ := s.sub.Pending(); queued == 0 {
			if err := s.request(most); err != nil {
				return nil, err
			}
		}
		msg, err := s.next(ctx, limit)
		if err != nil || msg == nil {
			return nil, err
		}
		first, err := s.delivery(msg)
		if err != nil {
			return nil, err
		}
		if first == nil {
			continue // a status
		}
		return s.addQueued([]broker.Delivery{first}, most), nil
	}
}

// addQueued adds the messages that the client has already.
func (s *subscription) addQueued(all []broker.Delivery, most int) []broker.Delivery {
	for len(all) < most {
		if queued, _, _ := s.sub.Pending(); queued == 0 {
			return all
		}
		msg, err := s.sub.NextMsg(time.Millisecond)
		if err != nil {
			return all
		}
		d, err := s.delivery(msg)
		if err != nil {
			s.pending = 0 // the next request gets the error again
			return all
		}
		if d != nil {
			all = append(all, d)
		}
	}
	return all
}

// interrupted returns an error if the connection was lost since the last call. It compares
// the number of reconnects: the client's channel of status changes drops changes that are
// not read at once.
func (s *subscription) interrupted() error {
	if s.conn.IsClosed() {
		return fmt.Errorf("%w: %w", broker.ErrClosed, nats.ErrConnectionClosed)
	}
	reconnects := s.conn.Stats().Reconnects
	if reconnects == s.reconnects || !s.conn.IsConnected() {
		return nil
	}
	// The server has dropped the request.
	s.reconnects, s.pending = reconnects, 0
	return fmt.Errorf("%w, and is back", broker.ErrRepeat)
}

// request requests messages, unless enough are requested already.
func (s *subscription) request(most int) error {
	if s.pending > 0 && time.Since(s.lastSign) > 2*heartbeat+time.Second {
		s.pending = 0
		if status := s.conn.Status(); status != nats.CONNECTED {
			return fmt.Errorf("the connection to the broker is %s", strings.ToLower(status.String()))
		}
	}
	if want := most - s.pending; want <= 0 || s.pending > most/2 {
		return nil
	}
	if err := s.connected(); err != nil {
		return err
	}
	want := most - s.pending
	request, err := json.Marshal(map[string]any{"batch": want, "expires": requestExpiry, "idle_heartbeat": heartbeat})
	if err != nil {
		return err
	}
	if err := s.conn.PublishRequest(s.apiPrefix()+"CONSUMER.MSG.NEXT."+s.stream+"."+s.name, s.sub.Subject, request); err != nil {
		return brokerError(err)
	}
	if s.pending == 0 {
		s.lastSign = time.Now()
	}
	s.pending += want
	return nil
}

// next waits for a message or a status of the server. It returns nil if none came until
// limit.
func (s *subscription) next(ctx context.Context, limit time.Time) (*nats.Msg, error) {
	until, cancel := context.WithDeadline(ctx, limit)
	defer cancel()
	msg, err := s.sub.NextMsgWithContext(until)
	switch {
	case err == nil:
		s.lastSign = time.Now()
		return msg, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return nil, nil
	default:
		return nil, brokerError(err)
	}
}

// delivery returns msg as a delivery, or nil if msg is a status without an error.
func (s *subscription) delivery(msg *nats.Msg) (broker.Delivery, error) {
	if msg.Reply == "" {
		return nil, s.status(msg.Header.Get("Status"), msg.Header)
	}
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("reading the metadata of a message: %w", err)
	}
	s.pending = max(0, s.pending-1)
	return delivery{msg, meta}, nil
}

// status handles the server's status of a request. The statuses are documented in the
// design note ADR-13 of NATS.
func (s *subscription) status(code string, header nats.Header) error {
	text := header.Get("Description")
	switch {
	case code == "100":
		return nil // a heartbeat
	case code == "503":
		s.pending = 0
		return s.noResponders()
	case code == "404", code == "408", code == "409" && strings.Contains(text, "Batch Completed"):
		s.requestEnded(header)
		return nil
	case code == "409" && strings.Contains(strings.ToLower(text), "consumer deleted"):
		s.pending = 0
		return fmt.Errorf("%w: the consumer %s of the stream %s was deleted", broker.ErrNotFound, s.name, s.stream)
	case code == "409" && (strings.Contains(text, "Leadership Change") || strings.Contains(text, "Server Shutdown")):
		s.pending = 0
		return fmt.Errorf("%w: %s", broker.ErrRepeat, text)
	default:
		s.requestEnded(header)
		return fmt.Errorf("requesting messages: the server's status is %s %s", code, text)
	}
}

// requestEnded notes that a request has ended, perhaps before all its messages came.
func (s *subscription) requestEnded(header nats.Header) {
	if left, err := strconv.Atoi(header.Get("Nats-Pending-Messages")); err == nil {
		s.pending = max(0, s.pending-left)
	} else {
		s.pending = 0
	}
}

// noResponders finds out why nobody has answered a request: JetStream is not available,
// or the consumer does not exist.
func (s *subscription) noResponders() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := s.Backlog(ctx); err != nil {
		return err
	}
	return errors.New("requesting messages: the server has not answered")
}

// Backlog asks the server. It opens the consumer each time: a jetstream.Consumer is not
// safe for concurrent use.
func (s *subscription) Backlog(ctx context.Context) (broker.Backlog, error) {
	consumer, err := s.js.Consumer(ctx, s.stream, s.name)
	if err != nil {
		return broker.Backlog{}, fmt.Errorf("consumer %s of stream %s: %w", s.name, s.stream, brokerError(err))
	}
	info := consumer.CachedInfo()
	return broker.Backlog{Waiting: info.NumPending, Unsettled: info.NumAckPending}, nil
}

// Flush waits for the server's answer to a ping. The server answers after it has received
// everything that was sent before the ping.
func (s *subscription) Flush(ctx context.Context) error {
	if err := s.connected(); err != nil {
		return err
	}
	return brokerError(s.conn.FlushWithContext(ctx))
}

// Close unsubscribes, and then takes the messages that the server has sent before.
func (s *subscription) Close(ctx context.Context) (all []broker.Delivery, err error) {
	s.closing.Do(func() {
		if err = s.sub.Drain(); err != nil {
			err = brokerError(err)
			return
		}
		for {
			msg, nextErr := s.sub.NextMsgWithContext(ctx)
			if nextErr != nil {
				if err = ctx.Err(); err == nil {
					err = s.Flush(ctx)
				}
				return
			}
			if d, _ := s.delivery(msg); d != nil {
				all = append(all, d)
			}
		}
	})
	return all, err
}

type delivery struct {
	msg  *nats.Msg
	meta *nats.MsgMetadata
}

func (d delivery) Message() broker.Message {
	return broker.Message{ID: d.msg.Header.Get(jetstream.MsgIDHeader), Subject: d.msg.Subject, Headers: d.msg.Header, Data: d.msg.Data}
}

func (d delivery) Position() broker.Position {
	return broker.Position{Stream: d.meta.Stream, Sequence: d.meta.Sequence.Stream, Time: d.meta.Timestamp, Waiting: d.meta.NumPending}
}

func (d delivery) Ack() error { return d.respond("+ACK") }

func (d delivery) Again(delay time.Duration) error {
	if delay <= 0 {
		return d.respond("-NAK")
	}
	return d.respond(fmt.Sprintf(`-NAK {"delay": %d}`, delay.Nanoseconds()))
}

func (d delivery) Extend() error { return d.respond("+WPI") }

func (d delivery) respond(text string) error { return brokerError(d.msg.Respond([]byte(text))) }
