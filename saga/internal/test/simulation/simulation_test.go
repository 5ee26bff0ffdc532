package simulation

import (
	"flag"
	"fmt"
	"hash/fnv"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/batch"
)

var (
	seeds   = flag.Int("sim.seeds", 60/slower, "how many seeds to run; make simulate runs more")
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

// TestSagaSeeds is TestSeeds with plans that have actions, parallel steps, steps after the
// decision, and forward recovery.
func TestSagaSeeds(t *testing.T) {
	t.Parallel()
	eachSeed(t, int64(*seeds)/3, func(t *testing.T, seed uint64, log, other *database) {
		r := simulate(t, seed, log, other, sagas(5), nemesis)
		if len(r.violations) > 0 {
			t.Errorf("seed %d of sagas breaks rules:\n  %s\n%s", seed, strings.Join(r.violations, "\n  "), strings.Join(r.trace, "\n"))
		}
	})
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

// TestLocalSeeds runs seeds in which processes execute plans in local transactions of their own.
func TestLocalSeeds(t *testing.T) {
	t.Parallel()
	eachSeed(t, int64(*seeds)/3, func(t *testing.T, seed uint64, log, other *database) {
		r := simulate(t, seed, log, other, func(w *world) { w.locals(6) }, nemesis)
		if len(r.violations) > 0 {
			t.Errorf("seed %d of locals:\n  %s\n%s", seed, strings.Join(r.violations, "\n  "), strings.Join(r.trace, "\n"))
		}
	})
}

// TestSameSeedSameTrace shows that a seed decides everything.
func TestSameSeedSameTrace(t *testing.T) {
	t.Parallel()
	sameTrace(t, max(2, 20/slower), func(t *testing.T, seed uint64, log, other *database) result {
		return simulate(t, seed, log, other, transactions(6), nemesis)
	})
}

// sameTrace runs n seeds twice.
func sameTrace(t *testing.T, n int, run func(t *testing.T, seed uint64, log, other *database) result) {
	log, other := openDatabase(t, "log"), openDatabase(t, "other")
	for seed := range uint64(n) {
		one, two := run(t, seed, log, other), run(t, seed, log, other)
		if slices.Equal(one.trace, two.trace) {
			continue
		}
		for i := range min(len(one.trace), len(two.trace)) {
			if one.trace[i] != two.trace[i] {
				t.Fatalf("seed %d, line %d:\n  %s\n  %s\nbefore:\n  %s", seed, i, one.trace[i], two.trace[i], strings.Join(one.trace[max(0, i-6):i], "\n  "))
			}
		}
		t.Fatalf("seed %d: %d lines, then %d", seed, len(one.trace), len(two.trace))
	}
}

// allKindsSeed draws transactions with all kinds of branches.
const allKindsSeed = 5

// every returns 1, or with few seeds n: then each fault comes at every n-th call only, at others
// for each fault.
func every(n int) int {
	if *seeds < 500 {
		return n
	}
	return 1
}

// TestEachCallInTurn lets exactly one call fail, each in turn, in each way.
func TestEachCallInTurn(t *testing.T) {
	t.Parallel()
	eachFault(t, allKindsSeed, every(2), transactions(4))
}

// TestEachCallOfLocalsInTurn does the same where plans are executed in local transactions of the
// processes.
func TestEachCallOfLocalsInTurn(t *testing.T) {
	t.Parallel()
	eachFault(t, 1, every(6), func(w *world) { w.locals(2) })
}

// eachFault runs a seed once for each fault and every so manyth call.
func eachFault(t *testing.T, seed uint64, every int, workload func(w *world)) {
	for f := failBefore; f < numOfFaults; f++ {
		eachCall(t, f, seed, every, workload)
	}
}

// eachCall does it for one fault.
func eachCall(t *testing.T, f fault, seed uint64, every int, workload func(w *world), setUp ...func(w *world)) {
	t.Run(strings.ToLower(f.String()), func(t *testing.T) {
		t.Parallel()
		log, other := openDatabase(t, "log"), openDatabase(t, "other")
		for nth := 1 + int(f)%every; ; nth += every * slower {
			r := simulate(t, seed, log, other, workload, only(nth, f), setUp...)
			if len(r.violations) > 0 {
				t.Fatalf("call %d %s:\n  %s\n%s", nth, f, strings.Join(r.violations, "\n  "), strings.Join(r.trace, "\n"))
			}
			if r.faults[f] == 0 {
				return // there are not so many calls
			}
		}
	})
}

// All callers of one moment join a batch, so that a seed decides who does. Batches of different
// keys go on at different times, because timers that end at the same time fire in any order.
func init() {
	logID := regexp.MustCompile(`[0-9a-f]{32}`) // random
	batch.Yield = func(key string) {
		digest := fnv.New32()
		digest.Write(logID.ReplaceAll([]byte(key), nil))
		time.Sleep(time.Microsecond + time.Duration(digest.Sum32()%1e6))
	}
}
