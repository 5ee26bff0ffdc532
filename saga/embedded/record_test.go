package embedded_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// asked is a service whose branch decides, and one whose branch comes after it.
type asked struct {
	mu      sync.Mutex
	answers []error // to questions; the last one is repeated
	calls   []string
}

func (e *asked) call(c saga.Call) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls = append(e.calls, c.Kind+" "+string(c.Op))
	if c.Op != barrier.Ask {
		return nil
	}
	answer := e.answers[0]
	if len(e.answers) > 1 {
		e.answers = e.answers[1:]
	}
	return answer
}

func (e *asked) heard() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.calls)
}

func (e *asked) register(t *testing.T, engine *embedded.Engine) {
	for _, kind := range []string{"order", "mail"} {
		sagatest.Must(t, engine.Register(saga.NewRemote(kind, encode, remote(e.call)).AsAction()))
	}
}

func recorded(gid string, timeout time.Duration) saga.Plan {
	return saga.Plan{GID: gid, Pattern: "test", Options: saga.Options{Timeout: timeout},
		Steps: []saga.Step{{Kind: "order", Decides: true}, {Kind: "mail", AfterDecision: true}}}
}

// A recorded transaction calls nothing before its deadline. Then the branch that decides is
// asked until it answers, and decides.
func TestRecord(t *testing.T) {
	down := errors.New("down")
	for name, c := range map[string]recordCase{
		"committed":     {[]error{down, down, nil}, saga.Confirmed, []string{"mail apply", "order ask", "order ask", "order ask", "order confirm"}},
		"not committed": {[]error{down, saga.ErrNotCommitted}, saga.Cancelled, []string{"order ask", "order ask"}},
	} {
		t.Run(name, func(t *testing.T) {
			sqltest.Each(t, func(t *testing.T, db *gorm.DB) { testRecord(t, db, c) })
		})
	}
}

type recordCase struct {
	answers []error
	ends    saga.State
	calls   []string // sorted
}

func testRecord(t *testing.T, db *gorm.DB, c recordCase) {
	ctx := t.Context()
	e := &asked{answers: c.answers}
	engine := sagatest.Open(t, db, embedded.Config{MinBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond, Poll: 10 * time.Millisecond})
	e.register(t, engine)
	plan := recorded("a", time.Hour)
	sagatest.Must(t, engine.Record(ctx, plan))
	sagatest.Must(t, engine.Record(ctx, plan))
	found, err := engine.Lookup(ctx, "a")
	if err != nil || found.State != saga.Trying || found.Owner != "" || len(found.Branches) != 2 || len(e.heard()) > 0 {
		t.Errorf("%+v, %v, %v", found, err, e.heard())
	}
	if left := found.DeadlineAt.Sub(found.CreatedAt); left < 59*time.Minute || found.DueAt.Sub(found.DeadlineAt).Abs() > time.Second {
		t.Errorf("due at %s, deadline at %s, begun at %s", found.DueAt, found.DeadlineAt, found.CreatedAt)
	}
	if _, err := engine.Confirm(ctx, "a", saga.Options{}); !errors.Is(err, saga.ErrNotOpen) {
		t.Errorf("%v", err)
	}
	longer := recorded("a", time.Hour)
	longer.Steps = append(longer.Steps, longer.Steps[1])
	if err := engine.Record(ctx, longer); !errors.Is(err, saga.ErrMismatch) {
		t.Errorf("another plan: %v", err)
	}
	if err := engine.Begin(ctx, saga.Opening{GID: "a", Pattern: "test"}); !errors.Is(err, saga.ErrMismatch) {
		t.Errorf("begin: %v", err)
	}
	sagatest.Must(t, db.Exec("UPDATE saga_transactions SET deadline_at = created_at, due_at = created_at WHERE gid = 'a'").Error)
	sagatest.Run(t, engine)
	if state, calls := ends(t, engine, "a"), slices.Sorted(slices.Values(e.heard())); state != c.ends || !slices.Equal(calls, c.calls) {
		t.Errorf("%s, %v", state, calls)
	}
	sagatest.Must(t, engine.Record(ctx, plan)) // a late one
}

// Cancel asks before the deadline.
func TestCancelOfARecordedTransaction(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e := &asked{answers: []error{errors.New("down"), nil, saga.ErrNotCommitted}}
	engine := sagatest.Open(t, sqltest.Open(t, "sqlite"), still)
	e.register(t, engine)
	sagatest.Run(t, engine)
	for _, gid := range []string{"a", "b"} {
		sagatest.Must(t, engine.Record(ctx, recorded(gid, time.Hour)))
	}
	if _, err := engine.Cancel(ctx, "a", ""); !errors.Is(err, saga.ErrUnknown) {
		t.Errorf("%v", err)
	}
	if found, err := engine.Lookup(ctx, "a"); err != nil || found.State != saga.Trying {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := engine.Cancel(ctx, "a", ""); !errors.Is(err, saga.ErrConfirmed) {
		t.Errorf("%v", err)
	}
	sagatest.Must(t, second(engine.Cancel(ctx, "b", "")))
	if state := ends(t, engine, "a"); state != saga.Confirmed {
		t.Error(state)
	}
	if state := ends(t, engine, "b"); state != saga.Cancelled {
		t.Error(state)
	}
}

func TestRecordRefuses(t *testing.T) {
	t.Parallel()
	e := &asked{}
	engine := opened(t, sqltest.Open(t, "sqlite"), still)
	e.register(t, engine)
	for name, change := range map[string]func(*saga.Plan){
		"no steps":             func(p *saga.Plan) { p.Steps = nil },
		"nothing decides":      func(p *saga.Plan) { p.Steps = p.Steps[1:] },
		"a step before it":     func(p *saga.Plan) { p.Steps = append([]saga.Step{{Kind: "mail"}}, p.Steps...) },
		"a step that is tried": func(p *saga.Plan) { p.Steps[1].AfterDecision = false },
		"two decide":           func(p *saga.Plan) { p.Steps[1] = p.Steps[0] },
		"TryAttempts":          func(p *saga.Plan) { p.TryAttempts = 2 },
		"LocalWorkIn":          func(p *saga.Plan) { p.LocalWorkIn = "order" },
		"timeout":              func(p *saga.Plan) { p.Timeout = -1 },
	} {
		plan := recorded("a", 0)
		change(&plan)
		if err := engine.Record(t.Context(), plan); !errors.Is(err, saga.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	sagatest.Must(t, engine.PauseKind(t.Context(), "mail", operator))
	if err := engine.Record(t.Context(), recorded("a", 0)); !errors.Is(err, saga.ErrPaused) {
		t.Errorf("%v", err)
	}
	if heard := e.heard(); len(heard) > 0 {
		t.Error(heard)
	}
}
