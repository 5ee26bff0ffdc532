package simulation

import (
	"flag"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seeds   = flag.Int("sim.seeds", 2000/slower, "how many seeds to run")
	oneSeed = flag.Uint64("sim.seed", 0, "the only seed to run; with -v its trace is printed")
	first   = flag.Uint64("sim.first", 1, "the first seed to run")
)

// result is what a run came to.
type result struct {
	violations []string
	trace      []string
	calls      int
	faults     map[fault]int
}

// simulate runs a world with n transactions, in which plan decides about faults,
// until everything has come to its end or time is up.
func simulate(t *testing.T, seed uint64, log, other *database, n int, plan func(w *world) func(int, *call) fault) (r result) {
	return simulateStories(t, seed, log, other, func(w *world) { w.stories(n) }, plan)
}

func simulateStories(t *testing.T, seed uint64, log, other *database, stories func(w *world), plan func(w *world) func(int, *call) fault) (r result) {
	log.empty(t)
	other.empty(t)
	synctest.Test(t, func(t *testing.T) {
		r.faults = map[fault]int{}
		w := newWorld(seed, log, other, func(w *world) func(int, *call) fault {
			decide := plan(w)
			return func(n int, c *call) fault {
				f := decide(n, c)
				if f != none {
					r.faults[f]++
				}
				return f
			}
		})
		over := make(chan struct{})
		var told, ended, buried atomic.Bool
		go func() {
			stories(w)
			told.Store(true)
		}()
		left := atomic.Int64{}
		left.Store(processes)
		for number := range processes {
			go func() {
				w.keep(number, over)
				if left.Add(-1) == 0 {
					buried.Store(true)
				}
			}()
		}
		var calm time.Time
		w.gate.run(func() bool {
			switch {
			case buried.Load():
				return true
			case ended.Load():
			case !told.Load():
			case calm.IsZero():
				calm = time.Now()
				w.end()
				w.gate.note("faults stop")
			case w.unfinished() == 0 || time.Since(calm) > 5*time.Minute:
				ended.Store(true)
				close(over)
			}
			return false
		})
		r.violations, r.trace, r.calls = w.violations(), w.gate.trace, w.gate.calls
	})
	return r
}

// storm lets calls fail with some probability, which the seed chooses, until
// the callers are done.
func storm(w *world) func(int, *call) fault {
	every := 5 + w.gate.random.IntN(60)
	return func(_ int, c *call) fault {
		if w.isEnding() || w.gate.random.IntN(every) != 0 {
			return none
		}
		f := fault(1 + w.gate.random.IntN(int(numOfFaults)-1))
		if f == dieBefore || f == dieAfter || f == pause {
			if w.gate.random.IntN(3) != 0 { // fewer of these
				return failAfter
			}
		}
		return f
	}
}

// TestSeeds runs many seeds. One that breaks a promise is named with the command
// that repeats it.
func TestSeeds(t *testing.T) {
	t.Parallel()
	var next, calls atomic.Int64
	last := int64(*seeds)
	if *oneSeed > 0 {
		last = 1
	}
	for worker := range runtime.GOMAXPROCS(0) {
		t.Run(fmt.Sprint("worker", worker), func(t *testing.T) {
			t.Parallel()
			log, other := openDatabase(t, "log"), openDatabase(t, "other")
			for n := next.Add(1); n <= last && !t.Failed(); n = next.Add(1) {
				seed := *first + uint64(n) - 1
				if *oneSeed > 0 {
					seed = *oneSeed
				}
				r := simulate(t, seed, log, other, 6, storm)
				calls.Add(int64(r.calls))
				report(t, seed, r)
			}
		})
	}
	t.Cleanup(func() { t.Logf("%d calls", calls.Load()) })
}

// TestCrowds runs seeds in which several callers share commits, so that faults, and
// drivers that were paused past their lease, come in batches. A seed says which
// faults come, and mostly repeats what it has found.
func TestCrowds(t *testing.T) {
	t.Parallel()
	var next, shared atomic.Int64
	last := int64(*seeds) / 20
	for worker := range runtime.GOMAXPROCS(0) {
		t.Run(fmt.Sprint("worker", worker), func(t *testing.T) {
			t.Parallel()
			log, other := openDatabase(t, "log"), openDatabase(t, "other")
			for n := next.Add(1); n <= last && !t.Failed(); n = next.Add(1) {
				seed := *first + uint64(n) - 1
				r := simulateStories(t, seed, log, other, func(w *world) { w.crowds(8) }, storm)
				for _, line := range r.trace {
					if strings.Contains(line, "UPDATE saga_transactions SET state = CASE") && strings.Count(line, "crowd") > 1 {
						shared.Add(1)
					}
				}
				if len(r.violations) > 0 {
					t.Errorf("seed %d of crowds:\n  %s\n%s", seed, strings.Join(r.violations, "\n  "), strings.Join(r.trace, "\n"))
				}
			}
		})
	}
	t.Cleanup(func() {
		t.Logf("%d last commits were shared", shared.Load())
		if !t.Failed() && last >= 20 && shared.Load() == 0 {
			t.Error("no last commit was shared")
		}
	})
}

func report(t *testing.T, seed uint64, r result) {
	t.Helper()
	if *oneSeed > 0 && testing.Verbose() {
		t.Logf("trace:\n%s", strings.Join(r.trace, "\n"))
	}
	if len(r.violations) > 0 {
		t.Errorf("seed %d:\n  %s\nrepeat it with\n  go test ./saga/internal/test/simulation -run 'TestSeeds' -v -sim.seed=%d", seed, strings.Join(r.violations, "\n  "), seed)
	}
}

// TestSameSeedSameTrace is the proof that a seed decides everything.
func TestSameSeedSameTrace(t *testing.T) {
	t.Parallel()
	log, other := openDatabase(t, "log"), openDatabase(t, "other")
	for seed := range uint64(max(2, 20/slower)) {
		one, two := simulate(t, seed, log, other, 6, storm), simulate(t, seed, log, other, 6, storm)
		if !slices.Equal(one.trace, two.trace) {
			for i := range min(len(one.trace), len(two.trace)) {
				if one.trace[i] != two.trace[i] {
					t.Fatalf("seed %d, line %d:\n  %s\n  %s\nbefore:\n  %s", seed, i, one.trace[i], two.trace[i], strings.Join(one.trace[max(0, i-6):i], "\n  "))
				}
			}
			t.Fatalf("seed %d: %d lines, then %d", seed, len(one.trace), len(two.trace))
		}
	}
}

// turnSeed draws transactions with all kinds of branches.
const turnSeed = 5

// TestEachCallInTurn lets exactly one call fail, each in turn, in each way.
func TestEachCallInTurn(t *testing.T) {
	t.Parallel()
	for f := failBefore; f < numOfFaults; f++ {
		t.Run(strings.ToLower(f.String()), func(t *testing.T) {
			t.Parallel()
			log, other := openDatabase(t, "log"), openDatabase(t, "other")
			for nth := 1; ; nth += slower {
				r := simulate(t, turnSeed, log, other, 4, func(w *world) func(int, *call) fault {
					return func(n int, _ *call) fault {
						if n == nth && !w.isEnding() {
							return f
						}
						return none
					}
				})
				if len(r.violations) > 0 {
					t.Fatalf("call %d %s:\n  %s\n%s", nth, f, strings.Join(r.violations, "\n  "), strings.Join(r.trace, "\n"))
				}
				if r.faults[f] == 0 {
					return // there are not so many calls
				}
			}
		})
	}
}
