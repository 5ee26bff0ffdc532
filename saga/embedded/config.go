package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/clean"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// Config configures an [Engine]. The zero value works.
type Config struct {
	// Lease is how long an instance owns its transactions after its last heartbeat. When an
	// instance dies, others take over its transactions within Lease plus a second. A
	// heartbeat is sent every third of Lease. If Lease is much shorter than the slowest
	// answers of the database, instances take over transactions that are not abandoned,
	// which is safe but costs work. Defaults to 5 seconds; at least 100 milliseconds.
	Lease time.Duration

	// Poll is how often the engine reads due transactions from the log: deadlines, retries,
	// and the transactions of instances that are gone. Defaults to 500 milliseconds.
	Poll time.Duration

	// Timeout is how long a transaction with a known plan may stay undecided. Defaults to
	// 30 seconds.
	Timeout time.Duration

	// OpenTimeout is how long an opened transaction may stay undecided. Defaults to 15
	// minutes.
	OpenTimeout time.Duration

	// CallTimeout is how long one call of a branch may take. Defaults to 10 seconds.
	CallTimeout time.Duration

	// MinBackoff and MaxBackoff determine the pause between two Confirms or Cancels of a
	// branch. The pause is a random time between zero and a cap. The cap is MinBackoff at
	// first, doubles with each attempt, and is at most MaxBackoff ("full jitter", from
	// M. Brooker, Exponential Backoff And Jitter, 2015). Default to 200 milliseconds and one
	// minute.
	MinBackoff, MaxBackoff time.Duration

	// MaxWorkers is the most transactions that are driven in the background at once:
	// retries, deadlines and recovery. Transactions that a caller waits for are not counted.
	// Defaults to 512.
	MaxWorkers int

	// StopTimeout is how long Run, when its context ends, waits for calls under way.
	// Defaults to 10 seconds. Stop uses its own context.
	StopTimeout time.Duration

	// Limits limit the repeated calls of branches, separately for each kind. KindLimits
	// replace them for single kinds. The zero Limits are the defaults.
	Limits     Limits
	KindLimits map[string]Limits

	// AttentionAttempts and AttentionAge raise a transaction to attention: when a branch has
	// failed AttentionAttempts times, or when the transaction was decided AttentionAge ago
	// and is not finished. Default to 10 and 10 minutes. A conflict raises it at once. The
	// retries continue.
	AttentionAttempts int
	AttentionAge      time.Duration

	// OnAttention is called when this instance has raised a transaction to attention, in a
	// goroutine of its own and for at most CallTimeout. If the process dies at that moment,
	// nobody is called; List with Filter.Attention returns all such transactions. Defaults
	// to none. The Logger gets an error in any case.
	OnAttention func(context.Context, Attention)

	// Observers are told what happens; see [saga.Observer]. Package otelsaga has one for
	// OpenTelemetry. Defaults to none, which costs nothing.
	Observers []saga.Observer

	// Retention is how long a finished transaction stays in the log, counted from its end
	// and from its deadline. Until then its gid returns the same outcome. After that the
	// transaction is removed, with its barrier rows in every database and with the data that
	// its branches keep for it, and its gid is new again. Choose a time that is longer than
	// any late call can take to arrive. Defaults to 7 days; at least twice CallTimeout;
	// [Forever] removes nothing.
	Retention time.Duration

	// MaxBatch is the most transactions that share a commit, if they come at the same time
	// and are quick; see "Batches" in the documentation of this package. 1 means that every
	// transaction commits alone. Defaults to 128; at most 1,000.
	MaxBatch int

	// MaxPayload is the most bytes of the input of a branch, as JSON. Defaults to 1 MiB; at
	// most 16,000,000.
	MaxPayload int

	// MaxBytes is the most bytes of the inputs of all branches of a transaction, as JSON.
	// The transactions that are driven in the background have at most twice as many bytes
	// together, and one transaction more. Defaults to 8 MiB; at most 64,000,000.
	MaxBytes int

	// Logger receives warnings and errors. Defaults to [slog.Default].
	Logger *slog.Logger
}

// Forever is a [Config.Retention] that removes nothing.
const Forever = clean.Forever

func (c Config) withDefaults() (Config, error) {
	for _, fill := range []func(*Config) error{(*Config).fillDurations, (*Config).fillLimits, (*Config).fillCounts} {
		if err := fill(&c); err != nil {
			return c, err
		}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

func (c *Config) fillDurations() error {
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
			return txn.Invalid("Config.%s is negative: %s", d.name, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	switch {
	case c.Lease < 100*time.Millisecond:
		return txn.Invalid("Config.Lease is %s, at least 100ms is needed", c.Lease)
	case c.MinBackoff > c.MaxBackoff:
		return txn.Invalid("Config.MinBackoff is %s, more than Config.MaxBackoff, %s", c.MinBackoff, c.MaxBackoff)
	case c.Retention < 2*c.CallTimeout:
		return txn.Invalid("Config.Retention is %s, it must be at least twice Config.CallTimeout, %s, so that no late Try comes after it", c.Retention, c.CallTimeout)
	}
	return nil
}

func (c *Config) fillLimits() (err error) {
	if c.Limits, err = c.Limits.withDefaults(); err != nil {
		return txn.Invalid("Config.Limits: %w", err)
	}
	kinds := make(map[string]Limits, len(c.KindLimits)) // not the caller's map
	for kind, limits := range c.KindLimits {
		if kinds[kind], err = limits.withDefaults(); err != nil {
			return txn.Invalid("Config.KindLimits of %q: %w", kind, err)
		}
	}
	c.KindLimits = kinds
	return nil
}

func (c *Config) fillCounts() error {
	for _, n := range []struct {
		name     string
		value    *int
		fallback int
		most     int // 0 for no limit
		limit    string
	}{
		{"AttentionAttempts", &c.AttentionAttempts, 10, 0, ""},
		{"MaxWorkers", &c.MaxWorkers, 512, 0, ""},
		{"MaxBatch", &c.MaxBatch, 128, 1000, "1,000"},
		{"MaxPayload", &c.MaxPayload, 1 << 20, 16_000_000, "16,000,000"},
		{"MaxBytes", &c.MaxBytes, 0, 64_000_000, "64,000,000"},
	} {
		switch {
		case n.most == 0 && *n.value < 0:
			return txn.Invalid("Config.%s is negative: %d", n.name, *n.value)
		case n.most != 0 && (*n.value < 0 || *n.value > n.most):
			return txn.Invalid("Config.%s is %d, it must be between 0 and %s", n.name, *n.value, n.limit)
		case *n.value == 0:
			*n.value = n.fallback
		}
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = max(8<<20, c.MaxPayload)
	}
	return nil
}

// timeoutOf checks the timeout of one transaction, and applies the default.
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

// maxTimeout keeps deadlines within the range of every database's dates.
const maxTimeout = 10 * 365 * 24 * time.Hour
