package otelsaga_test

import (
	"context"
	"testing"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/otelsaga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// ignoring is an observer that does nothing.
type ignoring struct{}

func (ignoring) Observe(ctx context.Context, _ saga.Event) context.Context { return ctx }

// BenchmarkExecute shows what observers cost: none, one that does nothing, and one of this
// package with the SDK, which samples each trace or none.
func BenchmarkExecute(b *testing.B) {
	otel := func(sampler sdktrace.Sampler) saga.Observer {
		observer, err := otelsaga.New(otelsaga.Config{
			MeterProvider:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())),
			TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler)),
		})
		sagatest.Must(b, err)
		return observer
	}
	for _, one := range []struct {
		name      string
		observers []saga.Observer
	}{
		{"without", nil},
		{"with one that does nothing", []saga.Observer{ignoring{}}},
		{"with metrics", []saga.Observer{otel(sdktrace.NeverSample())}},
		{"with metrics and spans", []saga.Observer{otel(sdktrace.AlwaysSample())}},
	} {
		b.Run(one.name, func(b *testing.B) {
			engine := sagatest.Open(b, sqltest.Open(b, "sqlite"), embedded.Config{Observers: one.observers})
			nothing := func(context.Context, *gorm.DB, saga.Call) error { return nil }
			sagatest.Must(b, engine.Register(saga.NewLocal(stock, encode, saga.Local{Work: nothing})))
			sagatest.Run(b, engine)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := engine.Execute(b.Context(), plan(sagatest.GID(), stock, stock)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
