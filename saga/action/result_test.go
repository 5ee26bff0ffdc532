package action_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/action"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/participant"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// Results go to a service and come back over HTTP, signed, also results that HTML would escape.
func TestOverHTTP(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		key, err := remote.NewKey("2026-11", []byte("32 random bytes from a safe place"))
		sagatest.Must(t, err)
		host, err := remote.NewHost(t.Context(), b.third, remote.HostConfig{Name: "far", Keys: []remote.Key{key}, MaxPayload: 100, Logger: quiet})
		sagatest.Must(t, err)
		sagatest.Must(t, action.Register(host, local[farther]{b.journal, nil, func(in farther) string { return in.L }}))
		mux := http.NewServeMux()
		mux.Handle("/branches/", host)
		server := httptest.NewServer(mux)
		t.Cleanup(server.Close)
		service, err := remote.NewService(server.URL+"/branches", remote.ServiceConfig{Name: "far", Keys: []remote.Key{key}})
		sagatest.Must(t, err)
		sagatest.Must(t, action.RegisterRemote[farther](b.engine, service))

		b.execute(action.NewSaga("g").Step(away{"<a>"}).Step(farther{"<b>"}).Step(here{"<c>"}).AfterDecision(farther{"<z>"}), saga.Confirmed)
		b.did("do <a>, do <b>, do <c>, do <z>")
		b.knew("do <b>", "01=<a>1")
		b.knew("do <c>", "01=<a>1 02=<b>1")
		b.knew("do <z>", "01=<a>1 02=<b>1 03=<c>1")
		b.journal.fail("do f", action.Reject(errNo))
		b.execute(action.NewSaga("h").Step(farther{"d"}).Step(away{"e"}).Step(farther{"f"}), saga.Cancelled)
		b.knew("undo d", "01=d1 02=e1 done=d1")
	})
}

// raw is an input for branches of the engine, without package action.
type raw struct{ Result string }

func encodeRaw(input any) ([]byte, error) { return json.Marshal(input) }

// rawBranch returns an action whose Try and Apply return a result as it is, in one of the places.
func rawBranch(place string, other *gorm.DB, result func() json.RawMessage) saga.Branch {
	set := func(call saga.Call) {
		if call.Result != nil {
			*call.Result = result()
		}
	}
	kind := "raw." + place
	switch place {
	case "here", "away":
		shape := saga.Local{Work: func(_ context.Context, _ *gorm.DB, call saga.Call) error { set(call); return nil }}
		if place == "away" {
			shape.Database = other
		}
		return saga.NewLocal(kind, encodeRaw, shape).AsAction()
	case "out":
		effect := func(_ context.Context, call saga.Call) (any, error) { set(call); return nil, nil }
		return saga.NewExternal(kind, encodeRaw, saga.External{Try: effect, Cancel: effect}).AsAction()
	default:
		return saga.NewRemote(kind, encodeRaw, rawService(set)).AsAction()
	}
}

type rawService func(saga.Call)

func (s rawService) Call(_ context.Context, call saga.Call) error { s(call); return nil }

// A result that cannot be kept is an error of the action; the largest one is kept.
func TestResultsThatCannotBeKept(t *testing.T) {
	t.Parallel()
	long := func(n int) json.RawMessage { return json.RawMessage(`"` + strings.Repeat("x", n-2) + `"`) }
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		other := sqltest.Open(t, "sqlite")
		engine := sagatest.Open(t, db, embedded.Config{})
		var result atomic.Pointer[json.RawMessage] // a call that was given up may still read it
		for _, place := range []string{"here", "away", "out", "far"} {
			sagatest.Must(t, engine.Register(rawBranch(place, other, func() json.RawMessage { return *result.Load() })))
		}
		sagatest.Run(t, engine)
		for _, place := range []string{"here", "away", "out", "far"} {
			for name, c := range map[string]struct {
				result json.RawMessage
				want   string
			}{
				"the largest": {long(saga.MaxResult), ""},
				"none":        {nil, ""},
				"too large":   {long(saga.MaxResult + 1), "65537 bytes"},
				"not JSON":    {json.RawMessage(`{"a":`), "not JSON"},
			} {
				for _, attempts := range []int{0, 2} {
					result.Store(&c.result)
					gid := strings.ReplaceAll(fmt.Sprint(place, " ", name, attempts), " ", "-")
					_, err := engine.Execute(t.Context(), saga.Plan{GID: gid, Steps: []saga.Step{{Kind: "raw." + place, Input: raw{}}}, Options: saga.Options{TryAttempts: attempts}})
					if c.want == "" {
						found, lookErr := engine.Lookup(t.Context(), gid)
						sagatest.Must(t, errors.Join(err, lookErr))
						if string(found.Branches[0].Result) != string(c.result) {
							t.Errorf("%s: the result has %d bytes", gid, len(found.Branches[0].Result))
						}
					} else if !errors.Is(err, saga.ErrCancelled) || !strings.Contains(err.Error(), c.want) {
						t.Errorf("%s: %v", gid, err)
					}
				}
			}
			// After the decision it is repeated until the branch returns a right one.
			broken := json.RawMessage(`]`)
			result.Store(&broken)
			gid := place + "-after"
			outcome, err := engine.Execute(t.Context(), saga.Plan{GID: gid, Steps: []saga.Step{{Kind: "raw." + place, Input: raw{}, AfterDecision: true}}})
			if err != nil || outcome.State != saga.Confirming {
				t.Fatalf("%s: %+v, %v", gid, outcome, err)
			}
		}
	})
}

// A repeated call returns the result of the first one, and does nothing.
func TestRepeatedCallReturnsTheFirstResult(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, sqltest.Open(t, "sqlite"), embedded.Config{})
		createJournal(t, db)
		p, err := participant.New(t.Context(), db, participant.Config{Logger: quiet})
		sagatest.Must(t, err)
		sagatest.Must(t, action.Register(p, local[farther]{b.journal, nil, func(in farther) string { return in.L }}))
		for i, op := range []barrier.Op{barrier.Try, barrier.Apply} {
			call := saga.Call{GID: "g", BranchID: saga.BranchID(i + 1), Kind: "act.farther", Op: op, Attempt: 1, Payload: []byte(`{"L":"a"}`)}
			for range 3 {
				var result json.RawMessage
				call.Result = &result
				sagatest.Must(t, p.Call(t.Context(), call))
				if want := fmt.Sprintf(`{"Made":"a%d"}`, i+1); string(result) != want {
					t.Errorf("%s returns %s, want %s", op, result, want)
				}
			}
		}
		if n := b.journal.called("do a"); n != 2 {
			t.Errorf("the action was done %d times, want once for each branch", n)
		}
	})
}

// If the answer of an action is lost, forward recovery gets the result of the first call.
func TestForwardAfterALostAnswer(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		b.withLossy(barrier.Try, 2)
		b.executeWith(action.NewSaga("g").Step(farther{"a"}).Step(here{"b"}), unlimited, saga.Confirmed)
		b.did("do a, do b")
		b.knew("do b", "01=a1")
	})
}

// ResultOf says what is wrong.
func TestResultOf(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), embedded.Config{})
	results := map[string]error{}
	sagatest.Must(t, action.RegisterExternal(b.engine, asks{func(ctx context.Context) {
		_, results["of another type"] = action.ResultOf[int](ctx, "01")
		_, results["of an interface"] = action.ResultOf[any](ctx, "01")
		_, results["of itself"] = action.ResultOf[done1](ctx, "02")
		_, results["of a later one"] = action.ResultOf[done1](ctx, "03")
		got, err := action.ResultOf[done1](ctx, "01")
		if err != nil || got.Made != "a1" {
			t.Errorf("%+v, %v", got, err)
		}
		part, err := action.ResultOf[struct{}](ctx, "01")
		if err != nil {
			t.Errorf("%+v, %v", part, err)
		}
	}}))
	b.execute(action.NewSaga("g").Step(away{"a"}).Step(ask{}).Step(here{"c"}), saga.Confirmed)
	_, results["outside of a call"] = action.ResultOf[done1](t.Context(), "01")
	for what, want := range map[string]string{
		"of another type":   "action: the result of branch 01 for try of g/02, act.ask: the stored result does not fit the type int",
		"of an interface":   "is an interface",
		"of itself":         "there is no result",
		"of a later one":    "there is no result",
		"outside of a call": "the context is not the one of a call",
	} {
		if err := results[what]; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if !errors.Is(results["of a later one"], action.ErrNoResult) || errors.Is(results["of another type"], action.ErrNoResult) {
		t.Errorf("%v", results)
	}
}

type ask struct{}

func (ask) Branch() string { return "act.ask" }

// asks is an external action without a result.
type asks struct{ do func(context.Context) }

func (a asks) Do(ctx context.Context, _ ask) (action.None, error) {
	a.do(ctx)
	return action.None{}, nil
}
func (a asks) Compensate(context.Context, ask, *action.None) error { return nil }

// The log has the results of earlier steps in the local transaction in which a step in the engine's
// own database gets them. So its compensation gets the same, whenever the process dies.
func TestResultsAreStoredWithTheStepThatGetsThem(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		stored := -1
		sagatest.Must(t, action.Register(b.engine, counts{&stored}))
		b.execute(action.NewSaga("g").Step(away{"a"}).Step(ask{}).Step(away{"c"}), saga.Confirmed)
		if stored != 1 {
			t.Errorf("the log has %d results when the second step is done, want 1", stored)
		}
	})
}

// counts is an action that counts the results in the log.
type counts struct{ n *int }

func (c counts) Do(_ context.Context, tx *gorm.DB, _ ask) (action.None, error) {
	return action.None{}, tx.Raw("SELECT COUNT(*) FROM saga_results WHERE gid = 'g'").Scan(c.n).Error
}

func (c counts) Compensate(context.Context, *gorm.DB, ask, action.None) error { return nil }
