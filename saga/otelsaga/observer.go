package otelsaga

import (
	"context"
	"fmt"
	"slices"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/tccsaga/tccsaga/saga"
)

// Config configures an [Observer]. The zero value works.
type Config struct {
	// MeterProvider gets the metrics. Defaults to the global one, [otel.GetMeterProvider].
	// Take package metric/noop for none.
	MeterProvider metric.MeterProvider

	// TracerProvider gets the spans. Defaults to the global one, [otel.GetTracerProvider].
	// Take package trace/noop for none.
	TracerProvider trace.TracerProvider

	// Propagator writes and reads the trace context that is kept with a transaction and
	// sent to other services. It has to use the field traceparent, and only this field is
	// kept. Defaults to [propagation.TraceContext].
	Propagator propagation.TextMapPropagator
}

// Observer makes metrics and spans of events; see [saga.Observer]. One Observer may be used in
// several configurations. It is safe for concurrent use.
type Observer struct {
	metrics metrics
	spans   spans
}

var (
	_ saga.Observer    = (*Observer)(nil)
	_ saga.TraceKeeper = (*Observer)(nil)
)

// traceparent is the field of the trace context, by the standard of the W3C.
const traceparent = "traceparent"

// New returns an Observer.
func New(config Config) (*Observer, error) {
	if config.MeterProvider == nil {
		config.MeterProvider = otel.GetMeterProvider()
	}
	if config.TracerProvider == nil {
		config.TracerProvider = otel.GetTracerProvider()
	}
	if config.Propagator == nil {
		config.Propagator = propagation.TraceContext{}
	}
	if !slices.Contains(config.Propagator.Fields(), traceparent) {
		return nil, fmt.Errorf("otelsaga: new: %w: the Propagator has the fields %q, and not %s: use propagation.TraceContext", saga.ErrInvalid, config.Propagator.Fields(), traceparent)
	}
	m, err := newMetrics(config.MeterProvider.Meter(scope))
	if err != nil {
		return nil, fmt.Errorf("otelsaga: new: %w", err)
	}
	return &Observer{m, spans{config.TracerProvider.Tracer(scope), config.Propagator}}, nil
}

// Observe makes the metrics and spans of an event.
func (o *Observer) Observe(ctx context.Context, e saga.Event) context.Context {
	switch e := e.(type) {
	case saga.OperationStarted:
		return o.spans.startOperation(ctx, e)
	case saga.OperationEnded:
		o.spans.endOperation(ctx, e)
	case saga.CallStarted:
		return o.spans.startCall(ctx, e)
	case saga.CallEnded:
		o.metrics.call(ctx, e)
		o.spans.endCall(ctx, e)
	case saga.MessageStarted:
		return o.spans.startMessage(ctx, e)
	case saga.MessageEnded:
		o.metrics.message(ctx, e)
		o.spans.endMessage(ctx, e)
	case saga.Decided:
		o.metrics.decided(ctx, e)
		o.spans.decided(ctx, e)
	case saga.Finished:
		o.metrics.finished(ctx, e)
	default:
		o.metrics.count(ctx, e)
		o.spans.note(ctx, e)
	}
	return ctx
}

// Inject returns the trace context of ctx; see [saga.TraceKeeper].
func (o *Observer) Inject(ctx context.Context) string { return o.spans.inject(ctx) }

// Extract returns a context that continues a trace; see [saga.TraceKeeper]. If ctx has a span of
// this process in the same trace already, such as that of an HTTP handler, Extract returns ctx.
func (o *Observer) Extract(ctx context.Context, trace string) context.Context {
	return o.spans.extract(ctx, trace)
}
