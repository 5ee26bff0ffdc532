package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
)

// answer is what a caller was told of a transaction.
type answer struct {
	confirmed, cancelled bool // neither: unknown
	err                  error
}

// caller is somebody who uses the processes.
type caller struct {
	world  *world
	random *rand.Rand
	name   string // tells it from others
	first  int    // the process to ask first; 0 is any, 1 the first
}

// stories are what the callers of a run do, at the same time.
func (w *world) stories(n int) {
	var all sync.WaitGroup
	for i := range n {
		gid := fmt.Sprintf("t%d", i)
		steps := w.steps(uint64(i))
		w.plans[gid] = steps
		tell := func(copied uint64, story func(caller, string, []saga.Step)) {
			c := caller{world: w, random: rand.New(rand.NewPCG(w.seed, 1000*(copied+1)+uint64(i))), name: fmt.Sprint("caller ", i, ".", copied)}
			all.Go(func() {
				time.Sleep(time.Duration(c.random.IntN(6000)) * time.Millisecond)
				story(c, gid, steps)
			})
		}
		switch i % 4 {
		case 0:
			tell(0, caller.execute)
			tell(1, caller.execute) // the same at another process, perhaps
		case 3:
			tell(0, caller.open)
		default:
			tell(0, caller.execute)
		}
	}
	all.Wait()
}

// crowds are callers with plans of the same kinds, who come to the same process at
// the same moment, so that their transactions share commits. Which of them go
// together is not the seed's to decide.
func (w *world) crowds(n int) {
	random := rand.New(rand.NewPCG(w.seed, 20_000))
	var all sync.WaitGroup
	for wave := range 2 {
		start, number := time.Duration(1000+4000*wave+random.IntN(3000))*time.Millisecond, random.IntN(processes)
		for i := range n {
			gid := fmt.Sprintf("crowd%d.%d", wave, i)
			steps := []saga.Step{{Kind: "here", Input: input{}}, {Kind: "send", Input: input{}}}
			if random.IntN(12) == 0 {
				steps[random.IntN(2)].Input = input{Refuse: true}
			}
			w.plans[gid] = steps
			c := caller{world: w, random: rand.New(rand.NewPCG(w.seed, 30_000+uint64(100*wave+i))), name: fmt.Sprint("caller ", wave, ".", i), first: 1 + number}
			all.Go(func() {
				time.Sleep(start)
				c.execute(gid, steps)
			})
		}
	}
	all.Wait()
}

// steps draws a plan.
func (w *world) steps(n uint64) []saga.Step {
	random := rand.New(rand.NewPCG(w.seed, 10_000+n))
	kinds := []string{"here", "away", "out", "send"}
	var steps []saga.Step
	for range 1 + random.IntN(3) {
		steps = append(steps, saga.Step{Kind: kinds[random.IntN(len(kinds))], Input: input{}})
	}
	if random.IntN(5) == 0 {
		steps[random.IntN(len(steps))].Input = input{Refuse: true}
	}
	return steps
}

// context sometimes ends early.
func (c caller) context() (context.Context, context.CancelFunc) {
	if c.random.IntN(4) == 0 {
		return context.WithTimeout(context.Background(), time.Duration(1+c.random.IntN(3000))*time.Millisecond)
	}
	return context.WithTimeout(context.Background(), time.Minute)
}

// ask calls a process, and notes the answer if there was one: a process that is
// gone answers nobody.
func (c caller) ask(gid, what string, call func(context.Context, *saga.Orchestrator) (answer, bool)) (answer, bool) {
	number := c.random.IntN(processes)
	if c.first > 0 {
		number = c.first - 1
	}
	p := c.world.process(number)
	ctx, cancel := c.context()
	defer cancel()
	if p == nil {
		return answer{}, false
	}
	a, final := call(context.WithValue(jitter.With(ctx, p.draw), askerKey{}, c.name), p.orch)
	if p.dead() {
		return answer{}, false
	}
	c.world.gate.tell("%s of %s at %d: confirmed %t, cancelled %t, %v", what, gid, p.number, a.confirmed, a.cancelled, a.err)
	if a.confirmed || a.cancelled {
		c.world.mu.Lock()
		c.world.told[gid] = append(c.world.told[gid], a)
		c.world.mu.Unlock()
	}
	return a, final
}

// outcome is what an outcome and an error tell.
func outcome(o saga.Outcome, err error) answer {
	return answer{
		confirmed: err == nil && (o.State == saga.Confirming || o.State == saga.Confirmed),
		cancelled: errors.Is(err, saga.ErrCancelled) || err == nil && (o.State == saga.Cancelling || o.State == saga.Cancelled),
		err:       err,
	}
}

// execute asks until there is an answer, or until it loses patience.
func (c caller) execute(gid string, steps []saga.Step) {
	for range 1 + c.random.IntN(8) {
		options := saga.Options{ReturnDecided: c.random.IntN(4) == 0}
		if c.random.IntN(4) == 0 {
			options.Timeout = time.Duration(1+c.random.IntN(4000)) * time.Millisecond
		}
		a, final := c.ask(gid, "Execute", func(ctx context.Context, orch *saga.Orchestrator) (answer, bool) {
			a := outcome(orch.Execute(ctx, saga.Plan{GID: gid, Pattern: "tcc", Steps: steps, Options: options}))
			return a, a.confirmed || a.cancelled
		})
		if final && c.random.IntN(3) > 0 || a.err != nil && c.random.IntN(8) == 0 {
			return
		}
		time.Sleep(time.Duration(c.random.IntN(3000)) * time.Millisecond)
	}
}

// open begins a transaction, tries the branches one by one, and confirms,
// cancels, or goes away.
func (c caller) open(gid string, steps []saga.Step) {
	insist := func(what string, do func(context.Context, *saga.Orchestrator) error) bool {
		for range 1 + c.random.IntN(6) {
			_, done := c.ask(gid, what, func(ctx context.Context, orch *saga.Orchestrator) (answer, bool) {
				err := do(ctx, orch)
				return answer{err: err}, err == nil
			})
			if done {
				return true
			}
			time.Sleep(time.Duration(c.random.IntN(2000)) * time.Millisecond)
		}
		return false
	}
	decide := func(what string, do func(context.Context, *saga.Orchestrator) (saga.Outcome, error)) {
		for range 1 + c.random.IntN(6) {
			_, done := c.ask(gid, what, func(ctx context.Context, orch *saga.Orchestrator) (answer, bool) {
				o, err := do(ctx, orch)
				a := outcome(o, err)
				if errors.Is(err, saga.ErrConfirmed) {
					a.confirmed = true
				}
				return a, a.confirmed || a.cancelled
			})
			if done {
				return
			}
			time.Sleep(time.Duration(c.random.IntN(2000)) * time.Millisecond)
		}
	}
	ok := insist("Begin", func(ctx context.Context, orch *saga.Orchestrator) error {
		return orch.Begin(ctx, saga.Opening{GID: gid, Pattern: "tcc"})
	})
	for i, step := range steps {
		ok = ok && insist("Try", func(ctx context.Context, orch *saga.Orchestrator) error {
			return orch.Try(ctx, gid, saga.BranchID(i+1), step)
		})
	}
	n := c.random.IntN(10)
	c.world.mu.Lock()
	c.world.partial[gid], c.world.abandoned[gid] = !ok, n == 0
	c.world.mu.Unlock()
	switch {
	case n == 0:
		return // the deadline decides
	case n == 1: // somebody confirms at the same time as somebody cancels
		var both sync.WaitGroup
		other := caller{world: c.world, random: rand.New(rand.NewPCG(c.world.seed, c.random.Uint64())), name: c.name + " again"}
		both.Go(func() {
			other.ask(gid, "Cancel", func(ctx context.Context, orch *saga.Orchestrator) (answer, bool) {
				o, err := orch.Cancel(ctx, gid, "changed my mind")
				a := outcome(o, err)
				a.confirmed = errors.Is(err, saga.ErrConfirmed)
				return a, true
			})
		})
		decide("Confirm", func(ctx context.Context, orch *saga.Orchestrator) (saga.Outcome, error) {
			return orch.Confirm(ctx, gid, saga.Options{})
		})
		both.Wait()
	case ok || n == 2: // n == 2 confirms what was not tried, which has to be refused
		decide("Confirm", func(ctx context.Context, orch *saga.Orchestrator) (saga.Outcome, error) {
			return orch.Confirm(ctx, gid, saga.Options{})
		})
	default:
		decide("Cancel", func(ctx context.Context, orch *saga.Orchestrator) (saga.Outcome, error) {
			return orch.Cancel(ctx, gid, "changed my mind")
		})
	}
}
