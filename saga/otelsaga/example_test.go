package otelsaga_test

import (
	"context"
	"fmt"
	"log"

	"github.com/glebarez/sqlite"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/otelsaga"
	"github.com/tccsaga/tccsaga/saga/schema"
)

// An engine with metrics and spans. A program would export them, and not keep them in memory.
func Example() {
	ctx := context.Background()
	exporter := tracetest.NewInMemoryExporter()
	observer, err := otelsaga.New(otelsaga.Config{
		MeterProvider:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())),
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)),
	})
	if err != nil {
		log.Fatal(err)
	}
	db, err := gorm.Open(sqlite.Open("file:otelsaga?mode=memory&cache=shared&_txlock=immediate"), &gorm.Config{})
	if err != nil {
		log.Fatal(err)
	}
	if err = schema.Migrate(ctx, db); err != nil {
		log.Fatal(err)
	}
	engine, err := embedded.Open(ctx, db, embedded.Config{Observers: []saga.Observer{observer}})
	if err != nil {
		log.Fatal(err)
	}
	reserve := func(context.Context, *gorm.DB, saga.Call) error { return nil }
	if err = engine.Register(saga.NewLocal("stock.lock", encode, saga.Local{Work: reserve})); err != nil {
		log.Fatal(err)
	}
	if _, err = engine.Execute(ctx, saga.Plan{GID: "order-1001", Steps: []saga.Step{{Kind: "stock.lock"}}}); err != nil {
		log.Fatal(err)
	}
	for _, span := range exporter.GetSpans() {
		fmt.Println(span.Name)
	}
	// Output:
	// stock.lock try
	// stock.lock confirm
	// tccsaga execute
}

// The gauges show the state of the log.
func ExampleNewGauges() {
	reader := sdkmetric.NewManualReader()
	gauges, err := otelsaga.NewGauges(otelsaga.GaugesConfig{
		Operations:    full{}, // engine.Operations() in a program
		MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(gauges.Unregister())
	// Output: <nil>
}

func baggageOnly() propagation.TextMapPropagator { return propagation.Baggage{} }
