package simulation

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// processes is how many there are at a time.
const processes = 3

// world is all that there is in one run.
type world struct {
	seed       uint64
	gate       *gate
	log, other *database
	service    *service
	config     saga.Config
	died       chan *process

	mu        sync.Mutex
	alive     [processes]*process // nil while it is down
	told      map[string][]answer
	plans     map[string][]saga.Step // of each gid that was asked for
	partial   map[string]bool        // gids whose decision was asked for before all branches were tried
	abandoned map[string]bool        // gids that no caller decided
	ending    bool                   // faults have stopped
}

func newWorld(seed uint64, log, other *database, plan func(w *world) func(int, *call) fault) *world {
	w := &world{seed: seed, log: log, other: other, service: &service{done: map[string][]barrier.Op{}},
		died: make(chan *process, 1000), told: map[string][]answer{}, plans: map[string][]saga.Step{},
		partial: map[string]bool{}, abandoned: map[string]bool{}, gate: newGate(seed)}
	w.gate.plan = plan(w)
	if seed%3 == 1 {
		// Reads outside of local transactions go to replicas, which lag behind.
		log.replicated, other.replicated = true, true
		w.gate.turn = func() {
			for _, d := range []*database{log, other} {
				if w.isEnding() {
					d.replicated = false
				} else if w.gate.random.IntN(20) == 0 {
					d.replicate()
				}
			}
		}
	}
	w.config = saga.Config{Lease: lease, Poll: 500 * time.Millisecond, Timeout: 10 * time.Second, OpenTimeout: 20 * time.Second,
		CallTimeout: 3 * time.Second, FirstRetry: 200 * time.Millisecond, MaxRetry: 5 * time.Second, Drain: time.Second,
		Retention: saga.Forever, Logger: quiet}
	// The database's clock is another one than the processes'.
	log.offset, other.offset = time.Duration(seed%7)*time.Hour, -time.Duration(seed%5)*time.Hour
	return w
}

// keep starts a process again whenever it is gone, until the world ends.
func (w *world) keep(number int, over <-chan struct{}) {
	random := rand.New(rand.NewPCG(w.seed, 100+uint64(number)))
	for {
		p := &process{world: w, number: number, starting: true}
		if err := p.start(); err != nil {
			w.gate.tell("%d does not start: %v", number, err)
			p.bury()
		} else {
			w.set(number, p)
			w.gate.tell("%d is up", number)
		}
		ticker := time.NewTicker(100 * time.Millisecond)
		for alive := true; alive; {
			select {
			case <-ticker.C:
				alive = !p.dead()
			case <-over:
				ticker.Stop()
				w.set(number, nil)
				p.bury()
				return
			}
		}
		ticker.Stop()
		w.set(number, nil)
		p.bury()
		time.Sleep(time.Duration(random.IntN(8000)) * time.Millisecond)
	}
}

func (w *world) set(number int, p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.alive[number] = p
}

// process returns a process that is up, as seen from its callers; nil if it is
// down.
func (w *world) process(number int) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.alive[number]
}

func (w *world) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ending = true
}

func (w *world) isEnding() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ending
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
