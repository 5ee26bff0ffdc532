package simulation

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tccsaga/tccsaga/saga"
)

// transactions is the workload of callers of n transactions, at the same time. Each
// caller asks until it knows the outcome, or until it gives up.
func transactions(n int) func(w *world) { return func(w *world) { w.transactions(n) } }

func (w *world) transactions(n int) {
	w.callers(n, func(i uint64) *request { return w.ask(fmt.Sprintf("t%d", i), w.steps(i)) })
}

// callers runs the callers of n transactions, which ask draws.
func (w *world) callers(n int, ask func(i uint64) *request) {
	var all sync.WaitGroup
	for i := range n {
		asked := ask(uint64(i))
		start := func(copied uint64, run func(*caller)) {
			c := &caller{world: w, gid: asked.gid, asked: asked, random: rand.New(rand.NewPCG(w.seed, 1000*(copied+1)+uint64(i))), name: fmt.Sprint("caller ", i, ".", copied)}
			all.Go(func() {
				time.Sleep(time.Duration(c.random.IntN(6000)) * time.Millisecond)
				run(c)
			})
		}
		switch i % 4 {
		case 0: // two callers execute the same plan, perhaps at two processes
			start(0, (*caller).execute)
			start(1, (*caller).execute)
		case 3:
			if asked.pattern == "tcc" {
				start(0, (*caller).open)
			} else {
				start(0, (*caller).execute)
			}
		default:
			start(0, (*caller).execute)
		}
	}
	all.Wait()
}

// locals runs callers of n plans of resident branches, which the processes execute in local
// transactions of their own.
func (w *world) locals(n int) {
	random := rand.New(rand.NewPCG(w.seed, 40_000))
	var all sync.WaitGroup
	for i := range n {
		var steps []saga.Step
		for range 1 + random.IntN(3) {
			steps = append(steps, saga.Step{Kind: []string{here, send}[random.IntN(2)], Input: input{}})
		}
		if random.IntN(5) == 0 {
			steps[random.IntN(len(steps))].Input = input{Refuse: true}
		}
		asked := w.ask(fmt.Sprintf("l%d", i), steps)
		asked.local = true
		for copied := range uint64(1 + i%2) {
			c := &caller{world: w, gid: asked.gid, asked: asked, random: rand.New(rand.NewPCG(w.seed, 1000*(copied+1)+uint64(i))), name: fmt.Sprint("caller ", i, ".", copied)}
			all.Go(func() {
				time.Sleep(time.Duration(c.random.IntN(6000)) * time.Millisecond)
				c.executeIn()
			})
		}
	}
	all.Wait()
}

// bursts runs callers with plans of the same kinds, who call the same process at
// the same moment, so that their transactions share commits. The seed does not
// decide which of them share one.
func (w *world) bursts(n int) {
	random := rand.New(rand.NewPCG(w.seed, 20_000))
	var all sync.WaitGroup
	for burst := range 2 {
		start, number := time.Duration(1000+4000*burst+random.IntN(3000))*time.Millisecond, random.IntN(processes)
		for i := range n {
			steps := []saga.Step{{Kind: here, Input: input{}}, {Kind: send, Input: input{}}}
			if random.IntN(12) == 0 {
				steps[random.IntN(2)].Input = input{Refuse: true}
			}
			gid := fmt.Sprintf("burst%d.%d", burst, i)
			c := &caller{world: w, gid: gid, asked: w.ask(gid, steps), random: rand.New(rand.NewPCG(w.seed, 30_000+uint64(100*burst+i))),
				name: fmt.Sprint("caller ", burst, ".", i), first: 1 + number}
			all.Go(func() {
				time.Sleep(start)
				c.execute()
			})
		}
	}
	all.Wait()
}

// steps draws a plan.
func (w *world) steps(n uint64) []saga.Step {
	random := rand.New(rand.NewPCG(w.seed, 10_000+n))
	var steps []saga.Step
	for range 1 + random.IntN(3) {
		steps = append(steps, saga.Step{Kind: kinds[random.IntN(len(kinds))], Input: input{}})
	}
	if random.IntN(5) == 0 {
		steps[random.IntN(len(steps))].Input = input{Refuse: true}
	}
	return steps
}
