package tcc_test

import (
	"context"
	"errors"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// decidingBench is a bench with a further database, of the kind "orders", for local work that
// decides.
type decidingBench struct {
	*bench
	orders *gorm.DB
	order  func(gid string) func(context.Context, *gorm.DB) error
	placer *placer
}

// placeOrder is the payload of a branch that decides.
type placeOrder struct{ ID string }

func (placeOrder) Branch() string { return "orders.place" }

// placer places orders in their database.
type placer struct {
	faults
	db *gorm.DB
}

func (p *placer) Database() *gorm.DB { return p.db }

func (p *placer) Try(ctx context.Context, tx *gorm.DB, in placeOrder) error {
	if err := p.hit(ctx, barrier.Try); err != nil {
		return err
	}
	return tx.Exec("INSERT INTO orders VALUES (?)", in.ID).Error
}

func (p *placer) Confirm(context.Context, *gorm.DB, placeOrder) error {
	return errors.New("the Confirm of an action is called")
}

func (p *placer) Cancel(context.Context, *gorm.DB, placeOrder) error {
	return errors.New("the Cancel of a branch that decides is called")
}

// knowOrders makes the kinds in a handle of the orders' database known to an engine.
func (b *decidingBench) knowOrders(engine *embedded.Engine, db *gorm.DB) {
	b.t.Helper()
	placer := &placer{db: db}
	if db == b.orders {
		b.placer = placer
	}
	sagatest.Must(b.t, engine.Register(saga.NewDatabase("orders", db)))
	sagatest.Must(b.t, tcc.Register(engine, placer, tcc.AsAction[placeOrder]()))
}

func newDecidingBench(t *testing.T, db, ordersDB *gorm.DB, config embedded.Config) *decidingBench {
	t.Helper()
	b := &decidingBench{bench: newBench(t, db, config), orders: ordersDB, order: orders(t, ordersDB)}
	for _, d := range []*gorm.DB{db, b.other} {
		sqltest.Exec(t, d, "UPDATE accounts SET credit = 1000")
	}
	b.knowOrders(b.orch, ordersDB)
	return b
}

// instance runs one more instance, which knows all kinds.
func (b *decidingBench) instance(config embedded.Config) *embedded.Engine {
	b.t.Helper()
	engine := b.open(config)
	b.knowOrders(engine, b.orders)
	sagatest.Run(b.t, engine)
	return engine
}

// execute executes a plan whose local work, in the database of the orders, decides.
func (b *decidingBench) execute(ctx context.Context, gid string, work func(context.Context, *gorm.DB) error, plan ...tcc.Payload) (saga.Outcome, error) {
	return tcc.ExecuteWith(ctx, b.orch, gid, saga.Options{LocalWork: work, LocalWorkIn: "orders"}, plan...)
}

// ends waits for the end of a transaction, and checks that the order is there if and only if it
// is confirmed, and that nothing is held.
func (b *decidingBench) ends(gid string, state saga.State) {
	b.t.Helper()
	b.reaches(gid, state)
	if got := ordered(b.t, b.orders, gid); got != (state == saga.Confirmed) {
		b.t.Errorf("%s is %s, ordered %t", gid, state, got)
	}
	for _, db := range []*gorm.DB{b.db, b.other} {
		var held int
		sagatest.Must(b.t, db.Raw("SELECT SUM(held) FROM accounts").Scan(&held).Error)
		if held != 0 {
			b.t.Errorf("%s is %s, and %d is held", gid, state, held)
		}
	}
}

// barrierOf returns the state of the barrier row of the order; empty if there is none.
func (b *decidingBench) barrierOf(gid string) barrier.State {
	b.t.Helper()
	rows, err := barrier.Look(b.t.Context(), b.orders, gid)
	sagatest.Must(b.t, err)
	if len(rows) == 0 {
		return ""
	}
	return rows[0].State
}
