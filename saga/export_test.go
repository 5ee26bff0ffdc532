package saga

import (
	"context"
	"fmt"
)

// GatherDepartures lets executions of plans like p wait until n of them are
// there, and then go in one batch, also after a stall, as a busy machine has them.
func (o *Orchestrator) GatherDecisions(p Plan, n int) {
	steps := o.stepsOf(p)
	for _, s := range steps {
		s.branch.backoff.End()
	}
	key, _ := o.batchKey(steps)
	o.decisions.Gather(key, n)
}

// GatherArrivals does it with the last commits of plans like p.
func (o *Orchestrator) GatherFinishes(p Plan, n int) {
	rest, _ := split(o.stepsOf(p), func(s *step) bool { return !s.branch.confirmsInside() })
	key, _ := o.batchKey(rest)
	o.finishes.Gather(fmt.Sprint(1, " ", key), n)
}

// GatherDeliveries does it with the Outside parts of Confirms of a kind.
func (o *Orchestrator) GatherEffects(kind string, n int) {
	o.effects.Gather(kind+" confirm", n)
}

// CleanGIDs removes what is old of some transactions, as cleaning does.
func (o *Orchestrator) CleanGIDs(ctx context.Context, gids ...string) error {
	return o.remove(ctx, gids)
}

// Shares reports whether executions of plans like p share commits now.
func (o *Orchestrator) Shares(p Plan) bool {
	_, shared := o.batchKey(o.stepsOf(p))
	return shared
}

func (o *Orchestrator) stepsOf(p Plan) []*step {
	t, err := o.prepare(p)
	if err != nil {
		panic(err)
	}
	return t.steps
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
func (o *Orchestrator) WaitingDecisions(p Plan) int {
	key, _ := o.batchKey(o.stepsOf(p))
	return o.decisions.Waiting(key)
}
