package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

// consoleExperiment is nil if the benchmark is built without it; see console.go.
var consoleExperiment func(s *Suite, ctx context.Context) error

// Question is something that a page of the console reads, with how long it took.
type Question struct {
	Database string          `json:"database"`
	Page     string          `json:"page"`
	Name     string          `json:"name"`
	Rows     int             `json:"rows"`
	Took     []time.Duration `json:"took_ns"` // the first one with cold caches, if any are
}

// Refreshing is how a console that refreshes itself changes the pace of an engine.
type Refreshing struct {
	Database string        `json:"database"`
	Pairs    [][2]float64  `json:"per_second"` // without and with it, run after run
	CPU      time.Duration `json:"cpu_per_refresh_ns"`
}

// ratios are those of the pairs.
func (f Refreshing) ratios() (all []float64) {
	for _, pair := range f.Pairs {
		all = append(all, pair[1]/pair[0])
	}
	return all
}

// ratio is that of all orders that were placed with and without a console.
func (f Refreshing) ratio() float64 {
	var without, with float64
	for _, pair := range f.Pairs {
		without, with = without+pair[0], with+pair[1]
	}
	return with / without
}

// slowest is the time in which every page of the console answers.
func (m *findings) slowest(database string) (worst time.Duration) {
	for _, q := range m.questions {
		if q.Database == database {
			worst = max(worst, slices.Max(q.Took))
		}
	}
	return worst
}

// consoleText is the section of the report.
func (r report) consoleText() string {
	var b strings.Builder
	last := ""
	for _, q := range r.questions {
		if q.Database != last {
			last = q.Database
			fmt.Fprintf(&b, "\n## console on %s\n\nWhat the pages of the console read, in a log with %d finished and %d failing transactions.\n\n| page | reads | rows | median | max |\n|---|---|---:|---:|---:|\n", q.Database, r.Finished, r.Failing)
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %s | %s |\n", q.Page, q.Name, q.Rows, took(middle(q.Took, same), 10*time.Microsecond), took(slices.Max(q.Took), 10*time.Microsecond))
	}
	for _, f := range r.refreshing {
		ratios := f.ratios()
		fmt.Fprintf(&b, "\nOn %s, 64 callers place orders in that log while a console refreshes its home and its list each second: %.3f of the pace\nwithout it, in %d pairs of times from %.3f to %.3f. A refresh takes %s of the processors, which is %.1f%% of this machine.\n",
			f.Database, f.ratio(), len(ratios), slices.Min(ratios), slices.Max(ratios), took(f.CPU, 100*time.Microsecond), 100*f.CPU.Seconds()/float64(runtime.NumCPU()))
	}
	return b.String()
}
