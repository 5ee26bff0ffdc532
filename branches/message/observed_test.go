package message_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/otelsaga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// tracing returns an observer of a process, and its spans.
func tracing(t *testing.T) (*otelsaga.Observer, *sdktrace.TracerProvider, *tracetest.InMemoryExporter) {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	observer, err := otelsaga.New(otelsaga.Config{TracerProvider: provider, MeterProvider: metricnoop.NewMeterProvider()})
	sagatest.Must(t, err)
	return observer, provider, exporter
}

// A message that another instance publishes, after the first one is gone, has the trace of the
// caller, and so has the span of its handler.
func TestTraceOfAMessageInRecovery(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	js := connectTo(t, broker.server.ClientURL())
	db := sqltest.Open(t, "sqlite")
	observer, provider, _ := tracing(t)
	b := newBenchOn(t, db, db, js)
	gone := sagatest.Open(t, db, embedded.Config{Lease: 20 * time.Second, MinBackoff: time.Hour, MaxBackoff: time.Hour, Observers: []saga.Observer{observer}})
	sagatest.Must(t, tcc.Register(gone, b.publisher))
	consuming, _, handled := tracing(t)
	spans := make(chan trace.SpanContext, 9)
	b.consume(message.ConsumerConfig{Observers: []saga.Observer{consuming}}, func(ctx context.Context, _ *gorm.DB, _ message.Received) error {
		spans <- trace.SpanContextFromContext(ctx)
		return nil
	})
	broker.stop()
	sagatest.Eventually(t, "the connection is lost", func() bool { return !js.Conn().IsConnected() })
	ctx, caller := provider.Tracer("user").Start(t.Context(), "order")
	gid := sagatest.GID()
	_, err := tcc.Execute(ctx, gone, gid, b.publish("placed", "1"))
	sagatest.Must(t, err)
	caller.End()
	sqltest.Exec(t, db, "DELETE FROM saga_instances WHERE instance = ?", gone.Instance())
	sqltest.Exec(t, db, "UPDATE saga_transactions SET due_at = created_at WHERE gid = ?", gid)
	sqltest.Exec(t, db, "UPDATE saga_attempts SET next_at = failed_at WHERE gid = ?", gid)
	broker.start()
	b.reaches(gid, saga.Confirmed)
	got := <-spans
	if want := caller.SpanContext().TraceID(); got.TraceID() != want {
		t.Errorf("the handler is in the trace %s, want %s", got.TraceID(), want)
	}
	sagatest.Eventually(t, "the span of the handler", func() bool { return len(handled.GetSpans()) == 1 })
	if s := handled.GetSpans()[0]; s.Name != "process "+b.name || s.SpanContext.SpanID() != got.SpanID() || s.SpanKind != trace.SpanKindConsumer {
		t.Errorf("the span of the handler is %s, %s", s.Name, s.SpanKind)
	}
}

// handling keeps the results of handlers, by message.
type handling struct {
	mu      sync.Mutex
	results map[string][]string
}

func (h *handling) Observe(ctx context.Context, e saga.Event) context.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ended, is := e.(saga.MessageEnded); is {
		result := "ok"
		if ended.Err != nil {
			result = ended.Err.Error()
		}
		h.results[ended.ID] = append(h.results[ended.ID], result)
	}
	return ctx
}

func (h *handling) of(id string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.results[id])
}

// Each call of a handler is told of once for each message, also if it fails or panics.
func TestObserversOfAConsumer(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"))
	one, many := &handling{results: map[string][]string{}}, &handling{results: map[string][]string{}}
	b.consume(message.ConsumerConfig{Observers: []saga.Observer{one}}, func(_ context.Context, _ *gorm.DB, m message.Received) error {
		switch m.Attempt {
		case 1:
			return errors.New("no")
		case 2:
			panic("broken")
		}
		return nil
	})
	c, err := message.ConsumeBatch(t.Context(), b.db, wrap(b.js), message.ConsumerConfig{Stream: b.name, Name: "many", Logger: quiet, Observers: []saga.Observer{many}},
		func(context.Context, *gorm.DB, []message.Received) error { return nil })
	sagatest.Must(t, err)
	stopAtEnd(t, c)
	var ids []string
	for range 5 {
		ids = append(ids, b.id(b.execute(b.publish("placed", "1")), "01"))
	}
	for _, id := range ids {
		want := []string{"no", "the handler panicked or ended its goroutine", "ok"}
		sagatest.Eventually(t, "the message is handled", func() bool { return slices.Contains(one.of(id), "ok") && slices.Contains(many.of(id), "ok") })
		// A call of a handler that is repeated in the same attempt is told of again.
		if got := slices.Compact(one.of(id)); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	_, err = message.Consume(t.Context(), b.db, wrap(b.js), message.ConsumerConfig{Stream: b.name, Name: "bad", Observers: []saga.Observer{nil}},
		func(context.Context, *gorm.DB, message.Received) error { return nil })
	if !errors.Is(err, message.ErrInvalid) {
		t.Errorf("a nil observer: %v", err)
	}
}
