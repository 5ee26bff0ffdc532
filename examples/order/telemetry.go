package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga/otelsaga"
)

// telemetry is the metrics and the traces of the service. A service that has OpenTelemetry
// already uses its own providers.
type telemetry struct {
	registry *prometheus.Registry
	meters   *metric.MeterProvider
	tracers  *sdktrace.TracerProvider
	observer *otelsaga.Observer
	file     *os.File // of the spans; nil if they are not written
	closed   atomic.Bool
}

// openTelemetry writes the spans into a file, one JSON object a line, if its name is not empty.
// Instead of stdouttrace, a service uses the exporter of its collector.
func openTelemetry(traces string) (*telemetry, error) {
	// A source of metrics that cannot be read, for example.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { slog.Warn("telemetry", slog.Any("error", err)) }))
	t := &telemetry{registry: prometheus.NewRegistry()}
	t.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reader, err := exporter.New(exporter.WithRegisterer(t.registry), exporter.WithoutScopeInfo())
	if err != nil {
		return nil, fmt.Errorf("export the metrics: %w", err)
	}
	t.meters = metric.NewMeterProvider(metric.WithReader(reader))
	var options []sdktrace.TracerProviderOption
	if traces != "" {
		if t.file, err = os.OpenFile(traces, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			return nil, fmt.Errorf("write the spans: %w", err)
		}
		spans, failed := stdouttrace.New(stdouttrace.WithWriter(t.file))
		if failed != nil {
			return nil, errors.Join(fmt.Errorf("write the spans: %w", failed), t.file.Close())
		}
		options = append(options, sdktrace.WithBatcher(spans, sdktrace.WithBatchTimeout(time.Second)))
	}
	t.tracers = sdktrace.NewTracerProvider(options...)
	t.observer, err = otelsaga.New(otelsaga.Config{MeterProvider: t.meters, TracerProvider: t.tracers})
	if err != nil {
		return nil, errors.Join(err, t.close(context.Background()))
	}
	return t, nil
}

// close writes the last spans. It does nothing if it is called again.
func (t *telemetry) close(ctx context.Context) error {
	if t.closed.Swap(true) {
		return nil
	}
	err := errors.Join(t.tracers.Shutdown(ctx), t.meters.Shutdown(ctx))
	if t.file != nil {
		err = errors.Join(err, t.file.Close())
	}
	return err
}

// gauges adds the metrics of the log, of the outbox and of the dead letters. They are read when
// /metrics is, at most once a second.
func (t *telemetry) gauges(s *Service, outbox *message.Outbox, letters *message.DeadLetters) error {
	_, err := otelsaga.NewGauges(otelsaga.GaugesConfig{
		Operations:    s.engine.Operations(),
		MeterProvider: t.meters,
		Every:         time.Second,
		Outboxes: func(ctx context.Context) ([]otelsaga.Outbox, error) {
			stats, err := outbox.Stats(ctx)
			all := []otelsaga.Outbox{{Stream: stream}} // also if no message waits
			for _, waiting := range stats.Streams {
				all = append(all, otelsaga.Outbox{Stream: waiting.Stream, Pending: int64(waiting.Due.N), Lag: waiting.Lag})
			}
			return all, err
		},
		DeadLetters: func(ctx context.Context) (map[string]int64, error) {
			if !s.backend.nats.IsConnected() {
				return nil, errors.New("the broker is not connected") // without waiting for it
			}
			found, err := letters.List(ctx, message.LetterFilter{Limit: maxLetters})
			if errors.Is(err, message.ErrNoDeadLetters) {
				err = nil // nothing was ever one
			}
			return map[string]int64{stream: int64(len(found))}, err
		},
	})
	return err
}

// maxLetters bounds the count of dead letters.
const maxLetters = 1000

// page returns the handler of GET /metrics.
func (t *telemetry) page() gin.HandlerFunc {
	return gin.WrapH(promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelError), ErrorHandling: promhttp.ContinueOnError,
	}))
}

// trace begins a span for each request. It continues the trace of the caller, unless the caller
// is anybody: then it links it.
func (t *telemetry) trace(next http.Handler, public bool) http.Handler {
	return otelhttp.NewHandler(next, "HTTP",
		otelhttp.WithTracerProvider(t.tracers), otelhttp.WithMeterProvider(noop.NewMeterProvider()),
		otelhttp.WithPropagators(propagation.TraceContext{}),
		otelhttp.WithPublicEndpointFn(func(*http.Request) bool { return public }),
		otelhttp.WithFilter(func(r *http.Request) bool {
			return r.URL.Path != "/metrics" && r.URL.Path != "/healthz" && r.URL.Path != "/readyz"
		}),
	)
}

// nameSpan gives the span of a request the name of its route.
func nameSpan(c *gin.Context) {
	if page := c.FullPath(); page != "" {
		trace.SpanFromContext(c.Request.Context()).SetName(c.Request.Method + " " + page)
	}
	c.Next()
}
