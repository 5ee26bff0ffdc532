package otelsaga

import (
	"fmt"

	"go.opentelemetry.io/otel/metric"
)

// scope is the name of the instrumentation scope of all metrics and spans.
const scope = "github.com/tccsaga/tccsaga/saga/otelsaga"

// Names of the metrics.
const (
	transactionDuration = "tccsaga.transaction.duration"
	decisionDuration    = "tccsaga.decision.duration"
	callDuration        = "tccsaga.call.duration"
	messageDuration     = "tccsaga.message.duration"
	verdicts            = "tccsaga.barrier.verdicts"
	takeovers           = "tccsaga.takeovers"
	leasesLost          = "tccsaga.leases.lost"
	commitsUnanswered   = "tccsaga.commits.unanswered"
	batchSize           = "tccsaga.batch.size"
	attentionRaised     = "tccsaga.attention.raised"

	transactionsActive    = "tccsaga.transactions.active"
	transactionsOldest    = "tccsaga.transactions.oldest"
	transactionsAttention = "tccsaga.transactions.attention"
	transactionsPaused    = "tccsaga.transactions.paused"
	kindsPaused           = "tccsaga.kinds.paused"
	circuitsOpen          = "tccsaga.circuits.open"
	instances             = "tccsaga.instances"
	outboxPending         = "tccsaga.outbox.pending"
	outboxLag             = "tccsaga.outbox.lag"
	deadLetters           = "tccsaga.dead_letters"
)

// Boundaries of histograms.
var (
	durations = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200}
	sizes     = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}
)

// maker makes instruments. Err is the first error.
type maker struct {
	meter metric.Meter
	err   error
}

func (m *maker) note(name string, err error) {
	if err != nil && m.err == nil {
		m.err = fmt.Errorf("the instrument %s: %w", name, err)
	}
}

func (m *maker) seconds(name, description string) metric.Float64Histogram {
	h, err := m.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(durations...))
	m.note(name, err)
	return h
}

func (m *maker) counter(name, unit, description string) metric.Int64Counter {
	c, err := m.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
	m.note(name, err)
	return c
}

func (m *maker) size(name, unit, description string) metric.Int64Histogram {
	h, err := m.meter.Int64Histogram(name, metric.WithUnit(unit), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(sizes...))
	m.note(name, err)
	return h
}

func (m *maker) number(name, unit, description string) metric.Int64ObservableGauge {
	g, err := m.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
	m.note(name, err)
	return g
}

func (m *maker) age(name, description string) metric.Float64ObservableGauge {
	g, err := m.meter.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(description))
	m.note(name, err)
	return g
}
