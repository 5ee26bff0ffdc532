package simulation

import (
	"context"
	"database/sql/driver"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"
)

// call is a call of a process that waits at the gate.
type call struct {
	process  *process
	database *database   // nil for a branch without one
	what     string      // the call in words
	writes   bool        // needs the database's write lock to be free
	commits  bool        // it is a COMMIT
	travels  bool        // it is a request to the host
	again    bool        // it is a request that arrives late, without a fault
	enters   bool        // a caller calls the process; see process.admits
	over     atomic.Bool // the caller that enters has its answer

	key     string     // the call in the trace, and in the order of the choices
	after   time.Time  // not before: it is slow; see gate.justAfter
	dice    int        // drawn with the fault, for its details
	proceed chan fault // capacity 1
}

// gate is where all calls wait, and the scheduler that lets them go.
type gate struct {
	random     *rand.Rand
	plan       plan
	beforeCall func() // called before each new call is let go; nil for nothing
	trace      []string
	reports    []string // since the last choice
	began      time.Time
	calls      int
	arrived    chan struct{} // capacity 1

	mu      sync.Mutex
	waiting []*call
}

func newGate(seed uint64) *gate {
	return &gate{random: rand.New(rand.NewPCG(seed, 1)), began: time.Now(), arrived: make(chan struct{}, 1)}
}

// errorID is the random id of an error, in its text.
var errorID = regexp.MustCompile(`error id [0-9a-f]{12}`)

var instanceID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(#\d+)?`)

// pass waits until the scheduler lets the call go, and returns its fault. If ctx
// ends before, the call is not made. The calls of a dead process fail at once: the
// scheduler does not see them, because nothing may depend on their number and order.
func (g *gate) pass(ctx context.Context, c *call) (f fault, err error) {
	if c.process.dead() {
		return none, driver.ErrBadConn
	}
	c.proceed = make(chan fault, 1)
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
	case f = <-c.proceed:
		return f, nil
	case <-c.process.gone:
		err = driver.ErrBadConn
	case <-ctx.Done():
		err = ctx.Err()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = slices.DeleteFunc(g.waiting, func(other *call) bool { return other == c })
	select {
	case f = <-c.proceed: // let go at the same moment
		return f, nil
	default:
		return none, err
	}
}

// tick is how often the scheduler looks when no call comes.
const tick = 50 * time.Millisecond

// run lets calls go, one at a time, until done returns true.
func (g *gate) run(done func() bool) {
	for {
		synctest.Wait() // until all goroutines wait
		if done() {
			return
		}
		g.flush()
		if same := g.pick(); same != nil {
			g.release(same)
			continue
		}
		timer := time.NewTimer(time.Until(g.justAfter(time.Now())))
		select {
		case <-g.arrived:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// justAfter returns the first moment later than t that is one nanosecond after a whole
// tick since the beginning. Slow calls go at such moments, whatever woke the scheduler
// before. It is not the whole tick, because timers that end at the same time fire in any
// order.
func (g *gate) justAfter(t time.Time) time.Time {
	ticks := (t.Sub(g.began)-time.Nanosecond)/tick + 1
	return g.began.Add(ticks*tick + time.Nanosecond)
}

// pick chooses among the calls that can be made now. Reads with the same key are
// one choice: the seed does not decide which goroutine came first.
func (g *gate) pick() []*call {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	var ready []*call
	for _, c := range g.waiting {
		if !now.Before(c.after) && !now.Before(c.process.pausedUntil) && (!c.writes || c.database.free()) && (!c.enters || c.process.admits()) {
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

// release lets calls with the same key go, with the same fault.
func (g *gate) release(same []*call) {
	c := same[0]
	f := none
	if c.enters {
		c.process.entering = c
	} else if c.after.IsZero() && !c.again {
		g.calls++
		if g.beforeCall != nil {
			g.beforeCall()
		}
		f = g.plan(g.calls, c)
	}
	g.note("%s %s", c.key, f)
	switch f {
	case slow:
		// Some are slower than any timeout.
		delay(same, g.justAfter(time.Now().Add(time.Duration(1+g.random.IntN(8000))*time.Millisecond)))
		return
	case pause:
		c.process.pausedUntil = g.justAfter(time.Now().Add(lease + time.Duration(g.random.IntN(5000))*time.Millisecond))
		delay(same, c.process.pausedUntil)
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
		c.proceed <- f
	}
}

func delay(calls []*call, until time.Time) {
	for _, c := range calls {
		c.after = until
	}
}

// note adds a line to the trace. Only the scheduler calls it.
func (g *gate) note(format string, arguments ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.trace = append(g.trace, g.line(format, arguments...))
}

// report is note for the other goroutines, which report in any order when they run
// at the same moment. The trace has their lines sorted.
func (g *gate) report(format string, arguments ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reports = append(g.reports, errorID.ReplaceAllString(g.line(format, arguments...), "error id"))
}

// flush moves the reports into the trace, while all other goroutines wait.
func (g *gate) flush() {
	g.mu.Lock()
	defer g.mu.Unlock()
	slices.Sort(g.reports)
	g.trace = append(g.trace, g.reports...)
	g.reports = nil
}

func (g *gate) line(format string, arguments ...any) string {
	return fmt.Sprintf("%8.3fs ", time.Since(g.began).Seconds()) + fmt.Sprintf(format, arguments...)
}
