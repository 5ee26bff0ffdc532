package simulation

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
)

// processes is how many there are at a time.
const processes = 3

// world is everything in one run.
type world struct {
	seed       uint64
	gate       *gate
	log, other *database
	service    *service
	config     embedded.Config
	left       sync.WaitGroup // goroutines of processes, and calls to them
	hosted     bool           // there is a process that hosts branches; see host_test.go
	network    *process       // stands for requests that are under way, whatever became of their sender
	late       atomic.Int64   // requests that will still arrive

	mu     sync.Mutex
	alive  [processes + 1]*process // nil while it is down; the last one hosts branches
	asked  map[string]*request     // by gid
	ending bool                    // faults have stopped
	broken []string                // calls of branches against the rules
}

// request is what callers asked for with one gid, and what they were told.
type request struct {
	gid       string
	pattern   string
	steps     []saga.Step
	options   saga.Options // for every call of Execute
	local     bool         // a process executes it in a local transaction of its own, with a row in the table own
	partial   bool         // a decision may have been asked for before all branches were tried
	abandoned bool         // no caller asks for a decision
	answers   []answer
}

func newWorld(seed uint64, log, other *database, faults func(w *world) plan) *world {
	w := &world{seed: seed, log: log, other: other, service: &service{done: map[string][]barrier.Op{}},
		asked: map[string]*request{}, gate: newGate(seed)}
	w.network = newProcess(w, networkNumber)
	w.gate.plan = faults(w)
	if seed%3 == 1 {
		w.readFromReplicas()
	}
	w.config = embedded.Config{Lease: lease, Poll: 500 * time.Millisecond, Timeout: 10 * time.Second, OpenTimeout: 20 * time.Second,
		CallTimeout: 3 * time.Second, MinBackoff: 200 * time.Millisecond, MaxBackoff: 5 * time.Second, StopTimeout: time.Second,
		Retention: embedded.Forever, Logger: quiet}
	// Each database has a clock of its own, and the processes have another one.
	log.offset, other.offset = time.Duration(seed%7)*time.Hour, -time.Duration(seed%5)*time.Hour
	return w
}

// readFromReplicas sends reads outside of local transactions to replicas that lag
// behind, until faults stop.
func (w *world) readFromReplicas() {
	w.log.replicated, w.other.replicated = true, true
	w.gate.beforeCall = func() {
		for _, d := range []*database{w.log, w.other} {
			if w.isEnding() {
				d.replicated = false
			} else if w.gate.random.IntN(20) == 0 {
				d.replicate()
			}
		}
	}
}

// supervise starts a process, and starts it again whenever it is dead, until over
// is closed. It leaves the goroutines of the dead one behind.
func (w *world) supervise(number int, over <-chan struct{}) {
	random := rand.New(rand.NewPCG(w.seed, 100+uint64(number)))
	for {
		p := newProcess(w, number)
		w.left.Go(p.live)
		select {
		case <-p.gone:
		case <-over:
			p.die()
			return
		}
		w.set(number, nil)
		select {
		case <-time.After(time.Duration(random.IntN(8000)) * time.Millisecond):
		case <-over:
			return
		}
	}
}

func (w *world) set(number int, p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.alive[number] = p
}

// process returns a process that is up, as its callers see it; nil if it is down.
func (w *world) process(number int) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.alive[number]
}

// ask notes what callers will ask for with a gid.
func (w *world) ask(gid string, steps []saga.Step) *request {
	return w.askFor(gid, &request{steps: steps, pattern: "tcc"})
}

func (w *world) askFor(gid string, r *request) *request {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.gid = gid
	w.asked[gid] = r
	return r
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
