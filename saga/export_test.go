package saga

import (
	"context"
	"fmt"
	"time"
)

// GatherDepartures lets executions of plans like p wait until n of them are
// there, and then go in one batch, also after a stall, as a busy machine has them.
func (o *Orchestrator) GatherDepartures(p Plan, n int) {
	steps := o.stepsOf(p)
	for _, s := range steps {
		s.branch.pace.restart()
	}
	key, _ := o.companyOf(steps)
	gather(&o.departures, key, n)
}

// GatherArrivals does it with the last commits of plans like p.
func (o *Orchestrator) GatherArrivals(p Plan, n int) {
	rest, _ := split(o.stepsOf(p), func(s *step) bool { return !s.branch.confirmsInside() })
	key, _ := o.companyOf(rest)
	gather(&o.arrivals, fmt.Sprint(1, " ", key), n)
}

// GatherDeliveries does it with the Outside parts of Confirms of a kind.
func (o *Orchestrator) GatherDeliveries(kind string, n int) {
	gather(&o.deliveries, kind+" confirm", n)
}

// CleanGIDs removes what is old of some transactions, as cleaning does.
func (o *Orchestrator) CleanGIDs(ctx context.Context, gids ...string) error {
	return o.remove(ctx, gids)
}

func (p *pace) restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = time.Time{}
}

// Shares reports whether executions of plans like p share commits now.
func (o *Orchestrator) Shares(p Plan) bool {
	_, company := o.companyOf(o.stepsOf(p))
	return company
}

func (o *Orchestrator) stepsOf(p Plan) []*step {
	t, err := o.prepare(p)
	if err != nil {
		panic(err)
	}
	return t.steps
}

func gather[T any](g *groups[T], key string, n int) {
	in := &group[T]{workers: 1000} // nobody is hired
	tick := time.NewTicker(time.Millisecond)
	for !g.put(key, in) { // the last worker is still about
		<-tick.C
	}
	go func() {
		defer tick.Stop()
		for range tick.C {
			g.mu.Lock()
			there := len(in.waiting) >= n
			if there {
				in.workers = 1
			}
			g.mu.Unlock()
			if there {
				g.work(key, in)
				return
			}
		}
	}()
}

func (g *groups[T]) put(key string, in *group[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.byKey[key] != nil {
		return false
	}
	if g.byKey == nil {
		g.byKey = make(map[string]*group[T])
	}
	g.byKey[key] = in
	return true
}

// SharesAtAll reports whether executions of plans like p can share their first
// commit.
func (o *Orchestrator) SharesAtAll(p Plan) bool {
	for _, s := range o.stepsOf(p) {
		if !s.branch.tryFused() {
			return false
		}
	}
	return o.Shares(p)
}

// WaitingDepartures returns how many executions of plans like p wait for a batch.
func (o *Orchestrator) WaitingDepartures(p Plan) int {
	key, _ := o.companyOf(o.stepsOf(p))
	o.departures.mu.Lock()
	defer o.departures.mu.Unlock()
	if in := o.departures.byKey[key]; in != nil {
		return len(in.waiting)
	}
	return 0
}
