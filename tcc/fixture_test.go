package tcc_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// hold is the payload of a branch that holds credit, in the engine's
// database; there and here are the same in another database, and with none.
type (
	hold     struct{ Account, Cents int }
	holdAway struct{ Account, Cents int }
	holdOut  struct{ Account, Cents int }
)

func (hold) Branch() string     { return "credit.hold" }
func (holdAway) Branch() string { return "credit.away" }
func (holdOut) Branch() string  { return "credit.out" }

var errShort = errors.New("credit is short")

// faults make a branch fail on purpose.
type faults struct {
	mu    sync.Mutex
	count map[barrier.Op]int
	err   error
	calls map[barrier.Op]int
	block map[barrier.Op]chan struct{}
}

// fail lets the next n calls of op fail with err, or panic if err is nil.
func (f *faults) fail(op barrier.Op, n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count, f.err = map[barrier.Op]int{op: n}, err
}

// hold lets calls of op wait until the channel is closed.
func (f *faults) hold(op barrier.Op) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	gate := make(chan struct{})
	f.block = map[barrier.Op]chan struct{}{op: gate}
	return gate
}

func (f *faults) hit(ctx context.Context, op barrier.Op) error {
	f.mu.Lock()
	if f.calls == nil {
		f.calls = map[barrier.Op]int{}
	}
	f.calls[op]++
	fails, err, gate := f.count[op] > 0, f.err, f.block[op]
	if fails {
		f.count[op]--
	}
	f.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if fails && err == nil {
		panic("on purpose")
	}
	if fails {
		return err
	}
	return nil
}

func (f *faults) called(op barrier.Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// credit is the branch; P tells its three kinds apart.
type credit[P tcc.Payload] struct {
	db *gorm.DB
	faults
	read func(P) (account, cents int)
}

func (c *credit[P]) Database() *gorm.DB { return c.db }

func (c *credit[P]) Try(ctx context.Context, tx *gorm.DB, in P) error {
	if err := c.hit(ctx, barrier.Try); err != nil {
		return err
	}
	account, cents := c.read(in)
	result := tx.Exec("UPDATE accounts SET credit = credit - ?, held = held + ? WHERE id = ? AND credit >= ?", cents, cents, account, cents)
	if result.Error == nil && result.RowsAffected == 0 {
		return tcc.Reject(errShort)
	}
	return result.Error
}

func (c *credit[P]) Confirm(ctx context.Context, tx *gorm.DB, in P) error {
	if err := c.hit(ctx, barrier.Confirm); err != nil {
		return err
	}
	account, cents := c.read(in)
	return tx.Exec("UPDATE accounts SET held = held - ?, spent = spent + ? WHERE id = ?", cents, cents, account).Error
}

func (c *credit[P]) Cancel(ctx context.Context, tx *gorm.DB, in P) error {
	if err := c.hit(ctx, barrier.Cancel); err != nil {
		return err
	}
	account, cents := c.read(in)
	return tx.Exec("UPDATE accounts SET held = held - ?, credit = credit + ? WHERE id = ?", cents, cents, account).Error
}

// gateway is a branch without a database: a map with an idempotency key.
type gateway struct {
	faults
	afterwards bool // the fault comes after the effect, as a lost reply does
	mu         sync.Mutex
	state      map[string]string
}

func (g *gateway) act(ctx context.Context, op barrier.Op, state string) error {
	key := tcc.CallOf(ctx).Key().String()
	if !g.afterwards {
		if err := g.hit(ctx, op); err != nil {
			return err
		}
	}
	g.mu.Lock()
	if g.state == nil {
		g.state = map[string]string{}
	}
	g.state[key] = state
	g.mu.Unlock()
	if g.afterwards {
		return g.hit(ctx, op)
	}
	return nil
}

func (g *gateway) Try(ctx context.Context, in holdOut) error { return g.act(ctx, barrier.Try, "held") }
func (g *gateway) Confirm(ctx context.Context, in holdOut) error {
	return g.act(ctx, barrier.Confirm, "spent")
}
func (g *gateway) Cancel(ctx context.Context, in holdOut) error {
	return g.act(ctx, barrier.Cancel, "free")
}

func (g *gateway) at(key string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state[key]
}

// bench is an engine with the three kinds of branch.
type bench struct {
	t         *testing.T
	db, other *gorm.DB
	orch      *embedded.Engine
	here      *credit[hold]
	away      *credit[holdAway]
	out       *gateway
}

var quiet = slog.New(slog.DiscardHandler)

// quick has a short lease, so that another instance soon takes over.
var quick = embedded.Config{Lease: 400 * time.Millisecond, Retention: embedded.Forever}

func newBench(t *testing.T, db *gorm.DB, config embedded.Config) *bench {
	t.Helper()
	other := sqltest.Open(t, "sqlite")
	for _, d := range []*gorm.DB{db, other} {
		sqltest.Exec(t, d, "CREATE TABLE accounts (id INT PRIMARY KEY, credit INT NOT NULL, held INT NOT NULL, spent INT NOT NULL)")
		sqltest.Exec(t, d, "INSERT INTO accounts VALUES (1, 100, 0, 0), (2, 100, 0, 0)")
	}
	b := &bench{t: t, db: db, other: other}
	b.orch = b.open(config)
	sagatest.Run(t, b.orch)
	return b
}

// open opens one more instance with the same branches.
func (b *bench) open(config embedded.Config) *embedded.Engine {
	b.t.Helper()
	orch := sagatest.Open(b.t, b.db, config)
	if b.here == nil {
		b.here = &credit[hold]{db: b.db, read: func(p hold) (int, int) { return p.Account, p.Cents }}
		b.away = &credit[holdAway]{db: b.other, read: func(p holdAway) (int, int) { return p.Account, p.Cents }}
		b.out = &gateway{}
	}
	sagatest.Must(b.t, tcc.Register(orch, b.here))
	sagatest.Must(b.t, tcc.Register(orch, b.away))
	sagatest.Must(b.t, tcc.RegisterExternal(orch, b.out))
	return orch
}

// books checks an account: credit, held, spent.
func (b *bench) books(db *gorm.DB, account, credit, held, spent int) {
	b.t.Helper()
	var row struct{ Credit, Held, Spent int }
	sagatest.Must(b.t, db.Raw("SELECT credit, held, spent FROM accounts WHERE id = ?", account).Scan(&row).Error)
	if row.Credit != credit || row.Held != held || row.Spent != spent {
		b.t.Errorf("account %d: credit %d, held %d, spent %d; want %d, %d, %d", account, row.Credit, row.Held, row.Spent, credit, held, spent)
	}
}

// reaches waits until the transaction is in the state.
func (b *bench) reaches(gid string, state saga.State) *saga.Transaction {
	b.t.Helper()
	return sagatest.Reach(b.t, b.orch, gid, state)
}
