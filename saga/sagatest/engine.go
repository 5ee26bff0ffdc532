package sagatest

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
)

// stopTimeout is longer than the default of [embedded.Config.CallTimeout], so that each
// call under way can come to its end.
const stopTimeout = 20 * time.Second

// Open opens an engine whose log is in db. The fields of config that are zero have the
// defaults of [embedded.Config], except these: Poll is 20 milliseconds, MinBackoff is 5,
// MaxBackoff is 50, and the Logger discards all. The test fails if the engine cannot be
// opened.
//
// Register the branches next, and then [Run] the engine. An engine that does not run does
// nothing in the background.
func Open(t testing.TB, db *gorm.DB, config embedded.Config) *embedded.Engine {
	t.Helper()
	engine, err := embedded.Open(t.Context(), db, quick(config))
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func quick(config embedded.Config) embedded.Config {
	if config.Poll == 0 {
		config.Poll = 20 * time.Millisecond
	}
	if config.MaxBackoff == 0 {
		config.MaxBackoff = max(50*time.Millisecond, config.MinBackoff)
	}
	if config.MinBackoff == 0 {
		config.MinBackoff = min(5*time.Millisecond, config.MaxBackoff)
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	return config
}

// Run runs the engine in the background. It stops the engine when the test ends, before
// the cleanups that were registered earlier. The test fails if Run returns an error, or if
// calls are still under way after 20 seconds.
func Run(t testing.TB, engine *embedded.Engine) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // which ends before the cleanups
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	t.Cleanup(func() {
		stopping, cancel := context.WithTimeout(ctx, stopTimeout)
		defer cancel()
		stopped := engine.Stop(stopping)
		if err := <-ended; err != nil {
			t.Errorf("the engine ran: %v", err)
		} else if stopped != nil {
			t.Errorf("the engine stopped: %v", stopped)
		}
	})
}

// Reach waits until the transaction is in the state, and returns all that the engine
// knows of it. The test fails if it takes longer than [Eventually] waits.
func Reach(t testing.TB, engine saga.Engine, gid string, state saga.State) *saga.Transaction {
	t.Helper()
	var found *saga.Transaction
	Eventually(t, fmt.Sprintf("%s is %s", gid, state), func() bool {
		var err error
		found, err = engine.Lookup(t.Context(), gid)
		return err == nil && found.State == state
	})
	return found
}

// GID returns a gid that nobody has used before.
func GID() string { return "test-" + uuid.NewString() }
