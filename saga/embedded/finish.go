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

// finisher drives transactions that a call has decided.
type finisher struct {
	life     *lifetime.Lifetime
	inFlight *inflight.Registry
	driver   *drive.Driver
}

// finish drives a decided transaction once, in the background as soon as the
// caller does not want to wait, and releases its entry.
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
		ctx, cancel := f.life.Detach(ctx)
		defer cancel()
		driven <- f.driver.Drive(ctx, t, entry)
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
