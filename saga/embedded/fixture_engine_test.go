package embedded_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// still is a configuration in which nothing comes due by itself.
var still = embedded.Config{Lease: time.Hour}

var operator = saga.Operator{Who: "alice", Why: "a test"}

// opened is an engine whose background work runs until the test ends.
func opened(t *testing.T, db *gorm.DB, config embedded.Config, branches ...spec) *embedded.Engine {
	t.Helper()
	orch := sagatest.Open(t, db, config)
	for _, b := range branches {
		b.Encode = encode
		sagatest.Must(t, register(orch, b))
	}
	sagatest.Run(t, orch)
	return orch
}

func planOf(gid string, kinds ...string) saga.Plan {
	plan := saga.Plan{GID: gid, Pattern: "test"}
	for _, kind := range kinds {
		plan.Steps = append(plan.Steps, saga.Step{Kind: kind})
	}
	return plan
}

func encode(any) ([]byte, error) { return []byte("{}"), nil }

// settle waits until the end is written of which the caller was told.
func settle(t *testing.T, orch *embedded.Engine, gid string) {
	t.Helper()
	_, err := orch.States(t.Context(), gid)
	sagatest.Must(t, err)
}

// ends waits until a transaction is finished.
func ends(t *testing.T, orch *embedded.Engine, gid string) saga.State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	outcome, err := orch.Wait(ctx, gid)
	if !outcome.State.Finished() {
		t.Errorf("%s is %q: %v", gid, outcome.State, err)
	}
	return outcome.State
}

func sending(context.Context, saga.Call) (any, error) { return nil, nil }

// outside is a branch that acts on nothing but a counter of its calls.
func outside(kind string, act func(saga.Call) error) spec {
	call := func(_ context.Context, c saga.Call) (any, error) { return nil, act(c) }
	return spec{Kind: kind, Encode: func(input any) ([]byte, error) { return json.Marshal(input) },
		Effects: map[barrier.Op]saga.Effect{barrier.Try: call, barrier.Confirm: call, barrier.Cancel: call}}
}

// remote is a service elsewhere.
type remote func(saga.Call) error

func (r remote) Call(_ context.Context, call saga.Call) error { return r(call) }

func second[T any](_ T, err error) error { return err }
