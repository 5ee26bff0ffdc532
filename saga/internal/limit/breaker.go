// Package limit delays calls that would harm others: repeated calls of a service that is
// down, and calls that make others wait for a shared commit.
package limit

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/tccsaga/tccsaga/saga/internal/jitter"
)

// Limits are the limits of a Breaker. All of them are positive.
type Limits struct {
	Rate     float64       // repeated calls per second
	Failures int           // failed transactions in a row that open the circuit
	Cooldown time.Duration // between the calls that an open circuit lets through
}

// Breaker limits the repeated calls of one kind of branch. It is a circuit breaker with
// a rate limit. It is safe for concurrent use.
type Breaker struct {
	kind   string
	limits Limits
	rate   *rate.Limiter
	logger *slog.Logger
	hooks  Hooks

	mu        sync.Mutex
	failed    map[string]struct{} // gids since the last success, at most limits.Failures
	retryAt   time.Time           // while the circuit is open: when it lets the next call through
	delayed   float64             // about how many calls are delayed
	postponed map[string]struct{} // gids that were postponed since the last success, at most maxPostponed
	released  map[string]struct{} // gids to call at once, without a delay
}

// maxPostponed limits the recorded gids of postponed transactions. Other transactions wait
// for the end of their backoff.
const maxPostponed = 200_000

// Hooks are functions that a Breaker calls. Each may be nil.
type Hooks struct {
	Release func(gids []string) // when an open circuit closes, in a new goroutine, with the gids of the postponed transactions
	Changed func(open bool)     // when the circuit has opened or closed
}

// NewBreaker returns a Breaker with a closed circuit.
func NewBreaker(kind string, limits Limits, logger *slog.Logger, hooks Hooks) *Breaker {
	return &Breaker{kind: kind, limits: limits, logger: logger, hooks: hooks,
		rate:   rate.NewLimiter(rate.Limit(limits.Rate), max(1, int(limits.Rate/10))),
		failed: map[string]struct{}{}, postponed: map[string]struct{}{}, released: map[string]struct{}{}}
}

// Delay returns how long a repeated call has to wait, at most about longest; 0 means now.
// If unlimited is set, the rate does not apply, and many calls may be made at once.
func (b *Breaker) Delay(ctx context.Context, longest time.Duration, unlimited bool) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	until := time.Duration(0)
	switch {
	case b.open() && now.Before(b.retryAt):
		until = b.retryAt.Sub(now)
	case b.open():
		b.retryAt = now.Add(b.limits.Cooldown)
		return 0
	case unlimited || b.rate.AllowN(now, 1):
		b.delayed = max(0, b.delayed-1)
		return 0
	}
	b.delayed++
	// The time in which the rate allows all delayed calls.
	spread := time.Duration(max(0.1, b.delayed/b.limits.Rate) * float64(time.Second))
	return min(until+jitter.UpTo(ctx, min(spread, longest)), max(until, longest))
}

func (b *Breaker) open() bool { return len(b.failed) >= b.limits.Failures }

// State is what a Breaker does at a moment.
type State struct {
	Open      bool
	Failed    int       // transactions that failed since the last success
	RetryAt   time.Time // while it is open: when it lets the next call through
	Postponed int       // transactions that wait for their backoff, or until it closes
}

// State returns the state of the breaker.
func (b *Breaker) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := State{Open: b.open(), Failed: len(b.failed), Postponed: len(b.postponed)}
	if s.Open {
		s.RetryAt = b.retryAt
	}
	return s
}

// Failure records that a call of a transaction has failed.
func (b *Breaker) Failure(gid string) {
	if b.fail(gid) {
		b.changed(true)
	}
}

// fail reports whether the circuit has opened.
func (b *Breaker) fail(gid string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open() {
		return false
	}
	if b.failed[gid] = struct{}{}; !b.open() {
		return false
	}
	b.retryAt = time.Now().Add(b.limits.Cooldown)
	b.logger.Warn("saga: the circuit of a kind of branch is open: repeated calls wait", slog.String("kind", b.kind),
		slog.Int("failed", len(b.failed)))
	return true
}

func (b *Breaker) changed(open bool) {
	if b.hooks.Changed != nil {
		b.hooks.Changed(open)
	}
}

// Success records that a call has succeeded. It closes the circuit.
func (b *Breaker) Success() {
	if b.succeed() {
		b.changed(false)
	}
}

// succeed reports whether the circuit has closed.
func (b *Breaker) succeed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open() {
		clear(b.failed)
		clear(b.postponed)
		return false
	}
	clear(b.failed)
	b.delayed = 0
	b.logger.Info("saga: the circuit of a kind of branch is closed again", slog.String("kind", b.kind))
	if len(b.postponed) > 0 && b.hooks.Release != nil {
		b.released, b.postponed = b.postponed, map[string]struct{}{}
		go b.hooks.Release(slices.Collect(maps.Keys(b.released)))
	}
	return true
}

// Postpone records that a transaction is called again only after its backoff. If the
// circuit closes before, it is called then.
func (b *Breaker) Postpone(gid string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, failed := b.failed[gid]; (failed || b.open()) && len(b.postponed) < maxPostponed {
		b.postponed[gid] = struct{}{}
	}
}

// TakeReleased reports whether a postponed transaction is to be called at once. It returns
// true only once for each gid.
func (b *Breaker) TakeReleased(gid string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, released := b.released[gid]
	delete(b.released, gid)
	return released
}
