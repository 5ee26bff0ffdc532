package natsjs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// defaultAckWait is the AckWait of a new consumer: how long the messages of a process
// that died stay undelivered.
const defaultAckWait = 5 * time.Second

// Subscribe creates the durable consumer of a stream, or opens an existing one; see
// [broker.Subscriber]. An existing consumer keeps its deliver policy. It also keeps its
// description, AckWait and MaxAckPending, unless config sets others. Subscribe sets
// MaxDeliver to unlimited, because the server drops messages after MaxDeliver deliveries.
func (b *Broker) Subscribe(ctx context.Context, config broker.SubscriptionConfig) (broker.Subscription, error) {
	handle, err := b.js.Stream(ctx, config.Stream)
	if err == nil {
		err = checkCarries(handle.CachedInfo().Config, config.Subjects)
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", config.Stream, brokerError(err))
	}
	consumer, err := b.durable(ctx, handle, config)
	if err != nil {
		return nil, fmt.Errorf("consumer %s of stream %s: %w", config.Name, config.Stream, brokerError(err))
	}
	s := &subscription{Broker: b, stream: config.Stream, name: config.Name,
		ackWait: consumer.CachedInfo().Config.AckWait, reconnects: b.conn.Stats().Reconnects}
	if s.sub, err = b.conn.SubscribeSync(b.conn.NewInbox()); err != nil {
		return nil, fmt.Errorf("consumer %s of stream %s: %w", config.Name, config.Stream, brokerError(err))
	}
	return s, nil
}

// apiPrefix is the prefix of the subjects of the JetStream API.
func (b *Broker) apiPrefix() string {
	switch {
	case b.config.Domain != "":
		return "$JS." + b.config.Domain + ".API."
	case b.config.APIPrefix != "":
		return strings.TrimSuffix(b.config.APIPrefix, ".") + "."
	default:
		return jetstream.DefaultAPIPrefix
	}
}

// durable returns the consumer. It creates or updates the consumer if necessary.
func (b *Broker) durable(ctx context.Context, stream jetstream.Stream, config broker.SubscriptionConfig) (jetstream.Consumer, error) {
	consumer, err := stream.Consumer(ctx, config.Name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		created, invalid := newConsumer(config)
		if invalid != nil {
			return nil, invalid
		}
		consumer, err = stream.CreateConsumer(ctx, created)
		if !errors.Is(err, jetstream.ErrConsumerExists) {
			return consumer, err
		}
		if consumer, err = stream.Consumer(ctx, config.Name); err != nil { // another process was faster
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	found := consumer.CachedInfo().Config
	if found.AckPolicy != jetstream.AckExplicitPolicy {
		return nil, fmt.Errorf("%w: the AckPolicy of the consumer is %s, and has to be explicit: delete the consumer, or choose another name", broker.ErrUnsafe, found.AckPolicy)
	}
	wanted, differs := adjusted(found, config)
	if !differs {
		return consumer, nil
	}
	return stream.UpdateConsumer(ctx, wanted)
}

func newConsumer(config broker.SubscriptionConfig) (jetstream.ConsumerConfig, error) {
	created := jetstream.ConsumerConfig{
		Durable: config.Name, Description: config.Description, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: cmp.Or(config.AckWait, defaultAckWait), MaxAckPending: config.MaxAckPending, MaxDeliver: -1,
	}
	setSubjects(&created, config.Subjects)
	set := 0
	if config.Start.New {
		created.DeliverPolicy = jetstream.DeliverNewPolicy
		set++
	}
	if config.Start.Sequence > 0 {
		created.DeliverPolicy, created.OptStartSeq = jetstream.DeliverByStartSequencePolicy, config.Start.Sequence
		set++
	}
	if !config.Start.Time.IsZero() {
		created.DeliverPolicy, created.OptStartTime = jetstream.DeliverByStartTimePolicy, &config.Start.Time
		set++
	}
	if set > 1 {
		return created, fmt.Errorf("%w: more than one field of Start is set", broker.ErrInvalid)
	}
	return created, nil
}

// setSubjects uses the filter for one subject if possible: servers before 2.10 have no
// other filter.
func setSubjects(c *jetstream.ConsumerConfig, subjects []string) {
	c.FilterSubject, c.FilterSubjects = "", nil
	if len(subjects) == 1 {
		c.FilterSubject = subjects[0]
	} else {
		c.FilterSubjects = subjects
	}
}

// adjusted returns the wanted configuration of a consumer, and whether it differs from
// the one that was found.
func adjusted(found jetstream.ConsumerConfig, config broker.SubscriptionConfig) (wanted jetstream.ConsumerConfig, differs bool) {
	wanted = found
	filter := found.FilterSubjects
	if found.FilterSubject != "" {
		filter = []string{found.FilterSubject}
	}
	if len(config.Subjects) > 0 && !slices.Equal(slices.Sorted(slices.Values(filter)), slices.Sorted(slices.Values(config.Subjects))) {
		setSubjects(&wanted, config.Subjects)
		differs = true
	}
	if found.MaxDeliver > 0 {
		wanted.MaxDeliver, differs = -1, true
	}
	if config.AckWait > 0 && config.AckWait != found.AckWait {
		wanted.AckWait, differs = config.AckWait, true
	}
	if config.MaxAckPending != 0 && config.MaxAckPending != found.MaxAckPending {
		wanted.MaxAckPending, differs = config.MaxAckPending, true
	}
	if config.Description != "" && config.Description != found.Description {
		wanted.Description, differs = config.Description, true
	}
	return wanted, differs
}

// brokerError wraps the error of package broker that err stands for, if there is one.
func brokerError(err error) error {
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrConnectionDraining) {
		return fmt.Errorf("%w: %w", broker.ErrClosed, err)
	}
	return notFound(err)
}
