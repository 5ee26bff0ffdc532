package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"testing"
	"time"
)

var (
	faultsFor = flag.Duration("chaos.for", 20*time.Second, "how long faults come")
	hostKills = flag.Int("chaos.hostkills", 0, "how often TestHostIsKilled kills the host; 0 skips it")
	seed      = flag.Uint64("chaos.seed", 0, "the seed of the orders and the faults; 0 draws one")
)

// TestChaos is one run. Every rule is kept after faults of every kind.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute: run it without -short")
	}
	runAndReport(t, Config{For: *faultsFor})
}

// TestHostIsKilled kills a service -9 while calls travel to it in batches, again and again. After
// each time, the books balance over all databases.
func TestHostIsKilled(t *testing.T) {
	if *hostKills == 0 {
		t.Skip("it takes a minute: run make chaos, or run it with -chaos.hostkills 20")
	}
	runAndReport(t, Config{HostKills: *hostKills})
}

func runAndReport(t *testing.T, config Config) {
	if _, err := findMariaDB(); err != nil && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if *seed == 0 {
		*seed = rand.Uint64N(1_000_000)
	}
	config.Seed, config.Dir = *seed, t.TempDir()
	again := fmt.Sprintf("again: make chaos FOR=%s SEED=%d", *faultsFor, *seed)
	t.Logf("the seed is %d; %s", *seed, again)
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	if deadline, ok := t.Deadline(); ok {
		// Leave time to end all processes.
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-15*time.Second))
		defer cancel()
	}
	report, err := Run(ctx, config)
	if report != nil {
		t.Logf("\n%s", report)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Error(err)
	}
	if report != nil && report.batches == 0 {
		t.Error("no calls travelled to the host in a batch")
	}
	if report != nil && err == nil && config.HostKills > 0 {
		if n := report.faults[hostKilled] + report.faults[hostKilledAtCommit]; n != config.HostKills {
			t.Errorf("the host was killed %d times, not %d", n, config.HostKills)
		}
	}
	if report != nil && !report.OK() {
		t.Errorf("rules are broken, see the report; %s", again)
	}
}
