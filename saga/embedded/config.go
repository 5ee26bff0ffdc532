package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/clean"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// Config configures an [Engine]. The zero value works.
type Config struct {
	// Lease is how long the transactions of an instance remain its own after
	// its last heartbeat. When an instance dies, others resume its work within
	// Lease plus a second. The heartbeat comes every third of it; a lease much
	// shorter than the database's slowest answers makes instances take over
	// work that is not abandoned, which is safe but wasteful. Defaults to 5
	// seconds; at least 100 milliseconds.
	Lease time.Duration

	// Poll is how often the log is asked for due transactions: deadlines,
	// retries, and the work of instances that are gone. Defaults to 500
	// milliseconds.
	Poll time.Duration

	// Timeout is how long a transaction with a known plan may stay undecided.
	// Defaults to 30 seconds.
	Timeout time.Duration

	// OpenTimeout is how long an opened transaction may stay undecided.
	// Defaults to 15 minutes.
	OpenTimeout time.Duration

	// CallTimeout bounds one call of a branch. Defaults to 10 seconds.
	CallTimeout time.Duration

	// MinBackoff and MaxBackoff bound the time between two Confirms or Cancels
	// of a branch: a random time up to MinBackoff doubled with each attempt and
	// capped at MaxBackoff ("full jitter", from M. Brooker, Exponential Backoff
	// And Jitter, 2015). Default to 200 milliseconds and one minute.
	MinBackoff, MaxBackoff time.Duration

	// MaxWorkers is the most transactions that are driven in the background at
	// once: retries, deadlines and recovery. Those that callers wait for are
	// not counted. Defaults to 512.
	MaxWorkers int

	// StopTimeout is how long Run, when its context ends, waits for calls under way.
	// Defaults to 10 seconds. Stop takes its own context.
	StopTimeout time.Duration

	// Limits hold back repeated calls of branches, for each kind on its own;
	// KindLimits replace them for single kinds. The zero Limits are the
	// defaults.
	Limits     Limits
	KindLimits map[string]Limits

	// AttentionAttempts and AttentionAge raise a transaction to attention when
	// a branch has failed so often, or when it is decided for so long and not
	// finished. Default to 10 and 10 minutes. Attention does not end the
	// retries. A conflict raises it at once.
	AttentionAttempts int
	AttentionAge      time.Duration

	// OnAttention is called, in a goroutine of its own and for at most
	// CallTimeout, when this instance has raised a transaction to attention. A
	// process that dies just then calls nobody: List with Filter.Attention has
	// them all. Defaults to none; the Logger is told in any case.
	OnAttention func(context.Context, Attention)

	// Retention is how long a finished transaction stays in the log, counted
	// from its end and from its deadline; then it is removed, in small batches,
	// with its barrier rows in every database and with what its branches keep
	// of it. Until then its gid gives the same outcome again; afterwards it is
	// a new transaction. Choose it longer than any late call can take to
	// arrive. Defaults to 7 days; at least twice CallTimeout; [Forever] keeps
	// all.
	Retention time.Duration

	// MaxBatch is the most transactions that share a commit: callers at the
	// same time whose branches are of the same kinds, all in the orchestrator's
	// own database, and quick. 1 lets each commit by itself. Defaults to 128; at
	// most 1,000.
	MaxBatch int

	// MaxPayload is the most bytes that the input of a branch may have as JSON.
	// Defaults to 1 MiB; at most 16,000,000.
	MaxPayload int

	// MaxBytes is the most bytes that the inputs of all branches of a transaction
	// may have, as JSON. What is driven in the background has at most
	// twice as many together, and one transaction more. Defaults to 8 MiB;
	// at most 64,000,000.
	MaxBytes int

	// Logger takes what goes wrong. Defaults to [slog.Default].
	Logger *slog.Logger
}

// Forever is a [Config.Retention] that removes nothing.
const Forever = clean.Forever

func (c Config) withDefaults() (Config, error) {
	for _, d := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
	}{
		{"Lease", &c.Lease, 5 * time.Second},
		{"Poll", &c.Poll, 500 * time.Millisecond},
		{"Timeout", &c.Timeout, 30 * time.Second},
		{"OpenTimeout", &c.OpenTimeout, 15 * time.Minute},
		{"CallTimeout", &c.CallTimeout, 10 * time.Second},
		{"MinBackoff", &c.MinBackoff, 200 * time.Millisecond},
		{"MaxBackoff", &c.MaxBackoff, time.Minute},
		{"StopTimeout", &c.StopTimeout, 10 * time.Second},
		{"AttentionAge", &c.AttentionAge, 10 * time.Minute},
		{"Retention", &c.Retention, 7 * 24 * time.Hour},
	} {
		if *d.value < 0 {
			return c, txn.Invalid("Config.%s is negative: %s", d.name, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	if c.Lease < 100*time.Millisecond {
		return c, txn.Invalid("Config.Lease is %s, at least 100ms is needed", c.Lease)
	}
	if c.MinBackoff > c.MaxBackoff {
		return c, txn.Invalid("Config.MinBackoff is %s, more than Config.MaxBackoff, %s", c.MinBackoff, c.MaxBackoff)
	}
	if c.Retention < 2*c.CallTimeout {
		return c, txn.Invalid("Config.Retention is %s, it must be at least twice Config.CallTimeout, %s, so that no late Try comes after it", c.Retention, c.CallTimeout)
	}
	switch {
	case c.AttentionAttempts < 0:
		return c, txn.Invalid("Config.AttentionAttempts is negative: %d", c.AttentionAttempts)
	case c.AttentionAttempts == 0:
		c.AttentionAttempts = 10
	}
	var err error
	if c.Limits, err = c.Limits.withDefaults(); err != nil {
		return c, txn.Invalid("Config.Limits: %w", err)
	}
	kinds := make(map[string]Limits, len(c.KindLimits)) // not the caller's map
	for kind, limits := range c.KindLimits {
		if kinds[kind], err = limits.withDefaults(); err != nil {
			return c, txn.Invalid("Config.KindLimits of %q: %w", kind, err)
		}
	}
	c.KindLimits = kinds
	switch {
	case c.MaxWorkers < 0:
		return c, txn.Invalid("Config.MaxWorkers is negative: %d", c.MaxWorkers)
	case c.MaxWorkers == 0:
		c.MaxWorkers = 512
	}
	switch {
	case c.MaxBatch < 0 || c.MaxBatch > 1000:
		return c, txn.Invalid("Config.MaxBatch is %d, it must be between 0 and 1,000", c.MaxBatch)
	case c.MaxBatch == 0:
		c.MaxBatch = 128
	}
	switch {
	case c.MaxPayload < 0 || c.MaxPayload > 16_000_000:
		return c, txn.Invalid("Config.MaxPayload is %d, it must be between 0 and 16,000,000", c.MaxPayload)
	case c.MaxPayload == 0:
		c.MaxPayload = 1 << 20
	}
	switch {
	case c.MaxBytes < 0 || c.MaxBytes > 64_000_000:
		return c, txn.Invalid("Config.MaxBytes is %d, it must be between 0 and 64,000,000", c.MaxBytes)
	case c.MaxBytes == 0:
		c.MaxBytes = max(8<<20, c.MaxPayload)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// timeoutOf checks the timeout of one transaction and applies the default.
func timeoutOf(timeout, fallback time.Duration) (time.Duration, error) {
	switch {
	case timeout < 0:
		return 0, fmt.Errorf("the timeout is negative: %s", timeout)
	case timeout == 0:
		return fallback, nil
	case timeout > maxTimeout:
		return 0, fmt.Errorf("the timeout is %s, at most %s is possible", timeout, maxTimeout)
	default:
		return timeout, nil
	}
}

// maxTimeout keeps deadlines within what every database's dates can hold.
const maxTimeout = 10 * 365 * 24 * time.Hour
