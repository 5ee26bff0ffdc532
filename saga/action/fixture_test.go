package action_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/action"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/participant"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

var (
	errNo   = errors.New("none is left")
	errDown = errors.New("it is down")
	quiet   = slog.New(slog.DiscardHandler)
)

// patience is far more than a busy machine needs.
const patience = time.Minute

// Actions in the engine's database, in another one, in no database, and in a service; and TCC
// branches in the first two.
type (
	here     struct{ L string }
	away     struct{ L string }
	out      struct{ L string }
	far      struct{ L string }
	hold     struct{ L string }
	holdAway struct{ L string }
)

func (here) Branch() string     { return "act.here" }
func (away) Branch() string     { return "act.away" }
func (out) Branch() string      { return "act.out" }
func (far) Branch() string      { return "act.far" }
func (hold) Branch() string     { return "tcc.hold" }
func (holdAway) Branch() string { return "tcc.away" }

// payload makes a payload of a letter and a place, as "a:away".
func payload(letter, place string) tcc.Payload {
	return map[string]tcc.Payload{
		"here": here{letter}, "away": away{letter}, "out": out{letter}, "far": far{letter}, "hold": hold{letter}, "holdAway": holdAway{letter},
	}[place]
}

// local is an action in a database.
type local[P tcc.Payload] struct {
	*journal
	db   *gorm.DB
	read func(P) string
}

func (a local[P]) Database() *gorm.DB { return a.db }

func (a local[P]) Do(ctx context.Context, tx *gorm.DB, in P) (done1, error) {
	n, err := a.enter(ctx, "do", a.read(in))
	if err != nil {
		return done1{}, err
	}
	return made(a.read(in), n), a.write(ctx, tx, "do", a.read(in), "")
}

func (a local[P]) Compensate(ctx context.Context, tx *gorm.DB, in P, done done1) error {
	if _, err := a.enter(ctx, "undo", a.read(in)); err != nil {
		return err
	}
	return a.write(ctx, tx, "undo", a.read(in), done.Made)
}

// gateway is an action without a database.
type gateway struct {
	*journal
	after bool // a fault comes after the effect
	keys  []string
}

func (g *gateway) Do(ctx context.Context, in out) (done1, error) {
	g.mu.Lock()
	g.keys = append(g.keys, action.IdempotencyKey(ctx))
	g.mu.Unlock()
	if g.after {
		g.note(ctx, "do", in.L, "")
	}
	n, err := g.enter(ctx, "do", in.L)
	if err != nil {
		return done1{}, err
	}
	if !g.after {
		g.note(ctx, "do", in.L, "")
	}
	return made(in.L, n), nil
}

func (g *gateway) Compensate(ctx context.Context, in out, done *done1) error {
	if _, err := g.enter(ctx, "undo", in.L); err != nil {
		return err
	}
	result := "nil"
	if done != nil {
		result = done.Made
	}
	g.note(ctx, "undo", in.L, result)
	return nil
}

// reservation is a TCC branch.
type reservation[P tcc.Payload] struct {
	*journal
	db   *gorm.DB
	read func(P) string
}

func (r reservation[P]) Database() *gorm.DB { return r.db }

func (r reservation[P]) Try(ctx context.Context, tx *gorm.DB, in P) error {
	return r.call(ctx, tx, "try", in)
}

func (r reservation[P]) Confirm(ctx context.Context, tx *gorm.DB, in P) error {
	return r.call(ctx, tx, "confirm", in)
}

func (r reservation[P]) Cancel(ctx context.Context, tx *gorm.DB, in P) error {
	return r.call(ctx, tx, "cancel", in)
}

func (r reservation[P]) call(ctx context.Context, tx *gorm.DB, what string, in P) error {
	if _, err := r.enter(ctx, what, r.read(in)); err != nil {
		return err
	}
	return r.write(ctx, tx, what, r.read(in), "")
}

// bench is an engine with all kinds.
type bench struct {
	t                *testing.T
	db, other, third *gorm.DB
	engine           *embedded.Engine
	journal          *journal
	gateway          *gateway
	service          service
}

// service is the way to a participant in this process.
type service struct{ *participant.Participant }

func newBench(t *testing.T, db *gorm.DB, config embedded.Config) *bench {
	t.Helper()
	b := newStill(t, db, config)
	sagatest.Run(t, b.engine)
	return b
}

// newStill is newBench without a running engine: it drives nothing in the background. After [bench.die]
// it is as good as a process that was killed.
func newStill(t *testing.T, db *gorm.DB, config embedded.Config) *bench {
	t.Helper()
	b := &bench{t: t, db: db, other: sqltest.Open(t, "sqlite")}
	b.fill(config)
	return b
}

// fill makes the parts of a bench in its databases.
func (b *bench) fill(config embedded.Config) {
	b.t.Helper()
	b.third, b.journal = sqltest.Open(b.t, "sqlite"), newJournal()
	for _, db := range []*gorm.DB{b.db, b.other, b.third} {
		createJournal(b.t, db)
	}
	b.gateway = &gateway{journal: b.journal}
	p, err := participant.New(b.t.Context(), b.third, participant.Config{Logger: quiet})
	sagatest.Must(b.t, err)
	b.service = service{p}
	sagatest.Must(b.t, action.Register(p, local[far]{b.journal, nil, func(in far) string { return in.L }}))
	b.engine = b.open(config)
}

// open opens one more instance with the same kinds.
func (b *bench) open(config embedded.Config) *embedded.Engine {
	b.t.Helper()
	engine := sagatest.Open(b.t, b.db, config)
	sagatest.Must(b.t, action.Register(engine, local[here]{b.journal, nil, func(in here) string { return in.L }}))
	sagatest.Must(b.t, action.Register(engine, local[away]{b.journal, b.other, func(in away) string { return in.L }}))
	sagatest.Must(b.t, action.RegisterExternal(engine, b.gateway))
	sagatest.Must(b.t, action.RegisterRemote[far](engine, b.service))
	sagatest.Must(b.t, tcc.Register(engine, reservation[hold]{b.journal, nil, func(in hold) string { return in.L }}))
	sagatest.Must(b.t, tcc.Register(engine, reservation[holdAway]{b.journal, b.other, func(in holdAway) string { return in.L }}))
	return engine
}

// die ends the lease of the engine of a still bench, as the death of its process does, and makes
// its transactions due.
func (b *bench) die() {
	b.t.Helper()
	sqltest.Exec(b.t, b.db, "DELETE FROM saga_instances")
	sqltest.Exec(b.t, b.db, "UPDATE saga_attempts SET next_at = failed_at")
	sqltest.Exec(b.t, b.db, "UPDATE saga_transactions SET due_at = created_at WHERE due_at IS NOT NULL")
}

// still is the configuration of an engine that does not retry.
var still = embedded.Config{Lease: time.Minute, Retention: embedded.Forever, MinBackoff: time.Hour, MaxBackoff: time.Hour}

// quick has a short lease, so that another instance soon takes over.
var quick = embedded.Config{Lease: 400 * time.Millisecond, Retention: embedded.Forever}

// execute executes a saga, which has to end in the state.
func (b *bench) execute(s *action.Saga, want saga.State) (saga.Outcome, error) {
	b.t.Helper()
	return b.executeWith(s, saga.Options{}, want)
}

func (b *bench) executeWith(s *action.Saga, options saga.Options, want saga.State) (saga.Outcome, error) {
	b.t.Helper()
	outcome, err := s.ExecuteWith(b.t.Context(), b.engine, options)
	if options.TryAttempts != 0 && err == nil && want == saga.Confirmed { // it returns when it is decided, if a step was repeated
		outcome.State = b.reaches(s.GID(), want).State
	}
	if outcome.State != want || (err == nil) != (want == saga.Confirmed || want == saga.Confirming) {
		b.t.Fatalf("it is %q with the error %v, want %s", outcome.State, err, want)
	}
	return outcome, err
}
