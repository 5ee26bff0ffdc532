// Package batch lets callers share commits: group commit.
package batch

import (
	"runtime"
	"sync"
	"time"
)

const (
	// minParallel is the number of waiting items that start another batch of the same
	// key at the same time. Fewer items wait for the next batch.
	minParallel = 8

	// maxDelay is the longest time for which a batch delays the next one.
	maxDelay = 20 * time.Millisecond

	// patience is the longest time for which a patient item waits for another one.
	patience = 5 * time.Millisecond
)

// Yield lets callers that are ready to run join the batch of a key before it is taken. A
// simulation of time replaces it, so that all callers of one moment join.
var Yield = func(key string) { runtime.Gosched() }

// Groups collects items with the same key into batches. An item is written at once if no
// batch of its key is being written. Items that arrive meanwhile form the next batch. So
// an item waits only for a batch before it, and the load determines the size of a batch. A
// patient item waits for others.
//
// If writing a batch takes long, the next batch does not wait for its end. Groups is safe
// for concurrent use.
type Groups[T any] struct {
	maxItems   int       // in a batch
	maxWorkers int       // of a key
	write      func([]T) // writes a batch, and gives each item its result

	mu    sync.Mutex
	byKey map[string]*group[T] // those with work to do
}

type group[T any] struct {
	waiting []T
	workers int
}

// New returns Groups with at most maxItems items in a batch. At most maxWorkers
// batches of a key are written at once.
func New[T any](maxItems, maxWorkers int, write func([]T)) *Groups[T] {
	return &Groups[T]{maxItems: maxItems, maxWorkers: maxWorkers, write: write, byKey: make(map[string]*group[T])}
}

// Add adds item to the next batch of its key. It does not wait.
func (g *Groups[T]) Add(key string, item T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	in := g.put(key, item)
	if in.workers == 0 || in.workers < g.maxWorkers && len(in.waiting) >= minParallel {
		in.workers++
		go g.work(key, in)
	}
}

// AddPatient adds item to the next batch of its key, and does not wait. If no batch is being
// written, it begins none: the next Add does, or the end of a few milliseconds.
func (g *Groups[T]) AddPatient(key string, item T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	in := g.put(key, item)
	if in.workers > 0 || len(in.waiting) > 1 {
		return // a worker takes it, or a timer runs
	}
	time.AfterFunc(patience, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.byKey[key] == in && in.workers == 0 {
			in.workers++
			go g.work(key, in)
		}
	})
}

// put adds item to its group. The caller holds the lock.
func (g *Groups[T]) put(key string, item T) *group[T] {
	in := g.byKey[key]
	if in == nil {
		in = &group[T]{}
		g.byKey[key] = in
	}
	in.waiting = append(in.waiting, item)
	return in
}

// Waiting returns how many items of a key wait for a batch.
func (g *Groups[T]) Waiting(key string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if in := g.byKey[key]; in != nil {
		return len(in.waiting)
	}
	return 0
}

func (g *Groups[T]) work(key string, in *group[T]) {
	for {
		Yield(key)
		batch := g.take(key, in)
		if batch == nil || g.replaced(key, in, batch) {
			return
		}
	}
}

// replaced writes a batch. If this takes long, because of a slow network or a lock, it
// starts another worker for the next batch and returns true.
func (g *Groups[T]) replaced(key string, in *group[T], batch []T) bool {
	var written, replaced bool
	timer := time.AfterFunc(maxDelay, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if !written {
			replaced = true
			go g.work(key, in)
		}
	})
	g.write(batch)
	timer.Stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	written = true
	return replaced
}

// take returns the next batch; nil ends the worker.
func (g *Groups[T]) take(key string, in *group[T]) []T {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(in.waiting), g.maxItems)
	if n == 0 || n < minParallel && in.workers > 1 {
		if in.workers--; in.workers == 0 {
			delete(g.byKey, key)
		}
		return nil
	}
	batch := in.waiting[:n:n]
	in.waiting = in.waiting[n:]
	return batch
}

// Gather keeps the items of a key until n of them wait, and then writes them in one batch.
// It is for tests.
func (g *Groups[T]) Gather(key string, n int) {
	in := &group[T]{workers: 1000} // so many that Add starts none
	tick := time.NewTicker(time.Millisecond)
	for !g.setUp(key, in) { // the last worker has not ended yet
		<-tick.C
	}
	go func() {
		defer tick.Stop()
		for range tick.C {
			if g.ready(in, n) {
				g.work(key, in)
				return
			}
		}
	}()
}

func (g *Groups[T]) setUp(key string, in *group[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.byKey[key] != nil {
		return false
	}
	g.byKey[key] = in
	return true
}

func (g *Groups[T]) ready(in *group[T], n int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(in.waiting) < n {
		return false
	}
	in.workers = 1
	return true
}
