package otelsaga

import (
	"context"
	"errors"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/tccsaga/tccsaga/saga"
)

// Names of the attributes of spans.
const (
	attributeGID       = "tccsaga.gid"
	attributeBranch    = "tccsaga.branch"
	attributeKind      = "tccsaga.kind"
	attributeOperation = "tccsaga.operation"
	attributeAttempt   = "tccsaga.attempt"
	attributeResult    = "tccsaga.result"
	attributeVerdict   = "tccsaga.verdict"
	attributeState     = "tccsaga.state"
	attributeBy        = "tccsaga.decided_by"
	attributeCode      = "tccsaga.reason_code"
)

// spans makes the spans.
type spans struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
}

// startedKey is the key of a context's value: the span that was started last.
type startedKey struct{}

// started is a span and the event that has started it. The end of something else does not end
// the span, in case an event was dropped.
type started struct {
	span trace.Span
	by   saga.Event
}

// start starts a span.
func (s *spans) start(ctx context.Context, name string, by saga.Event, kind trace.SpanKind, attributes ...attribute.KeyValue) context.Context {
	ctx, span := s.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(attributes...))
	return context.WithValue(ctx, startedKey{}, started{span, by})
}

// end ends the span that an event has started. Err makes it an error; nil does not.
func (s *spans) end(ctx context.Context, by saga.Event, err error, attributes ...attribute.KeyValue) {
	current, ok := ctx.Value(startedKey{}).(started)
	if !ok || current.by != by {
		return
	}
	current.span.SetAttributes(attributes...)
	if err != nil {
		current.span.SetStatus(codes.Error, clip(err.Error()))
	}
	current.span.End()
}

// maxDescription is the most bytes of the description of an error.
const maxDescription = 300

func clip(text string) string {
	if len(text) <= maxDescription {
		return text
	}
	n := maxDescription
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}

func (s *spans) startOperation(ctx context.Context, e saga.OperationStarted) context.Context {
	return s.start(ctx, "tccsaga "+e.Name, e, trace.SpanKindInternal, attribute.String(attributeGID, e.GID))
}

func (s *spans) endOperation(ctx context.Context, e saga.OperationEnded) {
	err := e.Err
	if errors.Is(err, saga.ErrCancelled) { // a result, and not a failure
		err = nil
	}
	s.end(ctx, saga.OperationStarted{Name: e.Name, GID: e.GID}, err)
}

func (s *spans) startCall(ctx context.Context, e saga.CallStarted) context.Context {
	kind := trace.SpanKindInternal
	switch {
	case e.Hosted:
		kind = trace.SpanKindServer
	case e.Remote:
		kind = trace.SpanKindClient
	}
	return s.start(ctx, e.Kind+" "+string(e.Operation), e, kind,
		attribute.String(attributeGID, e.GID), attribute.String(attributeBranch, e.BranchID), attribute.String(attributeKind, e.Kind),
		attribute.String(attributeOperation, string(e.Operation)), attribute.Int(attributeAttempt, e.Attempt))
}

func (s *spans) endCall(ctx context.Context, e saga.CallEnded) {
	attributes := []attribute.KeyValue{attribute.String(attributeResult, string(e.Result))}
	if e.Verdict != "" {
		attributes = append(attributes, attribute.String(attributeVerdict, string(e.Verdict)))
	}
	err := e.Err
	switch e.Result {
	case saga.CallRejected, saga.CallSuspended, saga.CallNotCommitted, saga.CallOngoing: // results, and not failures
		err = nil
	}
	s.end(ctx, saga.CallStarted{BranchCall: e.BranchCall}, err, attributes...)
}

func (s *spans) startMessage(ctx context.Context, e saga.MessageStarted) context.Context {
	return s.start(ctx, "process "+e.Stream, e, trace.SpanKindConsumer,
		attribute.String("messaging.operation.type", "process"), attribute.String("messaging.destination.name", e.Stream),
		attribute.String("messaging.consumer.group.name", e.Consumer), attribute.String("messaging.message.id", e.ID),
		attribute.Int(attributeAttempt, e.Attempt))
}

func (s *spans) endMessage(ctx context.Context, e saga.MessageEnded) {
	s.end(ctx, e.MessageStarted, e.Err)
}

// decided notes a decision at the current span. If the transaction was begun in another trace,
// it links that trace.
func (s *spans) decided(ctx context.Context, e saga.Decided) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.AddEvent("decided", trace.WithAttributes(attribute.String(attributeGID, e.GID), attribute.String(attributeState, string(e.State)),
		attribute.String(attributeBy, e.By), attribute.String(attributeCode, e.Code)))
	begun := trace.SpanContextFromContext(s.propagator.Extract(context.Background(), propagation.MapCarrier{traceparent: e.Trace}))
	if begun.IsValid() && begun.TraceID() != span.SpanContext().TraceID() {
		span.AddLink(trace.Link{SpanContext: begun})
	}
}

// note notes what else happens at the current span.
func (s *spans) note(ctx context.Context, e saga.Event) {
	if _, unanswered := e.(saga.CommitUnanswered); unanswered {
		trace.SpanFromContext(ctx).AddEvent("commit unanswered")
	}
}

func (s *spans) inject(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	s.propagator.Inject(ctx, carrier)
	return carrier[traceparent]
}

func (s *spans) extract(ctx context.Context, text string) context.Context {
	extracted := s.propagator.Extract(ctx, propagation.MapCarrier{traceparent: text})
	current, found := trace.SpanContextFromContext(ctx), trace.SpanContextFromContext(extracted)
	if current.IsValid() && !current.IsRemote() && current.TraceID() == found.TraceID() {
		return ctx
	}
	return extracted
}
