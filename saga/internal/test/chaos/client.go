package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// The things that are ordered. One article runs out.
const (
	articles     = 8
	accounts     = 8
	plenty       = 1 << 30 // of each article, and on each account
	scarce       = "scarce"
	scarcePieces = 50
)

func article(n int) string { return fmt.Sprintf("article-%d", n) }
func account(n int) string { return fmt.Sprintf("account-%d", n) }
func hall(n int) string    { return fmt.Sprintf("hall-%d", n) }
func show(n int) string    { return fmt.Sprintf("show-%d", n) }

// client submits one order after the other, and asks about each until it knows the
// outcome.
type client struct {
	name      string
	seed      uint64
	rng       *rand.Rand // of the current order
	workers   []*worker
	histories *histories
	ordering  *atomic.Bool // false once no new order is wanted
	hostOnly  bool         // all orders have branches at the host, and only some have another one
}

func (c *client) run(ctx context.Context) {
	for n := 1; c.ordering.Load() && ctx.Err() == nil; n++ {
		// Each order has a random source of its own, so that it does not depend on
		// how often the client asked about the one before.
		c.rng = rand.New(rand.NewPCG(c.seed, uint64(n)))
		order, refused := c.draw(fmt.Sprintf("%s-%d", c.name, n))
		if !order.Local && c.rng.IntN(5) == 0 {
			c.open(ctx, order, refused)
		} else {
			c.execute(ctx, order, refused)
		}
	}
}

// draw draws an order. Some ask for more than there is; then refused is the kind of
// the branch that is always refused.
func (c *client) draw(gid string) (o Order, refused string) {
	o = Order{GID: gid, ReturnDecided: c.rng.IntN(3) == 0}
	branches := 1 + c.rng.IntN(15)
	if branches&1 != 0 {
		o.Cents = 1 + c.rng.Int64N(maxCents)
	}
	if branches&2 != 0 {
		o.Account, o.Points = account(c.rng.IntN(accounts)), 1+c.rng.Int64N(100)
	}
	if branches&4 != 0 {
		o.SKU, o.Pieces = article(c.rng.IntN(articles)), 1+c.rng.Int64N(3)
		if c.rng.IntN(10) == 0 {
			o.SKU = scarce
		}
	}
	o.Notify = branches&8 != 0
	o.XA, o.Nested = c.rng.IntN(8) == 0, c.rng.IntN(8) == 0
	if c.hostOnly || c.rng.IntN(3) == 0 {
		o.Hall, o.Seats = hall(c.rng.IntN(accounts)), 1+c.rng.Int64N(4)
	}
	if c.hostOnly || c.rng.IntN(3) == 0 {
		o.Show, o.Tickets = show(c.rng.IntN(accounts)), 1+c.rng.Int64N(4)
	}
	if c.hostOnly {
		o.Cents, o.Account, o.Points, o.Notify, o.XA, o.Nested = 0, "", 0, false, false, false
	} else if c.rng.IntN(2) == 0 {
		o.Rewards, o.Decides, o.Receipt = c.rng.IntN(3), c.rng.IntN(4) == 0, c.rng.IntN(3) == 0
	}
	if !o.Decides && c.rng.IntN(4) == 0 {
		o.TryAttempts = []int{3, -1}[c.rng.IntN(2)]
	}
	if !c.hostOnly && c.rng.IntN(6) == 0 && (o.Pieces > 0 || o.Notify) { // only branches in the database of the engine
		o.Local = true
		o.Cents, o.Account, o.Points, o.XA, o.Nested, o.Rewards, o.Decides, o.Receipt, o.TryAttempts = 0, "", 0, false, false, 0, false, false, 0
		o.Hall, o.Seats, o.Show, o.Tickets = "", 0, "", 0
	}
	if c.rng.IntN(8) != 0 {
		return o, ""
	}
	switch {
	case o.Tickets > 0 && c.rng.IntN(2) == 0:
		o.Tickets = plenty + 1
		return o, TicketsKind
	case o.Seats > 0:
		o.Seats = plenty + 1
		return o, SeatsKind
	case o.Pieces > 0:
		o.SKU, o.Pieces = scarce, scarcePieces+1
		return o, StockKind
	case o.Points > 0:
		o.Points = plenty + 1
		return o, PointsKind
	case o.Cents > 0:
		o.Cents = maxCents + 1
		return o, PaymentKind
	}
	return o, ""
}

// execute submits a plan, to several workers at once sometimes, until it knows the
// outcome. Sometimes it then asks once more.
func (c *client) execute(ctx context.Context, o Order, refused string) {
	h := c.histories.begin(o, refused)
	request := Request{Command: Execute, Order: o}
	for {
		atOnce := 1
		if !o.Local && c.rng.IntN(5) == 0 {
			atOnce = 3
		}
		var calls sync.WaitGroup
		for range atOnce {
			w := c.any()
			calls.Go(func() { h.note(request, w.ask(ctx, request)) })
		}
		calls.Wait()
		if h.done() {
			break
		}
		if h.rolledBack() {
			h.abandon()
			return
		}
		if !c.backOff(ctx) {
			return
		}
	}
	if c.rng.IntN(10) == 0 {
		h.note(request, c.any().ask(ctx, request))
	}
}

// open tries the branches of an order one by one, each at any worker. Then it asks
// to confirm it, to cancel it, or both at once, or it abandons it.
func (c *client) open(ctx context.Context, o Order, refused string) {
	o.Timeout, o.Rewards, o.Decides, o.Receipt, o.TryAttempts = 4*time.Second, 0, false, false, 0
	end := c.rng.IntN(10)
	h := c.histories.begin(o, refused)
	tried := true
	for branches := 1; branches <= len(o.kinds()) && tried; branches++ {
		tried = c.try(ctx, h, o, branches)
	}
	confirm, cancel := Request{Command: Confirm, Order: o}, Request{Command: Cancel, Order: o}
	switch {
	case end == 0:
		h.abandon()
	case end == 1 && tried:
		c.decide(ctx, h, confirm, cancel)
	case end <= 3 || !tried:
		c.decide(ctx, h, cancel)
	default:
		c.decide(ctx, h, confirm)
	}
}

// try asks until there is an answer.
func (c *client) try(ctx context.Context, h *history, o Order, branches int) bool {
	request := Request{Command: Try, Order: o, Branches: branches}
	for {
		answer := c.any().ask(ctx, request)
		h.note(request, answer)
		if answer.Result != Unknown {
			return answer.Result == Tried
		}
		if !c.backOff(ctx) {
			return false
		}
	}
}

// decide sends all requests at once, until the client knows the outcome, or that
// there is no such transaction.
func (c *client) decide(ctx context.Context, h *history, requests ...Request) {
	for {
		var notFound, notTried atomic.Bool
		var calls sync.WaitGroup
		for _, request := range requests {
			w := c.any()
			calls.Go(func() {
				answer := w.ask(ctx, request)
				h.note(request, answer)
				switch answer.Result {
				case NotFound:
					notFound.Store(true)
				case NotTried:
					notTried.Store(true)
				}
			})
		}
		calls.Wait()
		switch {
		case h.done():
			return
		case notFound.Load():
			h.abandon()
			return
		case notTried.Load():
			// A Confirm was refused because a Try has failed.
			requests = []Request{{Command: Cancel, Order: h.order}}
		}
		if !c.backOff(ctx) {
			return
		}
	}
}

// any draws a worker.
func (c *client) any() *worker { return c.workers[c.rng.IntN(len(c.workers))] }

func (c *client) backOff(ctx context.Context) bool {
	return wait(ctx, 10*time.Millisecond+time.Duration(c.rng.Int64N(int64(40*time.Millisecond))))
}
