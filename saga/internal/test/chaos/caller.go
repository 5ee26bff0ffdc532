package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// What there is to be ordered. One article runs out.
const (
	articles = 8
	accounts = 8
	plenty   = 1 << 30 // of each article, and on each account
	scarce   = "scarce"
	scarceAt = 50
)

func article(n int) string { return fmt.Sprintf("article-%d", n) }
func account(n int) string { return fmt.Sprintf("account-%d", n) }

// caller submits one order after the other, and asks again until it knows what
// became of it.
type caller struct {
	name    string
	seed    uint64
	rng     *rand.Rand // of the order under way
	workers []*worker
	told    *told
	calling *atomic.Bool // false once no new order is wanted
}

func (c *caller) run(ctx context.Context) {
	for n := 1; c.calling.Load() && ctx.Err() == nil; n++ {
		// Each order draws from a source of its own, so that what is ordered does
		// not depend on how often the one before had to be asked for.
		c.rng = rand.New(rand.NewPCG(c.seed, uint64(n)))
		order, hopeless := c.draw(fmt.Sprintf("%s-%d", c.name, n))
		if c.rng.IntN(5) == 0 {
			c.open(ctx, order, hopeless)
		} else {
			c.execute(ctx, order, hopeless)
		}
	}
}

// draw makes up an order. One that is hopeless asks for too much.
func (c *caller) draw(gid string) (o Order, hopeless bool) {
	o = Order{GID: gid, Decided: c.rng.IntN(3) == 0}
	parts := 1 + c.rng.IntN(15)
	if parts&1 != 0 {
		o.Cents = 1 + c.rng.Int64N(maxCents)
	}
	if parts&2 != 0 {
		o.Account, o.Points = account(c.rng.IntN(accounts)), 1+c.rng.Int64N(100)
	}
	if parts&4 != 0 {
		o.SKU, o.Pieces = article(c.rng.IntN(articles)), 1+c.rng.Int64N(3)
		if c.rng.IntN(10) == 0 {
			o.SKU = scarce
		}
	}
	o.Notify = parts&8 != 0
	if c.rng.IntN(8) != 0 {
		return o, false
	}
	switch {
	case o.Pieces > 0:
		o.SKU, o.Pieces = scarce, scarceAt+1
	case o.Points > 0:
		o.Points = plenty + 1
	case o.Cents > 0:
		o.Cents = maxCents + 1
	default:
		return o, false
	}
	return o, true
}

// execute submits a plan, some from several workers at once, until the answer
// is known; some are asked for once more after that.
func (c *caller) execute(ctx context.Context, o Order, hopeless bool) {
	s := c.told.begin(o, hopeless, "executed")
	request := Request{Act: Execute, Order: o}
	for {
		atOnce := 1
		if c.rng.IntN(5) == 0 {
			atOnce = 3
		}
		var calls sync.WaitGroup
		for range atOnce {
			w := c.any()
			calls.Go(func() { s.note(request, w.ask(ctx, request)) })
		}
		calls.Wait()
		if s.known() {
			break
		}
		if !c.breathe(ctx) {
			return
		}
	}
	if c.rng.IntN(10) == 0 {
		s.note(request, c.any().ask(ctx, request))
	}
}

// open tries the parts of an order one by one, each perhaps at another worker,
// and then confirms it, cancels it, does both at once, or leaves it alone.
func (c *caller) open(ctx context.Context, o Order, hopeless bool) {
	o.Timeout = 4 * time.Second
	end := c.rng.IntN(10)
	s := c.told.begin(o, hopeless, "opened")
	tried := true
	for parts := 1; parts <= o.parts() && tried; parts++ {
		tried = c.try(ctx, s, o, parts)
	}
	confirm, cancel := Request{Act: Confirm, Order: o}, Request{Act: Cancel, Order: o}
	switch {
	case end == 0:
		s.leave()
	case end == 1 && tried:
		c.insist(ctx, s, confirm, cancel)
	case end <= 3 || !tried:
		c.insist(ctx, s, cancel)
	default:
		c.insist(ctx, s, confirm)
	}
}

// try asks until there is an answer.
func (c *caller) try(ctx context.Context, s *story, o Order, parts int) bool {
	request := Request{Act: Try, Order: o, Parts: parts}
	for {
		answer := c.any().ask(ctx, request)
		s.note(request, answer)
		if answer.Told != Unknown {
			return answer.Told == Tried
		}
		if !c.breathe(ctx) {
			return false
		}
	}
}

// insist asks for all of the requests at once until it is known how the
// transaction is decided, or that there is none.
func (c *caller) insist(ctx context.Context, s *story, requests ...Request) {
	for {
		var missing, failed atomic.Bool
		var calls sync.WaitGroup
		for _, request := range requests {
			w := c.any()
			calls.Go(func() {
				answer := w.ask(ctx, request)
				s.note(request, answer)
				switch answer.Told {
				case Missing:
					missing.Store(true)
				case Failed:
					failed.Store(true)
				}
			})
		}
		calls.Wait()
		switch {
		case s.known():
			return
		case missing.Load():
			s.leave()
			return
		case failed.Load():
			// Confirm says that a Try is missing: an answer was lost on the way.
			requests = []Request{{Act: Cancel, Order: s.order}}
		}
		if !c.breathe(ctx) {
			return
		}
	}
}

func (c *caller) any() *worker { return c.workers[c.rng.IntN(len(c.workers))] }

func (c *caller) breathe(ctx context.Context) bool {
	return wait(ctx, 10*time.Millisecond+time.Duration(c.rng.Int64N(int64(40*time.Millisecond))))
}

// parts is how many branches the order has.
func (o Order) parts() (n int) {
	for _, has := range []bool{o.Cents > 0, o.Points > 0, o.Pieces > 0, o.Notify} {
		if has {
			n++
		}
	}
	return n
}
