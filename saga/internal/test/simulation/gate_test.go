package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"
)

// fault is what happens to a call.
type fault int

const (
	none       fault = iota
	failBefore       // an error, and no effect
	failAfter        // the effect, and an error: a lost reply
	dieBefore        // the process is gone before the call
	dieAfter         // the process is gone right after it
	rolledBack       // a deadlock on MySQL: all of the local transaction is gone, and what follows commits by itself
	slow             // the call takes seconds
	pause            // the whole process stands still for longer than its lease
	numOfFaults
)

func (f fault) String() string {
	return [...]string{"", "FAILS BEFORE", "FAILS AFTER", "DIES BEFORE", "DIES AFTER", "ROLLED BACK", "SLOW", "PAUSED"}[f]
}

// call is a call of a process that waits at the gate.
type call struct {
	process  *process
	database *database // nil for a branch without one
	what     string
	writes   bool // needs the database's write lock to be free
	key      string
	after    time.Time // not before: it is slow
	dice     int       // drawn with the fault, for its details
	go_      chan fault
}

// gate is where all calls wait, and the scheduler that lets them go.
type gate struct {
	random  *rand.Rand
	plan    func(n int, c *call) fault // decides about the n-th call
	turn    func()                     // called before each call
	trace   []string
	notes   []string // of callers since the last choice
	began   time.Time
	calls   int
	arrived chan struct{} // capacity 1

	mu      sync.Mutex
	waiting []*call
}

func newGate(seed uint64) *gate {
	return &gate{random: rand.New(rand.NewPCG(seed, 1)), began: time.Now(), arrived: make(chan struct{}, 1)}
}

var instanceID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(#\d+)?`)

// pass waits until the scheduler lets the call go, and says what is to happen to
// it. If ctx ends before, the call is not made.
func (g *gate) pass(ctx context.Context, c *call) (f fault, err error) {
	c.go_ = make(chan fault, 1)
	where := "outside"
	if c.database != nil {
		where = c.database.name
	}
	// Instances have random ids.
	c.key = instanceID.ReplaceAllString(fmt.Sprintf("%d %s %s", c.process.number, where, c.what), "instance")
	g.mu.Lock()
	g.waiting = append(g.waiting, c)
	g.mu.Unlock()
	select {
	case g.arrived <- struct{}{}:
	default:
	}
	select {
	case f = <-c.go_:
		return f, nil
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		g.waiting = slices.DeleteFunc(g.waiting, func(other *call) bool { return other == c })
		select {
		case f = <-c.go_: // let go at the same moment
			return f, nil
		default:
			return none, ctx.Err()
		}
	}
}

// turn is how often the scheduler looks when no call comes.
const turn = 50 * time.Millisecond

// run lets calls go, one at a time, until done says that it is over.
func (g *gate) run(done func() bool) {
	for {
		synctest.Wait() // nothing moves any more
		if done() {
			return
		}
		g.settle()
		if g.dismiss() {
			continue
		}
		if same := g.pick(); same != nil {
			g.release(same)
			continue
		}
		// Just after whole turns since the beginning, whatever woke it before: calls that
		// are slow go at these moments. Just after, because of timers that end at the
		// same time, one may be first or the other.
		timer := time.NewTimer(turn - time.Since(g.began)%turn + time.Nanosecond)
		select {
		case <-g.arrived:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// dismiss lets the calls of processes that are gone fail. It draws nothing:
// in which order they give up does not matter.
func (g *gate) dismiss() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := len(g.waiting)
	g.waiting = slices.DeleteFunc(g.waiting, func(c *call) bool {
		if c.process.dead() {
			c.go_ <- none
		}
		return c.process.dead()
	})
	return len(g.waiting) < before
}

// pick chooses among the calls that can be made now. Reads that cannot be told
// apart are one choice: which goroutine came first is not the seed's to decide.
func (g *gate) pick() []*call {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	var ready []*call
	for _, c := range g.waiting {
		if !now.Before(c.after) && !now.Before(c.process.pausedUntil) && (!c.writes || c.database.free()) {
			ready = append(ready, c)
		}
	}
	if len(ready) == 0 {
		return nil
	}
	slices.SortStableFunc(ready, func(a, b *call) int { return strings.Compare(a.key, b.key) })
	var choices [][]*call
	for _, c := range ready {
		if n := len(choices); n > 0 && !c.writes && choices[n-1][0].key == c.key {
			choices[n-1] = append(choices[n-1], c)
		} else {
			choices = append(choices, []*call{c})
		}
	}
	return choices[g.random.IntN(len(choices))]
}

func (g *gate) release(same []*call) {
	c := same[0]
	f := none
	if c.after.IsZero() {
		g.calls++
		if g.turn != nil {
			g.turn()
		}
		f = g.plan(g.calls, c)
	}
	g.note("%s %s", c.key, f)
	switch f {
	case slow:
		// Some are slower than any timeout.
		after := time.Now().Add(time.Duration(1+g.random.IntN(8000)) * time.Millisecond)
		for _, c := range same {
			c.after = after
		}
		return
	case pause:
		c.process.pausedUntil = time.Now().Add(lease + time.Duration(g.random.IntN(5000))*time.Millisecond)
		for _, c := range same {
			c.after = c.process.pausedUntil
		}
		return
	case dieBefore:
		c.process.die()
	}
	dice := g.random.IntN(12)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = slices.DeleteFunc(g.waiting, func(other *call) bool { return slices.Contains(same, other) })
	for _, c := range same {
		c.dice = dice
		c.go_ <- f
	}
}

// note adds a line to the trace, for the scheduler.
func (g *gate) note(format string, arguments ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.trace = append(g.trace, g.line(format, arguments...))
}

// tell is note for everybody else. Goroutines that move at the same moment tell
// things in any order; the trace has them in one.
func (g *gate) tell(format string, arguments ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.notes = append(g.notes, g.line(format, arguments...))
}

// settle moves what was told into the trace, when nothing moves.
func (g *gate) settle() {
	g.mu.Lock()
	defer g.mu.Unlock()
	slices.Sort(g.notes)
	g.trace = append(g.trace, g.notes...)
	g.notes = nil
}

func (g *gate) line(format string, arguments ...any) string {
	return fmt.Sprintf("%8.3fs ", time.Since(g.began).Seconds()) + fmt.Sprintf(format, arguments...)
}
