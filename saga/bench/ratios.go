package main

import (
	"fmt"
	"time"
)

// Ratio is a figure of tccsaga in relation to another one of the same run.
type Ratio struct {
	Case   string  `json:"case"`
	Value  float64 `json:"value"`
	Target float64 `json:"target"`
	AtMost bool    `json:"at_most"` // the target is the most that the value may be, not the least
}

// goal is the target for people and scripts. A figure with the target 0 has none.
func (r Ratio) goal() string {
	if r.Target == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", r.Target)
}

// Reached says whether the value is what it should be.
func (r Ratio) Reached() bool { return r.AtMost == (r.Value < r.Target) || r.Value == r.Target }

// findings are what a suite has measured.
type findings struct {
	runs                          map[Key][]Figures
	recovered, placed, peakMemory []float64
	drained, undisturbed          []float64
	profile                       []Profile
	questions                     []Question
	refreshing                    []Refreshing
}

// median is the median of each figure of the runs.
func (m *findings) median(k Key) Figures {
	runs := m.runs[k]
	if len(runs) == 0 {
		return Figures{}
	}
	return Figures{
		PerSecond:  middle(runs, func(f Figures) float64 { return f.PerSecond }),
		P50:        middle(runs, func(f Figures) time.Duration { return f.P50 }),
		P99:        middle(runs, func(f Figures) time.Duration { return f.P99 }),
		LagP50:     middle(runs, func(f Figures) time.Duration { return f.LagP50 }),
		LagP99:     middle(runs, func(f Figures) time.Duration { return f.LagP99 }),
		Commits:    middle(runs, func(f Figures) float64 { return f.Commits }),
		Statements: middle(runs, func(f Figures) float64 { return f.Statements }),
		ClientCPU:  middle(runs, func(f Figures) time.Duration { return f.ClientCPU }),
		ServerCPU:  middle(runs, func(f Figures) time.Duration { return f.ServerCPU }),
		Allocs:     middle(runs, func(f Figures) float64 { return f.Allocs }),
		Failed:     middle(runs, func(f Figures) float64 { return f.Failed }),
	}
}

// Ratios are what the suite measured in relation to its targets.
func (m *findings) Ratios() []Ratio {
	var all []Ratio
	add := func(name string, value, base, target float64, atMost bool) {
		if value != 0 && base != 0 {
			all = append(all, Ratio{name, value / base, target, atMost})
		}
	}
	at := func(experiment, database, contender string, callers int) Figures {
		return m.median(Key{experiment, database, contender, callers})
	}
	faster := func(name, experiment, database, contender, base string, callers int, target float64) {
		add(name, at(experiment, database, contender, callers).PerSecond, at(experiment, database, base, callers).PerSecond, target, false)
	}
	add("1-caller-p50/raw", float64(at("spread", "mysql", "tccsaga", 1).P50), float64(at("spread", "mysql", "raw", 1).P50), 0.9, true)
	faster("16-callers/raw", "spread", "mysql", "tccsaga", "raw", 16, 2.5)
	faster("64-callers/raw", "spread", "mysql", "tccsaga", "raw", 64, 5)
	add("64-callers/dtm", at("spread", "mysql", "tccsaga", 64).PerSecond, at("dtm", "mysql", "dtm", 64).PerSecond, 30, false)
	faster("64-callers-hot/raw", "hot", "mysql", "tccsaga", "raw", 64, 9)
	faster("64-callers-plain/raw", "spread", "mysql", "plain", "raw", 64, 1.5)
	add("64-callers-p99/raw", float64(at("spread", "mysql", "tccsaga", 64).P99), float64(at("spread", "mysql", "raw", 64).P99), 1, true)
	faster("publish/without", "publish", "mysql", "jetstream", "tccsaga", 64, 0)
	faster("publish/by-hand", "publish", "mysql", "jetstream", "publish by hand", 64, 3)
	faster("full-log/empty", "full-log", "mysql", "full", "empty", 64, 0.95)
	if len(m.recovered) > 0 {
		add("recovery/normal", middle(m.recovered, same), at("spread", "mysql", "tccsaga", 64).PerSecond, 0.8, false)
	}
	if len(m.drained) > 0 {
		add("drain/normal", middle(m.drained, same), middle(m.undisturbed, same), 0.8, false)
	}
	faster("idle-reservations/none", "idle", "mysql", "waiting", "none", 64, 0.97)
	faster("postgres-64-callers/raw", "spread", "postgres", "tccsaga", "raw", 64, 4)
	faster("sqlite-64-callers/raw", "spread", "sqlite", "tccsaga", "raw", 64, 5)
	faster("services-64-callers/dtm", "services", "mysql", "services", "dtm services", 64, 8)
	faster("services-64-callers/raw", "services", "mysql", "services", "raw", 64, 1)
	faster("services-bulk-64-callers/dtm", "services", "mysql", "services bulk", "dtm services", 64, 18)
	faster("services-16-callers/dtm", "services", "mysql", "services", "dtm services", 16, 4)
	add("services-1-caller-p50/dtm", float64(at("services", "mysql", "services", 1).P50), float64(at("services", "mysql", "dtm services", 1).P50), 0.45, true)
	add("services-64-callers-p99/dtm", float64(at("services", "mysql", "services", 64).P99), float64(at("services", "mysql", "dtm services", 64).P99), 0.3, true)
	faster("services-hot-64-callers-bulk/dtm", "services-hot", "mysql", "services bulk", "dtm services", 64, 18)
	faster("services-cancelled-64-callers/dtm", "services-cancelled", "mysql", "services, cancelled", "dtm services, cancelled", 64, 8)
	faster("other-database-64-callers-plain/raw", "other-database", "mysql", "other database", "raw", 64, 1.5)
	faster("two-other-databases-64-callers-plain/raw", "other-database", "mysql", "two other databases", "raw", 64, 0)
	faster("open-64-callers/raw", "open", "mysql", "open", "raw", 64, 1.5)
	faster("open-plain-64-callers/raw", "open", "mysql", "open plain", "raw", 64, 0)
	faster("2-processes/1-process", "processes", "mysql", "2 processes", "1 process", 64, 0.9)
	faster("4-processes/1-process", "processes", "mysql", "4 processes", "1 process", 64, 0.9)
	for _, f := range m.refreshing {
		add("console-"+f.Database+"-refreshing/without", f.ratio(), 1, 0.98, false)
		add("console-"+f.Database+"-slowest/300ms", m.slowest(f.Database).Seconds(), 0.3, 1, true)
	}
	faster("xa-64-callers/by-hand", "xa", "mysql", "xa", "xa by hand", 64, 0.9)
	faster("saga-64-callers/dtm", "saga", "mysql", "saga", "dtm saga", 64, 8)
	faster("half-message-64-callers/dtm", "half-message", "mysql", "half", "dtm msg", 64, 8)
	faster("consume-1-worker/by-hand", "consume", "mysql", "1 worker", "by hand", 1, 1)
	faster("consume-batches/by-hand", "consume", "mysql", "batches of 64", "by hand", 1, 3)
	faster("consume-far-16-workers/former", "consume-far", "mysql", "16 workers", "former", 1, 4)
	faster("local-64-callers/outbox", "local", "mysql", "publishin", "outbox", 64, 1)
	faster("postgres-local-64-callers/outbox", "local", "postgres", "publishin", "outbox", 64, 1)
	faster("postgres-local-64-callers/river", "local", "postgres", "publishin", "river", 64, 1)
	return all
}

func same[T any](v T) T { return v }
