package saga

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/lease"
)

// deleteAfter is how long the rows of instances without a lease stay, for people
// who look at the table.
const deleteAfter = time.Hour

// keepLease renews the lease until ctx ends.
func (o *Orchestrator) keepLease(ctx context.Context) {
	failing := false
	renewals := 0
	o.lease.Keep(ctx, func(err error) {
		renewals++
		switch {
		case err != nil:
			o.warn(ctx, "saga: heartbeat failed; without one, other instances take over", err)
			failing = true
		case failing:
			o.config.Logger.Info("saga: heartbeats succeed again")
			failing = false
		case renewals%100 == 0:
			o.deleteExpired(ctx)
		}
	})
}

func (o *Orchestrator) deleteExpired(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, o.config.Lease/3)
	defer cancel()
	if err := o.log.DeleteExpired(ctx, deleteAfter); err != nil {
		o.config.Logger.Warn("saga: removing instances that are gone", slog.Any("error", err))
	}
}

// awaitLease waits until the lease is held.
func (o *Orchestrator) awaitLease(ctx context.Context) error {
	switch err := o.lease.Wait(ctx, o.stopping); {
	case errors.Is(err, lease.ErrStopping):
		return ErrStopped
	case err != nil:
		return ErrNoLease
	}
	return nil
}
