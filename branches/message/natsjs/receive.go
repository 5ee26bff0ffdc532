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
	// expiry is how long the server keeps a request for messages.
	expiry = 5 * time.Second

	// heartbeat is how often the server says that it has the request. If it says
	// nothing twice, the request is made again.
	heartbeat = time.Second

	// vain is how long Fetch waits for the first message.
	vain = time.Second
)

// subscription asks for messages of a durable consumer. It does not use the
// client's Fetch, which loses the messages that are on their way when it is
// interrupted, nor its Consume, which sometimes forgets to ask.
type subscription struct {
	*Broker
	stream, name string
	ackWait      time.Duration
	sub          *nats.Subscription

	pending    int       // messages that are asked for and did not come yet
	heard      time.Time // when the server gave its last sign of life
	reconnects uint64    // of the connection, when Fetch looked last
	closing    sync.Once
}

func (s *subscription) AckWait() time.Duration { return s.ackWait }

// Fetch returns messages as soon as there are some.
func (s *subscription) Fetch(ctx context.Context, most int) ([]broker.Delivery, error) {
	limit := time.Now().Add(vain)
	for {
		if err := s.interrupted(); err != nil {
			return nil, err
		}
		if queued, _, _ := s.sub.Pending(); queued == 0 {
			if err := s.ask(most); err != nil {
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
		return s.more([]broker.Delivery{first}, most), nil
	}
}

// more takes the messages that are there already.
func (s *subscription) more(all []broker.Delivery, most int) []broker.Delivery {
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
			s.pending = 0 // asking again meets with it again
			return all
		}
		if d != nil {
			all = append(all, d)
		}
	}
	return all
}

// interrupted looks whether the connection was lost meanwhile. It counts: the
// client's channel of changes loses some if they are not read at once.
func (s *subscription) interrupted() error {
	if s.conn.IsClosed() {
		return fmt.Errorf("%w: %w", broker.ErrClosed, nats.ErrConnectionClosed)
	}
	reconnects := s.conn.Stats().Reconnects
	if reconnects == s.reconnects || !s.conn.IsConnected() {
		return nil
	}
	// The server has forgotten the request.
	s.reconnects, s.pending = reconnects, 0
	return fmt.Errorf("%w, and is back", broker.ErrRepeat)
}

// ask requests messages if few are under way.
func (s *subscription) ask(most int) error {
	if s.pending > 0 && time.Since(s.heard) > 2*heartbeat+time.Second {
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
	request, err := json.Marshal(map[string]any{"batch": want, "expires": expiry, "idle_heartbeat": heartbeat})
	if err != nil {
		return err
	}
	if err := s.conn.PublishRequest(s.prefix()+"CONSUMER.MSG.NEXT."+s.stream+"."+s.name, s.sub.Subject, request); err != nil {
		return kind(err)
	}
	if s.pending == 0 {
		s.heard = time.Now()
	}
	s.pending += want
	return nil
}

func (b *Broker) prefix() string {
	switch {
	case b.config.Domain != "":
		return "$JS." + b.config.Domain + ".API."
	case b.config.APIPrefix != "":
		return strings.TrimSuffix(b.config.APIPrefix, ".") + "."
	default:
		return jetstream.DefaultAPIPrefix
	}
}

// next waits for what the server sends; nil if nothing came until limit.
func (s *subscription) next(ctx context.Context, limit time.Time) (*nats.Msg, error) {
	until, cancel := context.WithDeadline(ctx, limit)
	defer cancel()
	msg, err := s.sub.NextMsgWithContext(until)
	switch {
	case err == nil:
		s.heard = time.Now()
		return msg, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return nil, nil
	default:
		return nil, kind(err)
	}
}

// delivery returns a message; nil if msg is a status that is no error.
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

// status notes what the server says about a request. Its statuses are documented
// in the design note ADR-13 of NATS.
func (s *subscription) status(code string, header nats.Header) error {
	text := header.Get("Description")
	switch {
	case code == "100":
		return nil // a heartbeat
	case code == "503":
		s.pending = 0
		return s.gone()
	case code == "404", code == "408", code == "409" && strings.Contains(text, "Batch Completed"):
		s.over(header)
		return nil
	case code == "409" && strings.Contains(strings.ToLower(text), "consumer deleted"):
		s.pending = 0
		return fmt.Errorf("%w: the consumer %s of the stream %s was deleted", broker.ErrNotFound, s.name, s.stream)
	case code == "409" && (strings.Contains(text, "Leadership Change") || strings.Contains(text, "Server Shutdown")):
		s.pending = 0
		return fmt.Errorf("%w: %s", broker.ErrRepeat, text)
	default:
		s.over(header)
		return fmt.Errorf("asking for messages: the server says %s %s", code, text)
	}
}

// over notes that a request has ended, perhaps with messages that did not come.
func (s *subscription) over(header nats.Header) {
	if left, err := strconv.Atoi(header.Get("Nats-Pending-Messages")); err == nil {
		s.pending = max(0, s.pending-left)
	} else {
		s.pending = 0
	}
}

// gone says what nobody answers: JetStream, or a consumer that is not there.
func (s *subscription) gone() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := s.Backlog(ctx); err != nil {
		return err
	}
	return errors.New("asking for messages: nobody has answered")
}

// Backlog asks the server. It asks for the consumer anew: a jetstream.Consumer is not
// safe for concurrent use.
func (s *subscription) Backlog(ctx context.Context) (broker.Backlog, error) {
	consumer, err := s.js.Consumer(ctx, s.stream, s.name)
	if err != nil {
		return broker.Backlog{}, fmt.Errorf("consumer %s of stream %s: %w", s.name, s.stream, kind(err))
	}
	info := consumer.CachedInfo()
	return broker.Backlog{Waiting: info.NumPending, Unsettled: info.NumAckPending}, nil
}

// Flush waits for the server's answer to a ping, which comes after everything that
// was sent before.
func (s *subscription) Flush(ctx context.Context) error {
	if err := s.connected(); err != nil {
		return err
	}
	return kind(s.conn.FlushWithContext(ctx))
}

// Close unsubscribes and then takes what the server had sent before it knew.
func (s *subscription) Close(ctx context.Context) (all []broker.Delivery, err error) {
	s.closing.Do(func() {
		if err = s.sub.Drain(); err != nil {
			err = kind(err)
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

func (d delivery) Ack() error { return d.say("+ACK") }

func (d delivery) Again(delay time.Duration) error {
	if delay <= 0 {
		return d.say("-NAK")
	}
	return d.say(fmt.Sprintf(`-NAK {"delay": %d}`, delay.Nanoseconds()))
}

func (d delivery) Extend() error { return d.say("+WPI") }

func (d delivery) say(what string) error { return kind(d.msg.Respond([]byte(what))) }
