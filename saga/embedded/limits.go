package embedded

import (
	"fmt"
	"time"
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

	// Cooldown is how long an open circuit lets no repeated call through; then it
	// lets one, and closes if that, or any other, succeeds. What this instance
	// has put off meanwhile is then called at once. Defaults to a second.
	Cooldown time.Duration
}

func (l Limits) withDefaults() (Limits, error) {
	switch {
	case !(l.Rate >= 0): // NaN too
		return l, fmt.Errorf("its Rate is %v, it must be positive", l.Rate)
	case l.Failures < 0:
		return l, fmt.Errorf("its Failures is negative: %d", l.Failures)
	case l.Cooldown < 0:
		return l, fmt.Errorf("its Cooldown is negative: %s", l.Cooldown)
	}
	if l.Rate == 0 {
		l.Rate = 100
	}
	if l.Failures == 0 {
		l.Failures = 10
	}
	if l.Cooldown == 0 {
		l.Cooldown = time.Second
	}
	return l, nil
}
