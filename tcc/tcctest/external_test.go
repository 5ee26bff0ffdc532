package tcctest_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
	"github.com/tccsaga/tccsaga/tcc/tcctest"
)

// gateway is the other side of a branch without a database.
type gateway struct {
	mu                sync.Mutex
	free, held, spent int
	by                map[string]string // what was done, by key
}

func (g *gateway) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free, g.held, g.spent, g.by = 100, 0, 0, map[string]string{}
}

func (g *gateway) account() account {
	g.mu.Lock()
	defer g.mu.Unlock()
	return account{g.free, g.held, g.spent}
}

type charge struct{ Cents int }

func (charge) Branch() string { return "gateway.charge" }

// external is a branch without fault, unless one is planted.
type external struct {
	*gateway
	blindCancel bool // gives back what was never reserved
	noKey       bool // confirms again when it is called again
	oversells   bool
}

func (e external) Try(ctx context.Context, in charge) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.free < in.Cents && !e.oversells {
		return tcc.Reject(errors.New("credit is short"))
	}
	e.free, e.held = e.free-in.Cents, e.held+in.Cents
	e.by[keyOf(ctx)] = "held"
	return nil
}

func (e external) Confirm(ctx context.Context, in charge) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if key := keyOf(ctx); e.noKey || e.by[key] == "held" {
		e.by[key] = "spent"
		e.held, e.spent = e.held-in.Cents, e.spent+in.Cents
	}
	return nil
}

func (e external) Cancel(ctx context.Context, in charge) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if key := keyOf(ctx); e.blindCancel || e.by[key] == "held" {
		e.by[key] = "free"
		e.held, e.free = e.held-in.Cents, e.free+in.Cents
	}
	return nil
}

// keyOfCall is the key of a call that has come over HTTP.
type keyOfCall struct{}

func keyOf(ctx context.Context) string {
	if key, ok := ctx.Value(keyOfCall{}).(string); ok {
		return key
	}
	return tcc.CallOf(ctx).Key().String()
}

// caseOf is the case of 30 cents of a hundred, at a gateway.
func caseOf(g *gateway) tcctest.Case[charge] {
	return tcctest.Case[charge]{
		Name:    "thirty",
		Payload: charge{30},
		Reset:   func(context.Context, *gorm.DB) error { g.reset(); return nil },
		State:   func(context.Context, *gorm.DB) (any, error) { return g.account(), nil },
		Tried:   account{70, 30, 0}, Confirmed: account{70, 0, 30},
		Capacity: 3,
	}
}

func exerciseGateway(t testing.TB, db *gorm.DB, branch external) {
	t.Helper()
	tcctest.ExerciseExternal(t, db, branch, caseOf(branch.gateway))
}

func TestExternalBranches(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	exerciseGateway(t, db, external{gateway: &gateway{}})
	for says, branch := range map[string]external{
		"after Try, marked and never sent because of a crash, Cancel: the state is {Free:130 Held:-30 Spent:0}": {blindCancel: true},
		"after Try, Confirm, of which the reply is lost, Confirm: the state is {Free:70 Held:-30 Spent:60}":     {noKey: true},
		"10 Trys succeeded, want 3, which is Case.Capacity":                                                     {oversells: true},
	} {
		branch.gateway = &gateway{}
		if got := record(t, func(t testing.TB) { exerciseGateway(t, db, branch) }); !strings.Contains(got, says) {
			t.Errorf("said:\n%s\nwant:\n%s", got, says)
		}
	}
}
