package sagatest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// flaky is a branch without a database, whose Confirm fails at first.
func flaky(confirms *int) saga.Branch {
	encode := func(any) ([]byte, error) { return []byte("{}"), nil }
	nothing := func(context.Context, saga.Call) (any, error) { return nil, nil }
	return saga.NewExternal("flaky", encode, saga.External{Try: nothing, Cancel: nothing,
		Confirm: func(context.Context, saga.Call) (any, error) {
			if *confirms++; *confirms < 3 {
				return nil, errors.New("on purpose")
			}
			return nil, nil
		}})
}

func plan(gid string) saga.Plan {
	return saga.Plan{GID: gid, Pattern: "test", Steps: []saga.Step{{Kind: "flaky"}}}
}

// What fails is repeated in the background, and soon; the engine is stopped at the end.
func TestRun(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	confirms, gid := 0, sagatest.GID()
	var engine *embedded.Engine
	failures := record(func(t testing.TB) {
		engine = sagatest.Open(t, db, embedded.Config{})
		sagatest.Must(t, engine.Register(flaky(&confirms)))
		sagatest.Run(t, engine)
		_, err := engine.Execute(t.Context(), plan(gid))
		sagatest.Must(t, err)
		sagatest.Reach(t, engine, gid, saga.Confirmed)
	})
	if confirms != 3 || failures != nil {
		t.Errorf("%d Confirms; failures %q", confirms, failures)
	}
	if _, err := engine.Execute(t.Context(), plan(sagatest.GID())); !errors.Is(err, saga.ErrStopped) {
		t.Errorf("the engine is not stopped: %v", err)
	}
}

// The test fails if the engine could not run, or had to interrupt calls.
func TestRunFails(t *testing.T) {
	t.Parallel()
	cases := map[string]func(t testing.TB, engine *embedded.Engine){
		"run: it was called twice": func(t testing.TB, engine *embedded.Engine) {
			sagatest.Run(t, engine)
			sagatest.Run(t, engine)
		},
		"calls under way were interrupted": func(t testing.TB, engine *embedded.Engine) {
			calling := make(chan struct{})
			hangs := func(ctx context.Context, _ saga.Call) (any, error) {
				close(calling)
				<-ctx.Done()
				return nil, ctx.Err()
			}
			encode := func(any) ([]byte, error) { return []byte("{}"), nil }
			sagatest.Must(t, engine.Register(saga.NewExternal("flaky", encode, saga.External{Try: hangs, Confirm: hangs, Cancel: hangs})))
			sagatest.Run(t, engine)
			go engine.Execute(t.Context(), plan(sagatest.GID()))
			<-calling
			impatient, cancel := context.WithCancel(t.Context())
			cancel()
			engine.Stop(impatient)
		},
	}
	for want, test := range cases {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			db := sqltest.Open(t, "sqlite")
			failures := record(func(t testing.TB) { test(t, sagatest.Open(t, db, embedded.Config{})) })
			if len(failures) != 1 || !strings.Contains(failures[0], want) {
				t.Errorf("failures %q", failures)
			}
		})
	}
}

// The fields that a test sets go together with the defaults of the others.
func TestOpenTakesEveryConfig(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	for what, config := range map[string]embedded.Config{
		"MinBackoff alone": {MinBackoff: time.Second},
		"MaxBackoff alone": {MaxBackoff: time.Millisecond},
		"both":             {MinBackoff: time.Hour, MaxBackoff: time.Hour},
	} {
		if failures := record(func(t testing.TB) { sagatest.Open(t, db, config) }); failures != nil {
			t.Errorf("%s: %q", what, failures)
		}
	}
	if failures := record(func(t testing.TB) { sagatest.Open(t, db, embedded.Config{Poll: -1}) }); len(failures) != 1 {
		t.Errorf("a negative Poll: failures %q", failures)
	}
}
