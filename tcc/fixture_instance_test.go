package tcc_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/tcc"
)

var errOnPurpose = errors.New("on purpose")

var alice = saga.Operator{Who: "alice", Why: "the gateway is back"}

var bob = saga.Operator{Who: "bob", Why: "looked at both books: the money is gone"}

// An instance that is opened and never run is, after its lease, as good as a
// process that was killed: it renews nothing and drives nothing.
func dying() embedded.Config {
	config := quick
	config.MinBackoff, config.MaxBackoff = time.Hour, time.Hour
	config.CallTimeout = 2 * time.Second // when the database gives up the locks of a lost connection
	return config
}

// openLess opens an instance that knows only the kinds that register makes known.
func (b *bench) openLess(config embedded.Config, register func(*embedded.Engine)) *embedded.Engine {
	b.t.Helper()
	orch := sagatest.Open(b.t, b.db, config)
	if register != nil {
		register(orch)
	}
	return orch
}

// open begins a transaction and tries one branch of each sort in it.
func (b *bench) begin(gid string, options saga.Options) *tcc.Transaction {
	b.t.Helper()
	tx, err := tcc.BeginWith(b.t.Context(), b.orch, gid, options)
	sagatest.Must(b.t, err)
	sagatest.Must(b.t, tx.Try(b.t.Context(), hold{1, 30}))
	sagatest.Must(b.t, tx.Try(b.t.Context(), holdAway{1, 20}))
	sagatest.Must(b.t, tx.Try(b.t.Context(), holdOut{1, 10}))
	return tx
}

// alarmed returns a quick config whose alarms arrive in the channel.
func alarmed() (embedded.Config, chan embedded.Attention) {
	config, alarms := quick, make(chan embedded.Attention, 100)
	config.OnAttention = func(ctx context.Context, a embedded.Attention) { alarms <- a }
	return config, alarms
}

// alarm waits for the next alarm.
func alarm(t *testing.T, alarms chan embedded.Attention) embedded.Attention {
	t.Helper()
	select {
	case a := <-alarms:
		return a
	case <-time.After(20 * time.Second):
		t.Fatal("no alarm came")
		return embedded.Attention{}
	}
}
