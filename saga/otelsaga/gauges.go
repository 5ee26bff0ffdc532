package otelsaga

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tccsaga/tccsaga/saga"
)

// Operations has the state of a log at a glance. It is [embedded.Operations].
//
// [embedded.Operations]: https://pkg.go.dev/github.com/tccsaga/tccsaga/saga/embedded#Operations
type Operations interface {
	Overview(ctx context.Context) (*saga.Overview, error)
}

// Outbox is the state of the messages of one stream that are not published yet.
type Outbox struct {
	Stream  string
	Pending int64         // messages that wait for their publishing
	Lag     time.Duration // the age of the oldest of them; 0 if there is none
}

// GaugesConfig configures [NewGauges]. A source that is nil has no metrics.
type GaugesConfig struct {
	// Operations is that of an engine in this process, or one without an engine.
	Operations Operations

	// Outboxes returns the state of the outboxes, one for each stream.
	Outboxes func(ctx context.Context) ([]Outbox, error)

	// DeadLetters returns how many dead letters there are, by stream.
	DeadLetters func(ctx context.Context) (map[string]int64, error)

	// MeterProvider gets the metrics. Defaults to the global one, [otel.GetMeterProvider].
	MeterProvider metric.MeterProvider

	// Every is how long the state of a source is used, also if it could not be read.
	// Collections in this time, by any number of readers, cause no further query. Defaults to
	// 10 seconds.
	Every time.Duration

	// Timeout limits how long one collection waits for one source. Defaults to 3 seconds.
	Timeout time.Duration
}

// Gauges are metrics of the state of a log. They are read when the metrics are collected. All
// instances see the same log, so they report the same values: do not add them up.
type Gauges struct{ registrations []metric.Registration }

// NewGauges registers the gauges. If a source cannot be read, its gauges have no value, and the
// collection has an error; the other sources do not suffer.
func NewGauges(config GaugesConfig) (*Gauges, error) {
	g, err := newGauges(config)
	if err != nil {
		return nil, fmt.Errorf("otelsaga: new gauges: %w", err)
	}
	return g, nil
}

func newGauges(config GaugesConfig) (*Gauges, error) {
	switch {
	case config.Every < 0 || config.Timeout < 0:
		return nil, fmt.Errorf("%w: Every or Timeout is negative", saga.ErrInvalid)
	case config.Operations == nil && config.Outboxes == nil && config.DeadLetters == nil:
		return nil, fmt.Errorf("%w: there is no source: set Operations, Outboxes or DeadLetters", saga.ErrInvalid)
	}
	if config.MeterProvider == nil {
		config.MeterProvider = otel.GetMeterProvider()
	}
	if config.Every == 0 {
		config.Every = 10 * time.Second
	}
	if config.Timeout == 0 {
		config.Timeout = 3 * time.Second
	}
	g, meter := &Gauges{}, config.MeterProvider.Meter(scope)
	var err error
	if config.Operations != nil {
		err = g.operations(meter, &cached[*saga.Overview]{read: config.Operations.Overview, every: config.Every, timeout: config.Timeout})
	}
	if config.Outboxes != nil && err == nil {
		err = g.outboxes(meter, &cached[[]Outbox]{read: config.Outboxes, every: config.Every, timeout: config.Timeout})
	}
	if config.DeadLetters != nil && err == nil {
		err = g.deadLetters(meter, &cached[map[string]int64]{read: config.DeadLetters, every: config.Every, timeout: config.Timeout})
	}
	if err != nil {
		return nil, errors.Join(err, g.Unregister())
	}
	return g, nil
}

// Unregister removes the gauges. The sources are not read after it has returned.
func (g *Gauges) Unregister() (err error) {
	for _, r := range g.registrations {
		err = errors.Join(err, r.Unregister())
	}
	g.registrations = nil
	return err
}

func (g *Gauges) register(meter metric.Meter, made *maker, callback metric.Callback, instruments ...metric.Observable) error {
	if made.err != nil {
		return made.err
	}
	r, err := meter.RegisterCallback(callback, instruments...)
	if err == nil {
		g.registrations = append(g.registrations, r)
	}
	return err
}

func (g *Gauges) operations(meter metric.Meter, source *cached[*saga.Overview]) error {
	make := &maker{meter: meter}
	o := &overview{
		active:    make.number(transactionsActive, "{transaction}", "Transactions that are not finished, up to 10,000."),
		attention: make.number(transactionsAttention, "{transaction}", "Transactions that need a person, up to 10,000."),
		paused:    make.number(transactionsPaused, "{transaction}", "Transactions that an operator has paused, up to 10,000."),
		kinds:     make.number(kindsPaused, "{kind}", "Kinds of branches that an operator has paused."),
		circuits:  make.number(circuitsOpen, "{circuit}", "1 if the circuit of the kind is open in this process, 0 if it is closed."),
		instances: make.number(instances, "{instance}", "Running engines, and those that have ended without a goodbye in the last hour."),
		oldest:    make.age(transactionsOldest, "Age of the oldest undecided transaction, and time since the decision of the oldest that is not finished."),
		names:     &names{},
	}
	return g.register(meter, make, func(ctx context.Context, to metric.Observer) error {
		view, err := source.get(ctx)
		if err != nil {
			return fmt.Errorf("otelsaga: read the overview: %w", err)
		}
		o.observe(to, view)
		return nil
	}, o.active, o.oldest, o.attention, o.paused, o.kinds, o.circuits, o.instances)
}

// overview has the gauges of an overview.
type overview struct {
	active, attention, paused, kinds, circuits, instances metric.Int64ObservableGauge
	oldest                                                metric.Float64ObservableGauge
	names                                                 *names
}

func with(key, value string) metric.ObserveOption {
	return metric.WithAttributes(attribute.String(key, value))
}

func (o *overview) observe(to metric.Observer, view *saga.Overview) {
	to.ObserveInt64(o.active, int64(view.Trying.N), with("state", string(saga.Trying)))
	to.ObserveInt64(o.active, int64(view.Confirming.N), with("state", string(saga.Confirming)))
	to.ObserveInt64(o.active, int64(view.Cancelling.N), with("state", string(saga.Cancelling)))
	to.ObserveInt64(o.attention, int64(view.Attention.N))
	to.ObserveInt64(o.paused, int64(view.Paused.N))
	undecided, unfinished := 0.0, 0.0
	if s := view.OldestUndecided; s != nil {
		undecided = max(0, view.Now.Sub(s.CreatedAt).Seconds())
	}
	if s := view.OldestUnfinished; s != nil {
		unfinished = max(0, view.Now.Sub(s.DecidedAt).Seconds())
	}
	to.ObserveFloat64(o.oldest, undecided, with("state", "undecided"))
	to.ObserveFloat64(o.oldest, unfinished, with("state", "unfinished"))
	paused, open := int64(0), map[string]int64{}
	for _, k := range view.Kinds {
		if !k.PausedAt.IsZero() {
			paused++
		}
		if k.Circuit != nil {
			n := int64(0)
			if k.Circuit.Open {
				n = 1
			}
			open[o.names.of(k.Kind)] += n
		}
	}
	to.ObserveInt64(o.kinds, paused)
	for kind, n := range open {
		to.ObserveInt64(o.circuits, n, with("kind", kind))
	}
	alive, gone := int64(0), int64(0)
	for _, i := range view.Instances {
		if i.Alive {
			alive++
		} else {
			gone++
		}
	}
	to.ObserveInt64(o.instances, alive, metric.WithAttributes(attribute.Bool("alive", true)))
	to.ObserveInt64(o.instances, gone, metric.WithAttributes(attribute.Bool("alive", false)))
}

func (g *Gauges) outboxes(meter metric.Meter, source *cached[[]Outbox]) error {
	make, streams := &maker{meter: meter}, &names{}
	pending := make.number(outboxPending, "{message}", "Messages of the outbox that wait for their publishing.")
	lag := make.age(outboxLag, "Age of the oldest message of the outbox that waits for its publishing.")
	return g.register(meter, make, func(ctx context.Context, to metric.Observer) error {
		all, err := source.get(ctx)
		if err != nil {
			return fmt.Errorf("otelsaga: read the outboxes: %w", err)
		}
		byStream := map[string]Outbox{}
		for _, one := range all {
			stream := streams.of(one.Stream)
			sum := byStream[stream]
			byStream[stream] = Outbox{Pending: sum.Pending + one.Pending, Lag: max(sum.Lag, one.Lag)}
		}
		for stream, sum := range byStream {
			to.ObserveInt64(pending, sum.Pending, with("stream", stream))
			to.ObserveFloat64(lag, sum.Lag.Seconds(), with("stream", stream))
		}
		return nil
	}, pending, lag)
}

func (g *Gauges) deadLetters(meter metric.Meter, source *cached[map[string]int64]) error {
	make, streams := &maker{meter: meter}, &names{}
	letters := make.number(deadLetters, "{message}", "Dead letters.")
	return g.register(meter, make, func(ctx context.Context, to metric.Observer) error {
		all, err := source.get(ctx)
		if err != nil {
			return fmt.Errorf("otelsaga: read the dead letters: %w", err)
		}
		byStream := map[string]int64{}
		for stream, n := range all {
			byStream[streams.of(stream)] += n
		}
		for stream, n := range byStream {
			to.ObserveInt64(letters, n, with("stream", stream))
		}
		return nil
	}, letters)
}
