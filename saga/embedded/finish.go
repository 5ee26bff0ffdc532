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
// before the end of the round if returnDecided is set or ctx ends; the round then continues
// in the background.
func (f *finisher) finish(ctx context.Context, t *txn.Txn, entry *inflight.Entry, outcome saga.Outcome, returnDecided bool) saga.Outcome {
	if t.State.Finished() {
		f.inFlight.Release(entry)
		return outcome
	}
	if t.Decided.IsZero() {
		t.Decided = time.Now()
	}
	driven := make(chan saga.State, 1)
	go func() {
		driving, cancel := f.life.Detach(ctx)
		defer cancel()
		driven <- f.driver.Drive(driving, t, entry)
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
