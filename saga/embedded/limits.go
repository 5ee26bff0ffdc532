package embedded

import (
	"fmt"
	"time"
)

// Limits limit the repeated Confirms and Cancels of one kind of branch in one instance, so
// that the retries of all transactions do not overload a service that is down. The first
// call of a branch is never delayed. So traffic continues, and its calls show when the
// service is back.
type Limits struct {
	// Rate is the most repeated calls per second. Defaults to 100. It does not apply to
	// branches that repeat many calls in one batch: they make few calls.
	Rate float64

	// Failures is the number of transactions with failed calls, without a success in
	// between, after which the circuit opens. It counts transactions and not calls, so
	// that one transaction that cannot succeed does not delay the others. Defaults to
	// 10.
	Failures int

	// Cooldown is how long an open circuit holds back all repeated calls. Then it lets
	// one call through, and closes if that call, or any other, succeeds. This instance
	// then makes the calls that it has postponed at once. Defaults to a second.
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
