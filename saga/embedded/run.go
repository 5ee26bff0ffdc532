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

// Run renews the lease, meets deadlines, retries what failed, resumes what
// instances that are gone have left, and removes what is old, until ctx ends or [Engine.Stop] is
// called. It then waits for what is under way, as Stop does, for at most
// [Config.StopTimeout], and returns nil, or an error if it had to interrupt
// something. Call it once.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.startRunning(); err != nil {
		return err
	}
	defer close(e.running)

	// The heart beats until the last work is done, not only until ctx ends.
	beating, quiet := context.WithCancel(e.life.Context())
	var background sync.WaitGroup
	background.Go(func() { e.keepLease(beating) })
	background.Go(func() { e.cleaner.Run(beating) })
	background.Go(func() { e.paused.Watch(beating, e.config.Poll, e.config.Lease, e.stopping) })
	defer background.Wait()
	defer quiet()

	e.recovery.Poll(ctx)

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

// Stop refuses new work, waits for what is under way until ctx ends, and gives
// the lease back, so that other instances resume at once what is left. It
// returns nil if everything came to its end, and otherwise an error after
// interrupting the rest, which is as safe as a crash. It may be called more
// than once, and without Run; the first call's context counts.
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

// grace is what an interrupted branch call gets to notice it.
const grace = time.Second

// drain does what Stop says, once; whoever comes later waits for the first.
func (e *Engine) drain(ctx context.Context) error {
	first := false
	e.stopOnce.Do(func() { first = true; close(e.stopping) })
	if first {
		e.left = e.drainOnce(ctx)
		close(e.drained)
	}
	<-e.drained
	return e.left
}

func (e *Engine) drainOnce(ctx context.Context) error {
	interrupted, idle := e.inFlight.Drain(ctx)
	var err error
	if !idle {
		err = fmt.Errorf("saga: stop: calls under way were interrupted, and others take over what they left: %w", context.Cause(ctx))
		e.life.End()
		returnGrace, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		e.inFlight.Drain(returnGrace)
		cancel()
	}
	e.life.End()
	e.shared.Close()
	resigning, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.config.Lease)
	defer cancel()
	if err := e.lease.Resign(func() error { return e.log.Resign(resigning, e.instance.ID, interrupted) }); err != nil {
		// The lease runs out by itself.
		e.config.Logger.Warn("saga: giving the lease back failed", slog.Any("error", err))
	}
	e.log.Close()
	return err
}

// deleteAfter is how long the rows of instances without a lease stay, for people
// who look at the table.
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
		e.config.Logger.Warn("saga: removing instances that are gone", slog.Any("error", err))
	}
}
