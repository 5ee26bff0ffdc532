package embedded

import (
	"context"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/drive"
	"github.com/tccsaga/tccsaga/saga/internal/inflight"
	"github.com/tccsaga/tccsaga/saga/internal/lifetime"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// finisher drives the transactions that users' calls have decided.
type finisher struct {
	life     *lifetime.Lifetime
	inFlight *inflight.Registry
	driver   *drive.Driver
}

// finish drives a decided transaction for one round and releases its entry. It returns
// before the end of the round if returnDecided is set, ctx ends, or every branch has ended and
// only the end is left to be written; the round then continues in the background.
func (f *finisher) finish(ctx context.Context, t *txn.Txn, entry *inflight.Entry, outcome saga.Outcome, returnDecided bool) saga.Outcome {
	if t.State.Finished() {
		f.inFlight.Release(entry)
		return outcome
	}
	if t.Decided.IsZero() {
		t.Decided = time.Now()
	}
	driven := make(chan saga.State, 2)
	go func() {
		driving, cancel := f.life.Detach(ctx)
		defer cancel()
		driven <- f.driver.DriveFor(driving, t, entry, func(state saga.State) { driven <- state })
	}()
	if returnDecided {
		return outcome
	}
	select {
	case outcome.State = <-driven:
	case <-ctx.Done():
	}
	return outcome
}
