package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
)

// caller calls the processes about one transaction.
type caller struct {
	world  *world
	gid    string
	asked  *request
	random *rand.Rand
	name   string // unique
	at     int    // the number of the process to call, plus 1; 0 is any
	first  int    // the same, and the caller does not pass the gate; see world.bursts
}

// answer is what a call told about the outcome of a transaction.
type answer struct {
	confirmed, cancelled bool // or decided to be; neither: unknown
	err                  error
}

func (a answer) known() bool { return a.confirmed || a.cancelled }

func answerOf(o saga.Outcome, err error) answer {
	return answer{
		confirmed: err == nil && (o.State == saga.Confirming || o.State == saga.Confirmed),
		cancelled: errors.Is(err, saga.ErrCancelled) || err == nil && (o.State == saga.Cancelling || o.State == saga.Cancelled),
		err:       err,
	}
}

// context sometimes ends early.
func (c *caller) context() (context.Context, context.CancelFunc) {
	if c.random.IntN(4) == 0 {
		return context.WithTimeout(context.Background(), time.Duration(1+c.random.IntN(3000))*time.Millisecond)
	}
	return context.WithTimeout(context.Background(), time.Minute)
}

// pause waits for a random time.
func (c *caller) pause(longest int) {
	time.Sleep(time.Duration(c.random.IntN(longest)) * time.Millisecond)
}

// ask calls the engine of a process, and notes the answer. There is none, and false, if the
// process is dead or dies.
func (c *caller) ask(what string, call func(context.Context, *embedded.Engine) answer) (answer, bool) {
	return c.askProcess(what, func(ctx context.Context, p *process) answer { return call(ctx, p.orch) })
}

// askProcess is ask for code in the process that uses the engine.
func (c *caller) askProcess(what string, call func(context.Context, *process) answer) (answer, bool) {
	number := c.random.IntN(processes)
	if n := max(c.first, c.at); n > 0 {
		number = n - 1
	}
	p := c.world.process(number)
	ctx, cancel := c.context()
	defer cancel()
	if p == nil {
		return answer{}, false
	}
	var a answer
	answered := make(chan struct{})
	c.world.left.Go(func() {
		defer close(answered)
		if c.first == 0 {
			leave, err := c.enter(ctx, p, what)
			if err != nil {
				a = answer{err: err}
				return
			}
			defer leave()
		}
		a = call(context.WithValue(jitter.With(ctx, p.draw), callerKey{}, c.name), p)
	})
	select {
	case <-answered:
	case <-p.gone:
	}
	if p.dead() {
		return answer{}, false
	}
	c.world.gate.report("%s of %s at %d: confirmed %t, cancelled %t, %v", what, c.gid, p.number, a.confirmed, a.cancelled, a.err)
	if a.known() {
		c.world.mu.Lock()
		c.asked.answers = append(c.asked.answers, a)
		c.world.mu.Unlock()
	}
	return a, true
}

// enter waits until it is the caller's turn to call the process. The caller has to call
// leave when it has its answer.
func (c *caller) enter(ctx context.Context, p *process, what string) (leave func(), err error) {
	waiting := &call{process: p, what: fmt.Sprintf("%s: %s of %s", c.name, what, c.gid), enters: true}
	if _, err := c.world.gate.pass(ctx, waiting); err != nil {
		return nil, err
	}
	return func() { waiting.over.Store(true) }, nil
}

// execute asks until it knows the outcome, or until it gives up.
func (c *caller) execute() {
	for range 1 + c.random.IntN(8) {
		options := c.asked.options
		options.ReturnDecided = c.random.IntN(4) == 0
		if c.random.IntN(4) == 0 {
			options.Timeout = time.Duration(1+c.random.IntN(4000)) * time.Millisecond
		}
		a, _ := c.ask("Execute", func(ctx context.Context, orch *embedded.Engine) answer {
			return answerOf(orch.Execute(ctx, saga.Plan{GID: c.gid, Pattern: c.asked.pattern, Steps: c.asked.steps, Options: options}))
		})
		if a.known() && c.random.IntN(3) > 0 || a.err != nil && c.random.IntN(8) == 0 {
			return
		}
		c.pause(3000)
	}
}

// executeIn lets a process execute the plan in a local transaction of its own, with a row beside
// it, until it knows the outcome, or until it gives up.
func (c *caller) executeIn() {
	for range 1 + c.random.IntN(8) {
		a, _ := c.askProcess("ExecuteIn", func(ctx context.Context, p *process) answer {
			var outcome saga.Outcome
			err := p.db.WithContext(ctx).Transaction(func(tx *gorm.DB) (err error) {
				// The own row comes first: SQLite gives the write lock to no reader whose
				// snapshot is old.
				if err = tx.Exec("INSERT INTO own (gid) VALUES (?) ON CONFLICT (gid) DO NOTHING", c.gid).Error; err != nil {
					return err
				}
				outcome, err = p.orch.ExecuteIn(ctx, tx, saga.Plan{GID: c.gid, Pattern: "tcc", Steps: c.asked.steps})
				return err
			})
			return answerOf(outcome, err)
		})
		var rejection *saga.Rejection
		if a.known() && c.random.IntN(3) > 0 || errors.As(a.err, &rejection) || a.err != nil && c.random.IntN(8) == 0 {
			return
		}
		c.pause(3000)
	}
}

// open begins a transaction, tries the branches one by one, and asks to confirm it,
// asks to cancel it, or abandons it.
func (c *caller) open() {
	ok := c.insist("Begin", func(ctx context.Context, orch *embedded.Engine) error {
		return orch.Begin(ctx, saga.Opening{GID: c.gid, Pattern: "tcc"})
	})
	for i, step := range c.asked.steps {
		ok = ok && c.insist("Try", func(ctx context.Context, orch *embedded.Engine) error {
			return orch.Try(ctx, c.gid, saga.BranchID(i+1), step)
		})
	}
	n := c.random.IntN(10)
	c.asked.partial, c.asked.abandoned = !ok, n == 0
	switch {
	case c.asked.abandoned:
	case n == 1:
		c.confirmAndCancel()
	case ok || n == 2: // n == 2 asks also after a Try that has failed
		c.decide("Confirm", confirm)
	default:
		c.decide("Cancel", cancel)
	}
}

// insist asks again until there is no error, or until it gives up.
func (c *caller) insist(what string, do func(context.Context, *embedded.Engine) error) bool {
	for range 1 + c.random.IntN(6) {
		a, answered := c.ask(what, func(ctx context.Context, orch *embedded.Engine) answer {
			return answer{err: do(ctx, orch)}
		})
		if answered && a.err == nil {
			return true
		}
		c.pause(2000)
	}
	return false
}

// A decision asks for one.
type decision func(ctx context.Context, orch *embedded.Engine, gid string) (saga.Outcome, error)

func confirm(ctx context.Context, orch *embedded.Engine, gid string) (saga.Outcome, error) {
	return orch.Confirm(ctx, gid, saga.Options{})
}

func cancel(ctx context.Context, orch *embedded.Engine, gid string) (saga.Outcome, error) {
	return orch.Cancel(ctx, gid, "changed my mind")
}

func (c *caller) askOnce(what string, do decision) answer {
	a, _ := c.ask(what, func(ctx context.Context, orch *embedded.Engine) answer {
		o, err := do(ctx, orch, c.gid)
		a := answerOf(o, err)
		a.confirmed = a.confirmed || errors.Is(err, saga.ErrConfirmed)
		return a
	})
	return a
}

// decide asks for a decision until the outcome is known, or until it gives up.
func (c *caller) decide(what string, do decision) {
	for range 1 + c.random.IntN(6) {
		if c.askOnce(what, do).known() {
			return
		}
		c.pause(2000)
	}
}

// confirmAndCancel asks for both decisions at the same time.
func (c *caller) confirmAndCancel() {
	other := &caller{world: c.world, gid: c.gid, asked: c.asked, random: rand.New(rand.NewPCG(c.world.seed, c.random.Uint64())), name: c.name + " again"}
	var both sync.WaitGroup
	both.Go(func() { other.askOnce("Cancel", cancel) })
	c.decide("Confirm", confirm)
	both.Wait()
}
