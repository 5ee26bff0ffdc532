package simulation

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
)

// services is the workload of callers of plans with branches of the host. In each of two groups
// of n, the callers call one process at the same moment, so that calls to the host travel
// together.
func services(n int) func(w *world) {
	return func(w *world) {
		random := rand.New(rand.NewPCG(w.seed, 50_000))
		var all sync.WaitGroup
		for group := range 2 {
			start, at := time.Duration(1000+4000*group+random.IntN(3000))*time.Millisecond, 1+random.IntN(processes)
			asked := farPlan(random)
			for i := range n {
				gid := fmt.Sprintf("g%d.%d", group, i)
				one := *asked
				one.steps = slices.Clone(asked.steps)
				if random.IntN(5) == 0 {
					one.steps[random.IntN(len(one.steps))].Input = input{Refuse: true}
				}
				c := &caller{world: w, gid: gid, asked: w.askFor(gid, &one), random: rand.New(rand.NewPCG(w.seed, 60_000+uint64(100*group+i))),
					name: fmt.Sprint("caller ", group, ".", i), at: at}
				all.Go(func() {
					time.Sleep(start)
					if one.pattern == "tcc" && i%4 == 3 {
						c.open()
					} else {
						c.execute()
					}
				})
			}
		}
		all.Wait()
	}
}

// farPlan draws a plan with at least one branch of the host.
func farPlan(random *rand.Rand) *request {
	r := &request{pattern: "tcc", options: saga.Options{ParallelTrys: random.IntN(3) == 0}}
	all := slices.Concat(farKinds, kinds)
	if random.IntN(3) == 0 {
		r.pattern, all = "saga", []string{actFar, actFar, actHere, far}
		if random.IntN(3) == 0 {
			r.options.TryAttempts = 3
		}
	}
	for range 1 + random.IntN(3) {
		r.steps = append(r.steps, saga.Step{Kind: all[random.IntN(len(all))], Input: input{}})
	}
	first := farKinds[random.IntN(len(farKinds))]
	if r.pattern == "saga" {
		first = actFar
		if random.IntN(2) == 0 {
			r.steps = append(r.steps, saga.Step{Kind: actFar, Input: input{}, Decides: r.options.TryAttempts == 0 && random.IntN(2) == 0})
		}
	}
	r.steps[0].Kind = first
	return r
}

// TestServiceSeeds runs seeds in which the calls of several transactions to a service travel in
// one request, through the real Service and the real Host. Requests, answers and the host fail.
func TestServiceSeeds(t *testing.T) {
	t.Parallel()
	var batched atomic.Int64
	var mu sync.Mutex
	harmed := map[string]int{} // batches by fault
	n := int64(*seeds) / 3
	eachSeed(t, n, func(t *testing.T, seed uint64, log, other *database) {
		r := simulate(t, seed, log, other, services(5), nemesis, withHost)
		for _, line := range r.trace {
			if found := batchLine.FindStringSubmatch(line); found != nil {
				batched.Add(1)
				mu.Lock()
				harmed[found[1]]++
				mu.Unlock()
			}
		}
		if len(r.violations) > 0 {
			t.Errorf("seed %d of services:\n  %s\n%s", seed, strings.Join(r.violations, "\n  "), strings.Join(r.trace, "\n"))
		}
	})
	t.Cleanup(func() {
		t.Logf("%d batches; by fault: %v", batched.Load(), harmed)
		for _, f := range ofRequests {
			if !t.Failed() && n >= 40 && harmed[f.String()] == 0 {
				t.Errorf("no batch of calls was %s", f)
			}
		}
	})
}

var batchLine = regexp.MustCompile(`outside POST \d+ calls: .*, [a-z-]+ ([A-Z ]*)$`)

// TestSameServiceSeedSameTrace shows that a seed decides which calls travel together, and what
// becomes of them.
func TestSameServiceSeedSameTrace(t *testing.T) {
	t.Parallel()
	sameTrace(t, max(2, 20/slower), func(t *testing.T, seed uint64, log, other *database) result {
		return simulate(t, seed, log, other, services(5), nemesis, withHost)
	})
}

// TestEachRequestInTurn lets exactly one request to the host fail, each in turn, in each way.
func TestEachRequestInTurn(t *testing.T) {
	t.Parallel()
	for f := cut; f < endOfFaults; f++ {
		eachCall(t, f, 1, every(2), services(4), withHost)
	}
}
