package saga

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/tccsaga/tccsaga/saga/internal/jitter"
)

// Limits hold back repeated Confirms and Cancels of one kind of branch in one
// instance, so that a service that is down is not hammered by the retries of
// all transactions. They never hold back the first call of a branch: traffic
// goes on, and its calls tell whether the service is back.
type Limits struct {
	// Rate is the most repeated calls per second. Defaults to 100. It does not
	// hold for branches that repeat many calls at once, such as those of a
	// tcc.BulkDeliverer: they make few calls, whatever gathers.
	Rate float64

	// Failures is after how many transactions whose calls failed, with no
	// success in between, the circuit opens. It counts transactions rather than
	// calls, so that one that cannot succeed does not hold up the others.
	// Defaults to 10.
	Failures int

	// Pause is how long an open circuit lets no repeated call through; then it
	// lets one, and closes if that, or any other, succeeds. What this instance
	// has put off meanwhile is then called at once. Defaults to a second.
	Pause time.Duration
}

func (l Limits) withDefaults() (Limits, error) {
	switch {
	case !(l.Rate >= 0): // NaN too
		return l, fmt.Errorf("its Rate is %v, it must be positive", l.Rate)
	case l.Failures < 0:
		return l, fmt.Errorf("its Failures is negative: %d", l.Failures)
	case l.Pause < 0:
		return l, fmt.Errorf("its Pause is negative: %s", l.Pause)
	}
	if l.Rate == 0 {
		l.Rate = 100
	}
	if l.Failures == 0 {
		l.Failures = 10
	}
	if l.Pause == 0 {
		l.Pause = time.Second
	}
	return l, nil
}

// valve keeps the Limits of one kind of branch.
type valve struct {
	kind   string
	limits Limits
	rate   *rate.Limiter
	logger *slog.Logger

	mu     sync.Mutex
	failed map[string]struct{} // gids since the last success, at most limits.Failures
	probe  time.Time           // while the circuit is open: when it lets the next call through
	held   float64             // about how many calls are held back

	closes func(gids []string) // called when the circuit closes, with what was put off; nil for none
	parked map[string]struct{} // gids that were put off since the last success, at most mostParked
	eager  map[string]struct{} // gids that are called at once, whatever their pause
}

// mostParked bounds what is remembered of transactions that were put off. Others
// wait for the end of their pauses.
const mostParked = 200_000

// park notes that a transaction was put off.
func (v *valve) park(gid string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, failed := v.failed[gid]; (failed || v.open()) && len(v.parked) < mostParked {
		v.parked[gid] = struct{}{}
	}
}

// hurry reports whether a transaction that was put off is to be called at once,
// for one time.
func (v *valve) hurry(gid string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, eager := v.eager[gid]
	delete(v.eager, gid)
	return eager
}

func newValve(kind string, c Config) *valve {
	limits, own := c.KindLimits[kind]
	if !own {
		limits = c.Limits
	}
	return &valve{kind: kind, limits: limits, logger: c.Logger, failed: map[string]struct{}{}, parked: map[string]struct{}{}, eager: map[string]struct{}{},
		rate: rate.NewLimiter(rate.Limit(limits.Rate), max(1, int(limits.Rate/10)))}
}

// hold says for how long a repeated call has to wait; 0 lets it through. The rate
// does not count for calls that are made many at once.
func (v *valve) hold(ctx context.Context, longest time.Duration, together bool) time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	until := time.Duration(0)
	switch {
	case v.open() && now.Before(v.probe):
		until = v.probe.Sub(now)
	case v.open():
		v.probe = now.Add(v.limits.Pause)
		return 0
	case together || v.rate.AllowN(now, 1):
		v.held = max(0, v.held-1)
		return 0
	}
	v.held++
	// As many as are held back take so long at the allowed rate.
	spread := time.Duration(max(0.1, v.held/v.limits.Rate) * float64(time.Second))
	return min(until+jitter.UpTo(ctx, min(spread, longest)), max(until, longest))
}

func (v *valve) open() bool { return len(v.failed) >= v.limits.Failures }

// failure and success tell how a call went.
func (v *valve) failure(gid string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.open() {
		return
	}
	if v.failed[gid] = struct{}{}; v.open() {
		v.probe = time.Now().Add(v.limits.Pause)
		v.logger.Warn("saga: the circuit of a kind of branch is open: repeated calls wait", slog.String("kind", v.kind),
			slog.Int("transactions failed in a row", len(v.failed)))
	}
}

func (v *valve) success() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.open() {
		clear(v.failed)
		clear(v.parked)
		return
	}
	clear(v.failed)
	v.held = 0
	v.logger.Info("saga: the circuit of a kind of branch is closed again", slog.String("kind", v.kind))
	if len(v.parked) == 0 || v.closes == nil {
		return
	}
	v.eager, v.parked = v.parked, map[string]struct{}{}
	go v.closes(slices.Collect(maps.Keys(v.eager)))
}
