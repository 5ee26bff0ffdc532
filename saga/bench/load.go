package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Contender does the same work in its own way: one order, which is confirmed
// and durable when Place returns.
type Contender interface {
	Name() string
	Place(ctx context.Context, order Order) error
	Close() error
}

// Order is one unit of work: one piece of an article, and a message.
type Order struct {
	ID  string
	SKU string
}

// Figures are what one run of one contender came to.
type Figures struct {
	PerSecond  float64       `json:"per_second"`
	P50        time.Duration `json:"p50_ns"`
	P99        time.Duration `json:"p99_ns"`
	LagP50     time.Duration `json:"lag_p50_ns,omitzero"` // from the commit until the message is published
	LagP99     time.Duration `json:"lag_p99_ns,omitzero"`
	Commits    float64       `json:"commits_per_order"`    // by the server's counter
	Statements float64       `json:"statements_per_order"` // by the server's counter
	ClientCPU  time.Duration `json:"client_cpu_per_order_ns"`
	ServerCPU  time.Duration `json:"server_cpu_per_order_ns"` // of the database server
	Allocs     float64       `json:"allocations_per_order"`
	Failed     float64       `json:"failed_per_order"`
}

// failed is the error of an order that a contender gave up, which is counted and
// not measured.
type failed struct{ error }

func (f failed) Unwrap() error { return f.error }

var orders atomic.Int64

// run lets callers place orders for a while.
func run(ctx context.Context, c Contender, counters func() (Counters, error), callers int, length time.Duration, sku func(n int64) string) (Figures, error) {
	// Let connections come up, and caches fill.
	if _, _, err := load(ctx, c, callers, length/4, sku); err != nil {
		return Figures{}, err
	}
	before, err := counters()
	if err != nil {
		return Figures{}, err
	}
	cpu, allocs := clientCPU(), allocations()
	began := time.Now()
	took, gaveUp, err := load(ctx, c, callers, length, sku)
	if err != nil {
		return Figures{}, err
	}
	elapsed := time.Since(began)
	cpu, allocs = clientCPU()-cpu, allocations()-allocs
	after, err := counters()
	if err != nil {
		return Figures{}, err
	}
	slices.Sort(took)
	n := len(took)
	if n == 0 {
		return Figures{}, fmt.Errorf("%s placed no order in %s", c.Name(), length)
	}
	return Figures{
		PerSecond: float64(n) / elapsed.Seconds(), P50: took[n/2], P99: took[n*99/100],
		Commits:    float64(after.Commits-before.Commits) / float64(n),
		Statements: float64(after.Statements-before.Statements) / float64(n),
		ServerCPU:  (after.CPU - before.CPU) / time.Duration(n),
		ClientCPU:  cpu / time.Duration(n), Allocs: float64(allocs) / float64(n),
		Failed: float64(gaveUp) / float64(n),
	}, nil
}

// load returns how long each order took, and how many were given up.
func load(ctx context.Context, c Contender, callers int, length time.Duration, sku func(n int64) string) (took []time.Duration, gaveUp int64, err error) {
	// What is under way at the end is finished, not cut off.
	until := time.Now().Add(length)
	all := make([][]time.Duration, callers)
	failures := make(chan error, callers)
	var lost atomic.Int64
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for time.Now().Before(until) {
				n := orders.Add(1)
				began := time.Now()
				err := c.Place(ctx, Order{ID: fmt.Sprintf("o-%d", n), SKU: sku(n)})
				var tolerated failed
				switch {
				case err == nil:
					all[i] = append(all[i], time.Since(began))
				case errors.As(err, &tolerated):
					lost.Add(1)
				default:
					failures <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failures:
		return nil, 0, fmt.Errorf("%s: %w", c.Name(), err)
	default:
		return slices.Concat(all...), lost.Load(), nil
	}
}

func clientCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func allocations() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.Mallocs
}
