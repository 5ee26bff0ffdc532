package tcc_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/participant"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// tries is the order in which Trys were called, and of which Cancels.
type tries struct {
	mu     sync.Mutex
	order  []string
	given  []string // back, by Cancels
	refuse string   // the letter that rejects
}

func (s *tries) try(letter string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.order = append(s.order, letter)
	if letter == s.refuse {
		return tcc.RejectCode("no."+letter, errors.New("no"))
	}
	return nil
}

func (s *tries) cancel(letter string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given = append(s.given, letter)
	return nil
}

// Branches that note their Trys: resident, away, External, remote.
type (
	stepHere struct{ L string }
	stepAway struct{ L string }
	stepOut  struct{ L string }
	stepFar  struct{ L string }
)

func (stepHere) Branch() string { return "step.here" }
func (stepAway) Branch() string { return "step.away" }
func (stepOut) Branch() string  { return "step.out" }
func (stepFar) Branch() string  { return "step.far" }

type stepBranch[P tcc.Payload] struct {
	*tries
	db   *gorm.DB
	read func(P) string
}

func (b stepBranch[P]) Database() *gorm.DB { return b.db }
func (b stepBranch[P]) Try(_ context.Context, tx *gorm.DB, in P) error {
	if err := tx.Exec("INSERT INTO steps VALUES (?)", b.read(in)).Error; err != nil {
		return err
	}
	return b.try(b.read(in))
}
func (b stepBranch[P]) Confirm(context.Context, *gorm.DB, P) error { return nil }
func (b stepBranch[P]) Cancel(_ context.Context, tx *gorm.DB, in P) error {
	if err := tx.Exec("DELETE FROM steps WHERE letter = ?", b.read(in)).Error; err != nil {
		return err
	}
	return b.cancel(b.read(in))
}

type stepExternal struct{ *tries }

func (b stepExternal) Try(_ context.Context, in stepOut) error    { return b.try(in.L) }
func (b stepExternal) Confirm(context.Context, stepOut) error     { return nil }
func (b stepExternal) Cancel(_ context.Context, in stepOut) error { return b.cancel(in.L) }

// stepRemote calls a participant in a database of its own.
type stepRemote struct{ p *participant.Participant }

func (r stepRemote) Call(ctx context.Context, call saga.Call) error { return r.p.Call(ctx, call) }

type planBench struct {
	*tries
	t    *testing.T
	here *gorm.DB
	dbs  []*gorm.DB // here first
	orch *embedded.Engine
}

func newPlanBench(t *testing.T, db *gorm.DB, config embedded.Config) *planBench {
	p := &planBench{tries: &tries{}, t: t, here: db, dbs: []*gorm.DB{db, sqltest.Open(t, "sqlite"), sqltest.Open(t, "sqlite")}}
	for _, db := range p.dbs {
		sqltest.Exec(t, db, "CREATE TABLE steps (letter VARCHAR(8))")
	}
	p.orch = sagatest.Open(t, db, config)
	participant, err := participant.New(t.Context(), p.dbs[2], participant.Config{Logger: quiet})
	sagatest.Must(t, err)
	sagatest.Must(t, tcc.Register(p.orch, stepBranch[stepHere]{p.tries, db, func(in stepHere) string { return in.L }}))
	sagatest.Must(t, tcc.Register(p.orch, stepBranch[stepAway]{p.tries, p.dbs[1], func(in stepAway) string { return in.L }}))
	sagatest.Must(t, tcc.RegisterExternal(p.orch, stepExternal{p.tries}))
	sagatest.Must(t, tcc.Register(participant, stepBranch[stepFar]{p.tries, p.dbs[2], func(in stepFar) string { return in.L }}))
	sagatest.Must(t, tcc.RegisterRemote[stepFar](p.orch, stepRemote{participant}))
	sagatest.Run(t, p.orch)
	return p
}

// plan makes payloads of a text of letters: h, a, o and f for here, away, out, far;
// each is followed by its place.
func plan(text string) (payloads []tcc.Payload, letters []string) {
	for i, where := range text {
		letter := string(where) + string('1'+rune(i))
		letters = append(letters, letter)
		switch where {
		case 'h':
			payloads = append(payloads, stepHere{letter})
		case 'a':
			payloads = append(payloads, stepAway{letter})
		case 'o':
			payloads = append(payloads, stepOut{letter})
		case 'f':
			payloads = append(payloads, stepFar{letter})
		}
	}
	return payloads, letters
}

func (p *planBench) left() (n int) {
	for _, db := range p.dbs {
		var rows int
		sagatest.Must(p.t, db.Raw("SELECT COUNT(*) FROM steps").Scan(&rows).Error)
		n += rows
	}
	return n
}
