package embedded

import (
	"context"
	"errors"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/inflight"
	"github.com/tccsaga/tccsaga/saga/internal/lease"
	"github.com/tccsaga/tccsaga/saga/internal/lifetime"
)

// admission admits the calls of users.
type admission struct {
	inFlight *inflight.Registry
	lease    *lease.Lease
	life     *lifetime.Lifetime
	stopping <-chan struct{} // closed when the engine begins to stop
}

// enter admits a call, and with leased only when the instance holds its lease. The context that it returns also
// ends when Stop interrupts the remaining calls. The caller has to call leave at the end of
// the call.
func (a *admission) enter(ctx context.Context, leased bool) (admitted context.Context, leave func(), err error) {
	if !a.inFlight.Enter() {
		return nil, nil, saga.ErrStopped
	}
	if leased {
		if err := a.awaitLease(ctx); err != nil {
			a.inFlight.Leave()
			return nil, nil, err
		}
	}
	admitted, cancel := context.WithCancelCause(ctx)
	unlink := context.AfterFunc(a.life.Context(), func() { cancel(saga.ErrStopped) })
	return admitted, func() { unlink(); cancel(nil); a.inFlight.Leave() }, nil
}

// awaitLease waits until the lease is held.
func (a *admission) awaitLease(ctx context.Context) error {
	switch err := a.lease.Wait(ctx, a.stopping); {
	case errors.Is(err, lease.ErrStopping):
		return saga.ErrStopped
	case err != nil:
		return saga.ErrNoLease
	}
	return nil
}
