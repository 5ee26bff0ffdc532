package natsjs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// heartbeat is how often the broker says that it has noted our asking; if it
// says nothing twice, Fetch returns an error.
const heartbeat = time.Second

// subscription is a durable consumer of a stream.
type subscription struct {
	consumer jetstream.Consumer
}

// Subscribe creates or updates the durable consumer of a stream.
func (b *Broker) Subscribe(ctx context.Context, config broker.SubscriptionConfig) (broker.Subscription, error) {
	handle, err := b.js.Stream(ctx, config.Stream)
	if err == nil {
		err = checkCarries(handle.CachedInfo().Config, config.Subjects)
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", config.Stream, notFound(err))
	}
	consumer, err := b.js.CreateOrUpdateConsumer(ctx, config.Stream, jetstream.ConsumerConfig{
		Durable:        config.Name,
		FilterSubjects: config.Subjects,
		AckPolicy:      jetstream.AckExplicitPolicy,
		AckWait:        config.AckWait,
		MaxDeliver:     -1,
	})
	if err != nil {
		return nil, fmt.Errorf("consumer %s of stream %s: %w", config.Name, config.Stream, notFound(err))
	}
	return &subscription{consumer}, nil
}

// Fetch does not use the client's Consume, which, for one at a time, sometimes
// forgets to ask and then notices only after half a minute.
func (s *subscription) Fetch(ctx context.Context, most int) ([]broker.Delivery, error) {
	msg, err := s.consumer.Next(jetstream.FetchContext(ctx), jetstream.FetchHeartbeat(heartbeat))
	switch {
	case errors.Is(err, nats.ErrTimeout) && ctx.Err() == nil:
		return nil, nil // nothing came
	case err != nil:
		return nil, err
	}
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("reading the metadata of a message: %w", err)
	}
	return []broker.Delivery{delivery{msg, meta}}, nil
}

type delivery struct {
	msg  jetstream.Msg
	meta *jetstream.MsgMetadata
}

func (d delivery) Message() broker.Message {
	return broker.Message{ID: d.msg.Headers().Get(jetstream.MsgIDHeader), Subject: d.msg.Subject(), Headers: d.msg.Headers(), Data: d.msg.Data()}
}

func (d delivery) Position() (stream string, sequence uint64, deliveries int) {
	return d.meta.Stream, d.meta.Sequence.Stream, int(d.meta.NumDelivered)
}

func (d delivery) Ack(ctx context.Context) error { return d.msg.DoubleAck(ctx) }

func (d delivery) Again(_ context.Context, delay time.Duration) error {
	return d.msg.NakWithDelay(delay)
}

func (d delivery) Extend(context.Context) error { return d.msg.InProgress() }

func (d delivery) Terminate(_ context.Context, reason string) error {
	return d.msg.TermWithReason(reason)
}
