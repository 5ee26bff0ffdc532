package tcc_test

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/tcc"
)

// The newer version of the three branches of the bench: hold has another
// payload, holdAway has another kind, and holdOut has both.
type (
	amount struct{ Cents int }
	holdV2 struct {
		Account int
		Amount  amount
	}
	reserveAway holdAway
	holdOutV2   struct {
		Account int
		Amount  amount
	}
)

func (holdV2) Branch() string      { return "credit.hold.v2" }
func (reserveAway) Branch() string { return "credit.reserve.away" }
func (holdOutV2) Branch() string   { return "credit.out.v2" }

func upgradeHold(old hold) (holdV2, error) {
	if old.Account == 0 {
		return holdV2{}, errors.New("no account")
	}
	return holdV2{old.Account, amount{old.Cents}}, nil
}

// gatewayV2 is the gateway as the newer version calls it.
type gatewayV2 struct{ *gateway }

func (g gatewayV2) Try(ctx context.Context, in holdOutV2) error {
	return g.gateway.Try(ctx, holdOut{in.Account, in.Amount.Cents})
}
func (g gatewayV2) Confirm(ctx context.Context, in holdOutV2) error {
	return g.gateway.Confirm(ctx, holdOut{in.Account, in.Amount.Cents})
}
func (g gatewayV2) Cancel(ctx context.Context, in holdOutV2) error {
	return g.gateway.Cancel(ctx, holdOut{in.Account, in.Amount.Cents})
}

// openNew opens an instance of the newer version beside those of the bench.
func (b *bench) openNew() *embedded.Engine {
	b.t.Helper()
	orch := sagatest.Open(b.t, b.db, quick)
	sagatest.Must(b.t, tcc.Register(orch, &credit[holdV2]{db: b.db, read: func(p holdV2) (int, int) { return p.Account, p.Amount.Cents }},
		tcc.Upgrade("credit.hold", upgradeHold)))
	sagatest.Must(b.t, tcc.Register(orch, &credit[reserveAway]{db: b.other, read: func(p reserveAway) (int, int) { return p.Account, p.Cents }},
		tcc.Alias[reserveAway]("credit.away")))
	sagatest.Must(b.t, tcc.RegisterExternal(orch, gatewayV2{b.out},
		tcc.Upgrade("credit.out", func(old holdOut) (holdOutV2, error) { return holdOutV2{old.Account, amount{old.Cents}}, nil })))
	sagatest.Run(b.t, orch)
	return orch
}

var (
	oldPlan = []tcc.Payload{hold{1, 30}, holdAway{1, 20}, holdOut{1, 10}}
	newPlan = []tcc.Payload{holdV2{1, amount{30}}, reserveAway{1, 20}, holdOutV2{1, amount{10}}}
)

// bulkCredit keeps the items that it was called with in bulk.
type bulkCredit struct {
	kept[holdV2]
	items []tcc.Item[holdV2]
}

func (c *bulkCredit) TryAll(_ context.Context, _ *gorm.DB, items []tcc.Item[holdV2]) ([]error, error) {
	c.items = items
	return nil, nil
}

func (c *bulkCredit) ConfirmAll(_ context.Context, _ *gorm.DB, items []tcc.Item[holdV2]) error {
	c.items = items
	return nil
}

func (c *bulkCredit) Deliver(context.Context, holdV2) (any, error) { return nil, nil }

func (c *bulkCredit) DeliverAll(_ context.Context, items []tcc.Item[holdV2]) ([]any, []error) {
	c.items = items
	return make([]any, len(items)), nil
}

// remote is a service elsewhere.
type remote struct{}

func (remote) Call(context.Context, saga.Call) error { return nil }
