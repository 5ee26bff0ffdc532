package otelsaga_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/tccsaga/tccsaga/saga/otelsaga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// process is what a process makes spans with.
type process struct {
	t        *testing.T
	exporter *tracetest.InMemoryExporter
	provider *sdktrace.TracerProvider
	observer *otelsaga.Observer
}

func newProcess(t *testing.T) *process {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	observer, err := otelsaga.New(otelsaga.Config{TracerProvider: provider, MeterProvider: metricnoop.NewMeterProvider()})
	sagatest.Must(t, err)
	return &process{t, exporter, provider, observer}
}

// begin begins the span of a caller.
func (p *process) begin(name string) (context.Context, trace.Span) {
	return p.provider.Tracer("user").Start(p.t.Context(), name)
}

// in returns the ended spans of a transaction with a name, in the order of their ends.
func (p *process) in(gid, name string) (found []tracetest.SpanStub) {
	for _, s := range p.exporter.GetSpans() {
		if s.Name == name && value(s, "tccsaga.gid").AsString() == gid {
			found = append(found, s)
		}
	}
	return found
}

// one waits for the only span of a transaction with a name.
func (p *process) one(gid, name string) tracetest.SpanStub {
	p.t.Helper()
	return p.some(gid, name, 1)[0]
}

// some waits for n spans of a transaction with a name.
func (p *process) some(gid, name string, n int) []tracetest.SpanStub {
	p.t.Helper()
	sagatest.Eventually(p.t, "the spans "+name, func() bool { return len(p.in(gid, name)) >= n })
	found := p.in(gid, name)
	if len(found) != n {
		p.t.Errorf("%d spans %s, want %d", len(found), name, n)
	}
	return found
}

func value(s tracetest.SpanStub, key attribute.Key) attribute.Value {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value
		}
	}
	return attribute.Value{}
}

// childOf checks that a span is a child of another one.
func childOf(t *testing.T, child tracetest.SpanStub, parent trace.SpanContext) {
	t.Helper()
	if child.Parent.SpanID() != parent.SpanID() || child.SpanContext.TraceID() != parent.TraceID() {
		t.Errorf("%s has the parent %s in the trace %s, want %s in %s", child.Name, child.Parent.SpanID(), child.SpanContext.TraceID(), parent.SpanID(), parent.TraceID())
	}
}
