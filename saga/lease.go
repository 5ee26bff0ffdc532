package saga

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// lease is what this process knows of its lease. The database's clock decides
// when it ends there; here it counts from before the heartbeat was sent, on the
// monotonic clock, and so ends no later.
type lease struct {
	length time.Duration
	beat   func(context.Context) error

	mu       sync.Mutex
	until    time.Time
	resigned bool
	renewed  chan struct{} // closed and replaced at each renewal
	attended bool          // Run is renewing it
}

func newLease(length time.Duration, beat func(context.Context) error) *lease {
	return &lease{length: length, beat: beat, renewed: make(chan struct{})}
}

func (l *lease) renew(ctx context.Context) error {
	// Shorter than the lease, so that one connection that says nothing any
	// more does not forfeit it.
	ctx, cancel := context.WithTimeout(ctx, l.length/2)
	defer cancel()
	sent := time.Now()
	if err := l.beat(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = sent.Add(l.length)
	close(l.renewed)
	l.renewed = make(chan struct{})
	return nil
}

// leaseWait is how long a caller waits for a lease at least, and for longer ones as
// long as they are.
const leaseWait = 5 * time.Second

// wait returns when the lease holds. If it does not, and Run is renewing it,
// it waits for that: for leaseWait or the length of a lease, until ctx ends, or until stopping is
// closed.
func (l *lease) wait(ctx context.Context, stopping <-chan struct{}) error {
	if l.holds() {
		return nil
	}
	timer := time.NewTimer(max(l.length, leaseWait))
	defer timer.Stop()
	for {
		l.mu.Lock()
		holds, attended, renewed := time.Now().Before(l.until) && !l.resigned, l.attended && !l.resigned, l.renewed
		l.mu.Unlock()
		if holds {
			return nil
		}
		if !attended {
			return ErrNoLease
		}
		select {
		case <-renewed:
		case <-stopping:
			return ErrStopped
		case <-ctx.Done():
			return ErrNoLease
		case <-timer.C:
			if l.holds() { // renewed at the same moment
				return nil
			}
			return ErrNoLease
		}
	}
}

func (l *lease) holds() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.until) && !l.resigned
}

// resign ends the lease here and there, once.
func (l *lease) resign(there func() error) error {
	l.mu.Lock()
	before := l.resigned
	l.resigned = true
	l.mu.Unlock()
	if before {
		return nil
	}
	return there()
}

func (l *lease) attend(attended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attended = attended
}

func (l *lease) isResigned() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.resigned
}

// deleteAfter is how long the rows of instances without a lease stay, for people
// who look at the table.
const deleteAfter = time.Hour

// beat renews the lease until ctx ends.
func (o *Orchestrator) beat(ctx context.Context) {
	o.lease.attend(true)
	defer o.lease.attend(false)
	ticker := time.NewTicker(o.config.Lease / 3)
	defer ticker.Stop()
	failing := false
	for beats := 1; ; beats++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if o.lease.isResigned() {
			return
		}
		if err := o.lease.renew(ctx); err != nil {
			o.warn(ctx, "saga: heartbeat failed; without one, other instances take over", err)
			failing = true
		} else if failing {
			o.config.Logger.Info("saga: heartbeats succeed again")
			failing = false
		} else if beats%100 == 0 {
			deleting, cancel := context.WithTimeout(ctx, o.config.Lease/3)
			err := o.log.DeleteExpired(deleting, deleteAfter)
			cancel()
			if err != nil {
				o.config.Logger.Warn("saga: removing instances that are gone", slog.Any("error", err))
			}
		}
	}
}
