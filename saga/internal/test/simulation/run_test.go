package simulation

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// result is the result of a run.
type result struct {
	violations []string
	trace      []string
	calls      int
	faults     map[fault]int
}

// simulate runs a world with the workload, until all transactions have ended or
// time is up. The functions in setUp change the world before.
func simulate(t *testing.T, seed uint64, log, other *database, workload func(w *world), faults func(w *world) plan, setUp ...func(w *world)) (r result) {
	log.empty(t)
	other.empty(t)
	synctest.Test(t, func(t *testing.T) {
		r.faults = map[fault]int{}
		w := newWorld(seed, log, other, func(w *world) plan { return counted(faults(w), r.faults) })
		for _, change := range setUp {
			change(w)
		}
		w.run(workload)
		r.violations, r.trace, r.calls = w.violations(), w.gate.trace, w.gate.calls
	})
	return r
}

// counted counts the faults of a plan.
func counted(decide plan, faults map[fault]int) plan {
	return func(n int, c *call) fault {
		f := decide(n, c)
		if f != none {
			faults[f]++
		}
		return f
	}
}

// endWithin is how long transactions may take to end after the last fault, by the
// simulated clock.
const endWithin = 5 * time.Minute

// run starts the processes and the callers, stops the faults when the callers are
// done, and the processes when all transactions have ended.
func (w *world) run(workload func(w *world)) {
	over := make(chan struct{})
	var called, ended, down atomic.Bool
	go func() {
		workload(w)
		called.Store(true)
	}()
	var supervisors sync.WaitGroup
	count := processes
	if w.hosted {
		count = hostNumber + 1
	}
	for number := range count {
		supervisors.Go(func() { w.supervise(number, over) })
	}
	go func() {
		supervisors.Wait()
		w.left.Wait()
		down.Store(true)
	}()
	var stopped time.Time // when the faults stopped
	w.gate.run(func() bool {
		switch {
		case down.Load():
			return true
		case ended.Load():
		case !called.Load():
		case stopped.IsZero():
			stopped = time.Now()
			w.end()
			w.gate.note("faults stop")
		case w.unfinished() == 0 && w.late.Load() == 0 || time.Since(stopped) > endWithin:
			ended.Store(true)
			close(over)
			synctest.Wait() // until the processes are dead
		}
		return false
	})
}
