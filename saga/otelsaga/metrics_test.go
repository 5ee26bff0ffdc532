package otelsaga_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/otelsaga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// meter reads the metrics of a process.
type meter struct {
	t        *testing.T
	reader   *sdkmetric.ManualReader
	provider *sdkmetric.MeterProvider
	observer *otelsaga.Observer
}

func newMeter(t *testing.T) *meter {
	t.Helper()
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithCardinalityLimit(0))
	observer, err := otelsaga.New(otelsaga.Config{MeterProvider: provider, TracerProvider: tracenoop.NewTracerProvider()})
	sagatest.Must(t, err)
	return &meter{t, reader, provider, observer}
}

// metric is a metric with its values: by the attributes, a number or a count of records.
type metric struct {
	unit, description string
	values            map[string]float64
	keys              map[string]bool
}

func (m *metric) add(set attribute.Set, value float64) {
	m.values[set.Encoded(attribute.DefaultEncoder())] = value
	for _, one := range set.ToSlice() {
		m.keys[string(one.Key)] = true
	}
}

// collect returns all metrics, by name.
func (m *meter) collect() (map[string]*metric, error) {
	var data metricdata.ResourceMetrics
	err := m.reader.Collect(m.t.Context(), &data)
	all := map[string]*metric{}
	for _, scope := range data.ScopeMetrics {
		for _, one := range scope.Metrics {
			found := &metric{one.Unit, one.Description, map[string]float64{}, map[string]bool{}}
			all[one.Name] = found
			switch points := one.Data.(type) {
			case metricdata.Histogram[float64]:
				for _, p := range points.DataPoints {
					found.add(p.Attributes, float64(p.Count))
				}
			case metricdata.Histogram[int64]:
				for _, p := range points.DataPoints {
					found.add(p.Attributes, float64(p.Sum))
				}
			case metricdata.Sum[int64]:
				for _, p := range points.DataPoints {
					found.add(p.Attributes, float64(p.Value))
				}
			case metricdata.Gauge[int64]:
				for _, p := range points.DataPoints {
					found.add(p.Attributes, float64(p.Value))
				}
			case metricdata.Gauge[float64]:
				for _, p := range points.DataPoints {
					found.add(p.Attributes, p.Value)
				}
			default:
				m.t.Errorf("%s is a %T", one.Name, points)
			}
		}
	}
	return all, err
}

// has checks one value of a metric.
func (m *meter) has(name, attributes string, want float64) {
	m.t.Helper()
	all, err := m.collect()
	sagatest.Must(m.t, err)
	found := all[name]
	if found == nil {
		m.t.Errorf("there is no %s", name)
		return
	}
	if got, there := found.values[attributes]; !there || got != want {
		m.t.Errorf("%s of %q is %v, want %v; all: %v", name, attributes, got, want, found.values)
	}
}

func TestMetricsOfTransactions(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s, m := newShop(t, db), newMeter(t)
		engine := s.start(embedded.Config{}, m.observer)
		s.on(card, barrier.Confirm, failing(1))
		gid := sagatest.GID()
		_, err := engine.Execute(t.Context(), plan(gid, stock, card))
		sagatest.Must(t, err)
		sagatest.Reach(t, engine, gid, saga.Confirmed)
		s.on(card, barrier.Try, func(context.Context, *gorm.DB, saga.Call) error { return saga.Reject(errors.New("no")) })
		if _, err := engine.Execute(t.Context(), plan(sagatest.GID(), stock, card)); !errors.Is(err, saga.ErrCancelled) {
			t.Fatalf("Execute: %v", err)
		}
		sagatest.Eventually(t, "both are finished", func() bool {
			all, err := m.collect()
			sagatest.Must(t, err)
			done := all["tccsaga.transaction.duration"]
			return done != nil && len(done.values) == 2
		})
		m.has("tccsaga.transaction.duration", "outcome=confirmed,pattern=shop", 1)
		m.has("tccsaga.transaction.duration", "outcome=cancelled,pattern=shop", 1)
		m.has("tccsaga.decision.duration", "decided_by=caller,outcome=confirmed,pattern=shop", 1)
		m.has("tccsaga.call.duration", "kind=stock,operation=try,result=ok", 2)
		m.has("tccsaga.call.duration", "kind=card,operation=try,result=rejected", 1)
		m.has("tccsaga.call.duration", "kind=card,operation=confirm,result=failed", 1)
		m.has("tccsaga.call.duration", "kind=card,operation=confirm,result=ok", 1)
		m.has("tccsaga.barrier.verdicts", "kind=card,operation=cancel,verdict=empty rollback", 1)
		m.has("tccsaga.barrier.verdicts", "kind=stock,operation=cancel,verdict=run", 1)
	})
}

// events are events of all types, with the same names.
func events(kind string) []saga.Event {
	subject := saga.Subject{GID: "g", Pattern: kind}
	call := saga.BranchCall{GID: "g", BranchID: "01", Kind: kind, Operation: barrier.Try, Attempt: 1}
	message := saga.MessageStarted{Stream: kind, Consumer: kind, ID: "m", Subject: "s", Attempt: 1}
	return []saga.Event{
		saga.OperationStarted{Name: "execute", GID: "g"}, saga.OperationEnded{Name: "execute", GID: "g", Took: time.Second},
		saga.CallStarted{BranchCall: call}, saga.CallEnded{BranchCall: call, Result: saga.CallOK, Verdict: barrier.Run, Took: time.Second},
		message, saga.MessageEnded{MessageStarted: message, Took: time.Second},
		saga.Decided{Subject: subject, State: saga.Confirming, By: "caller", Took: time.Second},
		saga.Finished{Subject: subject, State: saga.Confirmed, Took: time.Second},
		saga.AttentionRaised{Subject: subject, Why: "age: old"}, saga.TakenOver{Transactions: 1}, saga.LeaseLost{}, saga.LeaseHeldAgain{},
		saga.CommitUnanswered{}, saga.BatchCommitted{Batch: "log", Size: 2}, saga.KindPaused{Kind: kind}, saga.KindResumed{Kind: kind},
		saga.CircuitOpened{Kind: kind}, saga.CircuitClosed{Kind: kind},
	}
}

// The number of series has a limit, whatever the number of transactions and of names.
func TestSeriesAreBounded(t *testing.T) {
	t.Parallel()
	m := newMeter(t)
	for n := range 10_000 {
		kind := fmt.Sprintf("kind-%d", n%1000)
		for _, e := range events(kind) {
			if ended, is := e.(saga.CallEnded); is {
				ended.GID, ended.Err = fmt.Sprintf("gid-%d", n), fmt.Errorf("error %d", n)
				e = ended
			}
			m.observer.Observe(t.Context(), e)
		}
	}
	all, err := m.collect()
	sagatest.Must(t, err)
	for name, one := range all {
		if len(one.values) > 201 {
			t.Errorf("%s has %d series", name, len(one.values))
		}
		for attributes := range one.values {
			if strings.Contains(attributes, "gid") || strings.Contains(attributes, "error ") {
				t.Errorf("%s has the attributes %s", name, attributes)
			}
		}
	}
	m.has("tccsaga.call.duration", "kind=other,operation=try,result=ok", 8000)
	m.has("tccsaga.takeovers", "", 10_000)
}

// full is an overview with everything.
type full struct{}

func (full) Overview(context.Context) (*saga.Overview, error) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	return &saga.Overview{Now: now, Trying: saga.Count{N: 1}, Confirming: saga.Count{N: 2}, Cancelling: saga.Count{N: 3}, Attention: saga.Count{N: 4}, Paused: saga.Count{N: 5},
		OldestUndecided: &saga.Summary{CreatedAt: now.Add(-time.Minute)}, OldestUnfinished: &saga.Summary{CreatedAt: now.Add(-time.Hour), DecidedAt: now.Add(-time.Second)},
		Kinds:     []saga.KindView{{Kind: "stock", PausedAt: now, Circuit: &saga.Circuit{Open: true}}, {Kind: "card", Circuit: &saga.Circuit{}}, {Kind: "gone"}},
		Instances: []saga.Instance{{Alive: true}, {Alive: true}, {}}}, nil
}

func (m *meter) gauges(config otelsaga.GaugesConfig) *otelsaga.Gauges {
	m.t.Helper()
	config.MeterProvider = m.provider
	g, err := otelsaga.NewGauges(config)
	sagatest.Must(m.t, err)
	return g
}

func all() otelsaga.GaugesConfig {
	return otelsaga.GaugesConfig{Operations: full{},
		Outboxes: func(context.Context) ([]otelsaga.Outbox, error) {
			return []otelsaga.Outbox{{Stream: "orders", Pending: 7, Lag: 90 * time.Second}, {Stream: "mails"}}, nil
		},
		DeadLetters: func(context.Context) (map[string]int64, error) { return map[string]int64{"orders": 8}, nil }}
}

// The tables in the documentation have every metric, with its unit, attributes and meaning.
func TestDocumentedMetrics(t *testing.T) {
	t.Parallel()
	m := newMeter(t)
	m.gauges(all())
	for _, e := range events("k") {
		m.observer.Observe(t.Context(), e)
	}
	made, err := m.collect()
	sagatest.Must(t, err)
	text, err := os.ReadFile("doc.go")
	sagatest.Must(t, err)
	row := regexp.MustCompile(`(?m)^//\t(tccsaga\.\S+) +(\S+) +(.*?)  +(\S.*)$`)
	bare := regexp.MustCompile(`(?m)^//\t(tccsaga\.\S+) +(\S+) {3,}(\S.*)$`)
	documented := map[string]bool{}
	for line := range strings.SplitSeq(string(text), "\n") {
		parts := row.FindStringSubmatch(line)
		if parts == nil {
			continue
		}
		name, unit, attributes, meaning := parts[1], parts[2], parts[3], parts[4]
		if found := made[name]; found != nil && len(found.keys) == 0 {
			parts = bare.FindStringSubmatch(line)
			attributes, meaning = "", parts[3]
		}
		documented[name] = true
		found := made[name]
		if found == nil {
			t.Errorf("%s is documented, and does not exist", name)
			continue
		}
		want := strings.Split(attributes, ", ")
		slices.Sort(want)
		if got := strings.Join(sortedKeys(found.keys), ", "); found.unit != unit || got != strings.Join(want, ", ") || found.description != meaning {
			t.Errorf("%s has the unit %s, the attributes %q and the description %q; documented are %s, %q and %q", name, found.unit, got, found.description, unit, want, meaning)
		}
	}
	for name := range made {
		if !documented[name] {
			t.Errorf("%s is not documented", name)
		}
	}
}

func sortedKeys(keys map[string]bool) (sorted []string) {
	for key := range keys {
		sorted = append(sorted, key)
	}
	slices.Sort(sorted)
	return sorted
}
