package simulation

import (
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
)

var (
	seeds   = flag.Int("sim.seeds", 2000/slower, "how many seeds to run")
	oneSeed = flag.Uint64("sim.seed", 0, "the only seed to run; with -v its trace is printed")
	first   = flag.Uint64("sim.first", 1, "the first seed to run")
)

// TestSeeds runs many seeds. For one that breaks a rule it prints the command that
// repeats it.
func TestSeeds(t *testing.T) {
	t.Parallel()
	if *oneSeed > 0 {
		log, other := openDatabase(t, "log"), openDatabase(t, "other")
		r := simulate(t, *oneSeed, log, other, transactions(6), nemesis)
		if testing.Verbose() {
			t.Logf("trace:\n%s", strings.Join(r.trace, "\n"))
		}
		report(t, *oneSeed, r)
		t.Logf("%d calls", r.calls)
		return
	}
	var calls atomic.Int64
	eachSeed(t, int64(*seeds), func(t *testing.T, seed uint64, log, other *database) {
		r := simulate(t, seed, log, other, transactions(6), nemesis)
		calls.Add(int64(r.calls))
		report(t, seed, r)
	})
	t.Cleanup(func() { t.Logf("%d calls", calls.Load()) })
}

func report(t *testing.T, seed uint64, r result) {
	t.Helper()
	if len(r.violations) > 0 {
		t.Errorf("seed %d breaks rules of package invariant:\n  %s\nrepeat it, with its trace:\n  go test ./saga/internal/test/simulation -run TestSeeds -v -sim.seed=%[1]d", seed, strings.Join(r.violations, "\n  "))
	}
}

// eachSeed runs n seeds, one at a time on each processor, until one fails.
func eachSeed(t *testing.T, n int64, run func(t *testing.T, seed uint64, log, other *database)) {
	var next atomic.Int64
	for worker := range runtime.GOMAXPROCS(0) {
		t.Run(fmt.Sprint("worker", worker), func(t *testing.T) {
			t.Parallel()
			log, other := openDatabase(t, "log"), openDatabase(t, "other")
			for i := next.Add(1); i <= n && !t.Failed(); i = next.Add(1) {
				run(t, *first+uint64(i)-1, log, other)
			}
		})
	}
}

// TestBursts runs seeds in which several callers share commits, so that faults, and
// processes that were paused past their lease, meet whole batches. A seed fixes the
// faults, and mostly finds the same again.
func TestBursts(t *testing.T) {
	t.Parallel()
	var shared atomic.Int64
	n := int64(*seeds) / 20
	eachSeed(t, n, func(t *testing.T, seed uint64, log, other *database) {
		r := simulate(t, seed, log, other, func(w *world) { w.bursts(8) }, nemesis)
		for _, line := range r.trace {
			if finishesSeveral(line) {
				shared.Add(1)
			}
		}
		if len(r.violations) > 0 {
			t.Errorf("seed %d of bursts:\n  %s\n%s", seed, strings.Join(r.violations, "\n  "), strings.Join(r.trace, "\n"))
		}
	})
	t.Cleanup(func() {
		t.Logf("%d last commits were shared", shared.Load())
		if !t.Failed() && n >= 20 && shared.Load() == 0 {
			t.Error("no last commit was shared")
		}
	})
}

// finishesSeveral says whether a line of the trace is the statement that finishes
// several transactions at once.
func finishesSeveral(line string) bool {
	return strings.Contains(line, "UPDATE saga_transactions SET state = CASE") && strings.Count(line, "burst") > 1
}

// TestSameSeedSameTrace shows that a seed decides everything. On a busy machine, two
// goroutines that become ready at the same simulated time may run in another order, so a
// seed whose traces differ is run once more. A trace that is random differs again.
func TestSameSeedSameTrace(t *testing.T) {
	t.Parallel()
	log, other := openDatabase(t, "log"), openDatabase(t, "other")
	trace := func(seed uint64) []string {
		return simulate(t, seed, log, other, transactions(6), nemesis).trace
	}
	for seed := range uint64(max(2, 20/slower)) {
		difference := compareTraces(trace(seed), trace(seed))
		if difference == "" {
			continue
		}
		t.Logf("seed %d, which is run once more, %s", seed, difference)
		if difference = compareTraces(trace(seed), trace(seed)); difference != "" {
			t.Fatalf("seed %d, %s", seed, difference)
		}
	}
}

// compareTraces says where two traces differ; it is empty if they are equal.
func compareTraces(one, two []string) string {
	for i := range min(len(one), len(two)) {
		if one[i] != two[i] {
			return fmt.Sprintf("line %d:\n  %s\n  %s\nbefore:\n  %s", i, one[i], two[i], strings.Join(one[max(0, i-6):i], "\n  "))
		}
	}
	if len(one) != len(two) {
		return fmt.Sprintf("%d lines, then %d", len(one), len(two))
	}
	return ""
}

// allKindsSeed draws transactions with all kinds of branches.
const allKindsSeed = 5

// TestEachCallInTurn lets exactly one call fail, each in turn, in each way.
func TestEachCallInTurn(t *testing.T) {
	t.Parallel()
	for f := failBefore; f < numOfFaults; f++ {
		t.Run(strings.ToLower(f.String()), func(t *testing.T) {
			t.Parallel()
			log, other := openDatabase(t, "log"), openDatabase(t, "other")
			for nth := 1; ; nth += slower {
				r := simulate(t, allKindsSeed, log, other, transactions(4), only(nth, f))
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
