package saga

import (
	"fmt"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/limit"
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

// breaker returns the breaker of a kind of branch.
func (o *Orchestrator) breaker(kind string) *limit.Breaker {
	limits, own := o.config.KindLimits[kind]
	if !own {
		limits = o.config.Limits
	}
	return limit.NewBreaker(kind, limit.Limits(limits), o.config.Logger, o.makeDue)
}
