package otelsaga_test

import (
	"context"
	"encoding/json"
	"errors"
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

// Kinds of branches: stock is in the engine's own database, card in another one, and seat in
// another service.
const (
	stock = "stock"
	card  = "card"
	seat  = "seat"
)

// shop has a log, and the branches of its engines.
type shop struct {
	t     *testing.T
	db    *gorm.DB
	cards *gorm.DB

	mu   sync.Mutex
	work map[string]func(ctx context.Context, tx *gorm.DB, call saga.Call) error // by kind and operation
}

func newShop(t *testing.T, db *gorm.DB) *shop {
	t.Helper()
	return &shop{t: t, db: db, cards: sqltest.Open(t, db.Name()), work: map[string]func(context.Context, *gorm.DB, saga.Call) error{}}
}

// on sets what a branch does in an operation. By default, it does nothing.
func (s *shop) on(kind string, op barrier.Op, work func(ctx context.Context, tx *gorm.DB, call saga.Call) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.work[kind+" "+string(op)] = work
}

func (s *shop) run(ctx context.Context, tx *gorm.DB, call saga.Call) error {
	s.mu.Lock()
	work := s.work[call.Kind+" "+string(call.Op)]
	s.mu.Unlock()
	if work == nil {
		return nil
	}
	return work(ctx, tx, call)
}

func encode(input any) ([]byte, error) { return json.Marshal(input) }

// open opens an engine with the branches, which does not run.
func (s *shop) open(config embedded.Config, observers ...saga.Observer) *embedded.Engine {
	s.t.Helper()
	if config.Lease == 0 {
		config.Lease = 20 * time.Second // the machine may be slow
	}
	config.Observers, config.Retention = observers, embedded.Forever
	engine := sagatest.Open(s.t, s.db, config)
	s.register(engine)
	return engine
}

func (s *shop) register(to saga.Registrar) {
	s.t.Helper()
	sagatest.Must(s.t, to.Register(saga.NewLocal(stock, encode, saga.Local{Work: s.run})))
	sagatest.Must(s.t, to.Register(saga.NewLocal(card, encode, saga.Local{Work: s.run, Database: s.cards})))
}

// start opens an engine and runs it.
func (s *shop) start(config embedded.Config, observers ...saga.Observer) *embedded.Engine {
	s.t.Helper()
	engine := s.open(config, observers...)
	sagatest.Run(s.t, engine)
	return engine
}

// plan returns a plan of kinds.
func plan(gid string, kinds ...string) saga.Plan {
	p := saga.Plan{GID: gid, Pattern: "shop"}
	for _, kind := range kinds {
		p.Steps = append(p.Steps, saga.Step{Kind: kind, Input: gid})
	}
	return p
}

var errDown = errors.New("the service is down")

// failing returns a work that fails a number of times.
func failing(times int) func(context.Context, *gorm.DB, saga.Call) error {
	var mu sync.Mutex
	return func(context.Context, *gorm.DB, saga.Call) error {
		mu.Lock()
		defer mu.Unlock()
		if times--; times >= 0 {
			return errDown
		}
		return nil
	}
}
