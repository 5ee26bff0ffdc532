package chaos

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"os/signal"
	"testing"
	"time"
)

var (
	faultsFor = flag.Duration("chaos.for", 40*time.Second, "how long faults come")
	seed      = flag.Uint64("chaos.seed", 0, "the seed of the orders and the faults; 0 draws one")
)

// TestChaos is one run. Every rule is kept after faults of every kind.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute: run it without -short")
	}
	if _, err := findMariaDB(); err != nil && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if *seed == 0 {
		*seed = rand.Uint64N(1_000_000)
	}
	t.Logf("chaos for %s with the seed %d; again: make chaos FOR=%[1]s SEED=%[2]d", *faultsFor, *seed)
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	if deadline, ok := t.Deadline(); ok {
		// Leave time to end all processes.
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-15*time.Second))
		defer cancel()
	}
	report, err := Run(ctx, Config{For: *faultsFor, Seed: *seed, Dir: t.TempDir()})
	if report != nil {
		t.Logf("\n%s", report)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Error(err)
	}
	if report != nil && !report.OK() {
		t.Errorf("rules are broken, see the report; again: make chaos FOR=%s SEED=%d", *faultsFor, *seed)
	}
}
