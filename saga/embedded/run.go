package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// Run does the background work of the engine until ctx ends or [Engine.Stop] is called: it
// renews the lease, cancels transactions at their deadlines, repeats failed calls, takes over
// the transactions of instances that are gone, and removes old transactions. Then it waits for
// calls under way, as Stop does, for at most [Config.StopTimeout]. It returns an error if it
// had to interrupt a call. Call it once.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.startRunning(); err != nil {
		return err
	}
	defer close(e.running)

	// The lease is renewed until the last call has ended, and not only until ctx ends.
	working, end := context.WithCancel(e.life.Context())
	var background sync.WaitGroup
	background.Go(func() { e.keepLease(working) })
	background.Go(func() { e.cleaner.Run(working) })
	background.Go(func() { e.paused.Watch(working, e.config.Poll, e.config.Lease, e.stopping) })
	defer background.Wait()
	defer end()

	e.recovery.Poll(e.observe.Attach(ctx))

	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.config.StopTimeout)
	defer cancel()
	return e.drain(draining)
}

func (e *Engine) startRunning() error {
	e.starting.Lock()
	defer e.starting.Unlock()
	if e.running != nil {
		return txn.Wrap("run", "", errors.New("it was called twice"))
	}
	for kind := range e.config.KindLimits {
		if _, err := e.registry.Branch(kind); err != nil {
			return txn.Wrap("run", "", txn.Invalid("Config.KindLimits names the kind %q, which is not registered", kind))
		}
	}
	e.running = make(chan struct{})
	return nil
}

// Stop refuses new calls, waits until ctx ends for calls under way, and ends the lease, so
// that other instances take over the remaining transactions at once. It returns nil if all
// calls have ended. Otherwise it interrupts them, which is as safe as a crash, and returns an
// error. It may be called more than once, and without Run; the context of the first call
// counts.
func (e *Engine) Stop(ctx context.Context) error {
	err := e.drain(ctx)
	e.starting.Lock()
	running := e.running
	e.starting.Unlock()
	if running != nil {
		select {
		case <-running:
		case <-ctx.Done():
		}
	}
	return err
}

// interruptGrace is how long an interrupted branch call may take to return.
const interruptGrace = time.Second

// drain stops the engine once. Later calls wait for the first one.
func (e *Engine) drain(ctx context.Context) error {
	first := false
	e.stopOnce.Do(func() { first = true; close(e.stopping) })
	if first {
		e.drainError = e.drainOnce(ctx)
		close(e.drained)
	}
	<-e.drained
	return e.drainError
}

func (e *Engine) drainOnce(ctx context.Context) error {
	interrupted, idle := e.inFlight.Drain(ctx)
	var err error
	if !idle {
		err = fmt.Errorf("saga: stop: calls under way were interrupted, and other instances take over their transactions: %w", context.Cause(ctx))
		e.life.End()
		returning, cancel := context.WithTimeout(context.WithoutCancel(ctx), interruptGrace)
		e.inFlight.Drain(returning)
		cancel()
	}
	e.life.End()
	e.calls.Close()
	e.shared.Close()
	resigning, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.config.Lease)
	defer cancel()
	if leaseErr := e.lease.Resign(func() error { return e.log.Resign(resigning, e.instance.ID, interrupted) }); leaseErr != nil {
		e.config.Logger.Warn("saga: ending the lease failed; it ends by itself", slog.Any("error", leaseErr))
	}
	e.log.Close()
	return err
}

// deleteAfter is how long the rows of instances without a lease stay, for operators who read
// the table.
const deleteAfter = time.Hour

// keepLease renews the lease until ctx ends.
func (e *Engine) keepLease(ctx context.Context) {
	failing := false
	renewals := 0
	e.lease.Keep(ctx, func(err error) {
		renewals++
		switch {
		case err != nil:
			e.warn.Warn(ctx, "saga: heartbeat failed; without one, other instances take over", err)
			failing = true
		case failing:
			e.config.Logger.Info("saga: heartbeats succeed again")
			failing = false
		case renewals%100 == 0:
			e.deleteExpired(ctx)
		}
	})
}

func (e *Engine) deleteExpired(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, e.config.Lease/3)
	defer cancel()
	if err := e.log.DeleteExpired(ctx, deleteAfter); err != nil {
		e.config.Logger.Warn("saga: removing expired instances failed", slog.Any("error", err))
	}
}
