package otelsaga_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/otelsaga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

func TestGauges(t *testing.T) {
	t.Parallel()
	m := newMeter(t)
	g := m.gauges(all())
	for _, one := range []struct {
		name, attributes string
		want             float64
	}{
		{"tccsaga.transactions.active", "state=trying", 1},
		{"tccsaga.transactions.active", "state=confirming", 2},
		{"tccsaga.transactions.active", "state=cancelling", 3},
		{"tccsaga.transactions.oldest", "state=undecided", 60},
		{"tccsaga.transactions.oldest", "state=unfinished", 1},
		{"tccsaga.transactions.attention", "", 4},
		{"tccsaga.transactions.paused", "", 5},
		{"tccsaga.kinds.paused", "", 1},
		{"tccsaga.circuits.open", "kind=stock", 1},
		{"tccsaga.circuits.open", "kind=card", 0},
		{"tccsaga.instances", "alive=true", 2},
		{"tccsaga.instances", "alive=false", 1},
		{"tccsaga.outbox.pending", "stream=orders", 7},
		{"tccsaga.outbox.pending", "stream=mails", 0},
		{"tccsaga.outbox.lag", "stream=orders", 90},
		{"tccsaga.dead_letters", "stream=orders", 8},
	} {
		m.has(one.name, one.attributes, one.want)
	}
	sagatest.Must(t, g.Unregister())
	left, err := m.collect()
	sagatest.Must(t, err)
	for _, name := range []string{"tccsaga.transactions.active", "tccsaga.outbox.lag", "tccsaga.dead_letters"} {
		if left[name] != nil {
			t.Errorf("after Unregister, there is %s", name)
		}
	}
}

// The gauges of an engine show what its log has.
func TestGaugesOfAnEngine(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s, m := newShop(t, db), newMeter(t)
		engine := s.start(embedded.Config{MinBackoff: time.Hour, MaxBackoff: time.Hour}, m.observer)
		s.on(card, barrier.Confirm, failing(1))
		_, err := engine.Execute(t.Context(), plan(sagatest.GID(), card))
		sagatest.Must(t, err)
		sagatest.Must(t, engine.Begin(t.Context(), saga.Opening{GID: sagatest.GID()}))
		m.gauges(otelsaga.GaugesConfig{Operations: engine.Operations()})
		m.has("tccsaga.transactions.active", "state=confirming", 1)
		m.has("tccsaga.transactions.active", "state=trying", 1)
		m.has("tccsaga.circuits.open", "kind=card", 0)
		m.has("tccsaga.instances", "alive=true", 1)
	})
}

// counted counts reads, which can block or fail.
type counted struct {
	reads atomic.Int64
	block chan struct{} // nil for no block
	fail  error
}

func (c *counted) Overview(ctx context.Context) (*saga.Overview, error) {
	c.reads.Add(1)
	if c.block != nil {
		<-c.block // it ignores its context
	}
	if c.fail != nil {
		return nil, c.fail
	}
	return full{}.Overview(ctx)
}

// A collection reads a source at most once in a time, also if the read fails.
func TestGaugesAreCached(t *testing.T) {
	t.Parallel()
	for _, fail := range []error{nil, errors.New("the database is down")} {
		m, source := newMeter(t), &counted{fail: fail}
		m.gauges(otelsaga.GaugesConfig{Operations: source, Every: time.Hour})
		for range 5 {
			if _, err := m.collect(); (err != nil) != (fail != nil) {
				t.Errorf("collect: %v", err)
			}
		}
		if n := source.reads.Load(); n != 1 {
			t.Errorf("%d reads", n)
		}
	}
}

// A source that does not answer costs each collection its timeout, holds up no other source, and
// is not read a second time beside it.
func TestGaugesOfASourceThatHangs(t *testing.T) {
	t.Parallel()
	m, source := newMeter(t), &counted{block: make(chan struct{})}
	t.Cleanup(func() { close(source.block) })
	config := all()
	config.Operations, config.Timeout = source, 20*time.Millisecond
	m.gauges(config)
	for range 3 {
		found, err := m.collect()
		if err == nil || !strings.Contains(err.Error(), "was not read within") {
			t.Errorf("collect: %v", err)
		}
		if found["tccsaga.dead_letters"] == nil || found["tccsaga.instances"] != nil {
			t.Errorf("collected %v", found)
		}
	}
	if n := source.reads.Load(); n != 1 {
		t.Errorf("%d reads", n)
	}
}

func TestBadConfig(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]otelsaga.GaugesConfig{"no source": {}, "negative": {Operations: full{}, Every: -1}} {
		if _, err := otelsaga.NewGauges(config); !errors.Is(err, saga.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := otelsaga.New(otelsaga.Config{Propagator: baggageOnly()}); !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), "traceparent") {
		t.Errorf("a propagator without traceparent: %v", err)
	}
	_, err := embedded.Open(t.Context(), sqltest.Open(t, "sqlite"), embedded.Config{Observers: []saga.Observer{nil}})
	if !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), "observer 1 is nil") {
		t.Errorf("a nil observer: %v", err)
	}
}
