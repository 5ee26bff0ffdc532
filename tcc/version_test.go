package tcc_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/sql/sqltest"
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
	orch, err := embedded.Open(b.t.Context(), b.db, quick)
	must(b.t, err)
	must(b.t, tcc.Register(orch, &credit[holdV2]{db: b.db, read: func(p holdV2) (int, int) { return p.Account, p.Amount.Cents }},
		tcc.Upgrade("credit.hold", upgradeHold)))
	must(b.t, tcc.Register(orch, &credit[reserveAway]{db: b.other, read: func(p reserveAway) (int, int) { return p.Account, p.Cents }},
		tcc.Alias[reserveAway]("credit.away")))
	must(b.t, tcc.RegisterExternal(orch, gatewayV2{b.out},
		tcc.Upgrade("credit.out", func(old holdOut) (holdOutV2, error) { return holdOutV2{old.Account, amount{old.Cents}}, nil })))
	b.run(orch)
	return orch
}

var (
	oldPlan = []tcc.Payload{hold{1, 30}, holdAway{1, 20}, holdOut{1, 10}}
	newPlan = []tcc.Payload{holdV2{1, amount{30}}, reserveAway{1, 20}, holdOutV2{1, amount{10}}}
)

func tryAll(t *testing.T, engine saga.Engine, gid string, plan []tcc.Payload) {
	t.Helper()
	tx, err := tcc.Begin(t.Context(), engine, gid, saga.Options{})
	must(t, err)
	for _, payload := range plan {
		must(t, tx.Try(t.Context(), payload))
	}
}

// Two versions run side by side on one log. Open transactions of the older one
// are decided and finished by the newer one.
func TestNewerVersionFinishesWhatTheOlderOneOpened(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick) // the older version
		newer := b.openNew()
		confirmed, cancelled := newGID(), newGID()
		tryAll(t, b.orch, confirmed, oldPlan)
		tx, err := tcc.Resume(t.Context(), newer, confirmed)
		must(t, err)
		must(t, tx.Try(t.Context(), holdV2{2, amount{5}})) // and a branch of the newer version
		outcome, err := tx.Confirm(t.Context())
		if err != nil || outcome.State != saga.Confirmed {
			t.Fatalf("%+v, %v", outcome, err)
		}
		b.books(b.db, 1, 70, 0, 30)
		b.books(b.db, 2, 95, 0, 5)
		b.books(b.other, 1, 80, 0, 20)
		if at := b.out.at(confirmed + "/03"); at != "spent" {
			t.Errorf("the gateway says %q", at)
		}

		tryAll(t, b.orch, cancelled, oldPlan)
		tx, err = tcc.Resume(t.Context(), newer, cancelled)
		must(t, err)
		outcome, err = tx.Cancel(t.Context(), "the customer left")
		if err != nil || outcome.State != saga.Cancelled {
			t.Fatalf("%+v, %v", outcome, err)
		}
		b.books(b.db, 1, 70, 0, 30)
		b.books(b.other, 1, 80, 0, 20)
		if at := b.out.at(cancelled + "/03"); at != "free" {
			t.Errorf("the gateway says %q", at)
		}
	})
}

// Plans that the older version has decided and not finished, and open
// transactions that it has left to their deadline, are finished by the newer one.
func TestNewerVersionTakesOverFromTheOlderOne(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		planned, expiring := newGID(), newGID()
		tx, err := tcc.Begin(t.Context(), b.orch, expiring, saga.Options{Timeout: time.Second})
		must(t, err)
		must(t, tx.Try(t.Context(), hold{2, 5}))
		b.away.fail(barrier.Confirm, 1<<30, errors.New("not yet"))
		outcome, err := tcc.Execute(t.Context(), b.orch, planned, oldPlan...)
		if err != nil || outcome.State != saga.Confirming {
			t.Fatalf("%+v, %v", outcome, err)
		}
		must(t, b.orch.Stop(t.Context()))
		b.orch = b.openNew()
		b.reaches(planned, saga.Confirmed)
		b.books(b.db, 1, 70, 0, 30)
		b.books(b.other, 1, 80, 0, 20)
		b.reaches(expiring, saga.Cancelled)
		b.books(b.db, 2, 100, 0, 0)
	})
}

// While instances of the older version run, the newer one can still begin
// transactions of the older kinds, which both can finish.
func TestOlderVersionFinishesWhatTheNewerOneBeganForIt(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick) // the older version
		newer := b.openNew()
		gid := newGID()
		plan := []tcc.Payload{oldPlan[0], oldPlan[2]}
		tryAll(t, newer, gid, plan)
		tx, err := tcc.Resume(t.Context(), b.orch, gid)
		must(t, err)
		outcome, err := tx.Confirm(t.Context())
		if err != nil || outcome.State != saga.Confirmed {
			t.Fatalf("%+v, %v", outcome, err)
		}
		b.books(b.db, 1, 70, 0, 30)

		// The same request on either version is the same transaction.
		executed := newGID()
		for _, engine := range []saga.Engine{newer, b.orch} {
			outcome, err = tcc.Execute(t.Context(), engine, executed, plan...)
			if err != nil || outcome.State != saga.Confirmed {
				t.Fatalf("%+v, %v", outcome, err)
			}
		}
		b.books(b.db, 1, 40, 0, 60)
	})
}

// A kind is renamed in two steps, and each step finishes what the other began.
func TestRenamingAKind(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		open := func(register func(saga.Registrar) error) *embedded.Engine {
			orch, err := embedded.Open(t.Context(), db, quick)
			must(t, err)
			must(t, register(orch))
			b.run(orch)
			return orch
		}
		knowsBoth := open(func(r saga.Registrar) error {
			return tcc.Register(r, b.away, tcc.Alias[holdAway]("credit.reserve.away"))
		})
		renamed := open(func(r saga.Registrar) error {
			return tcc.Register(r, &credit[reserveAway]{db: b.other, read: func(p reserveAway) (int, int) { return p.Account, p.Cents }},
				tcc.Alias[reserveAway]("credit.away"))
		})
		for i, side := range []struct {
			begins, decides saga.Engine
			payload         tcc.Payload
		}{{knowsBoth, renamed, holdAway{1, 10}}, {renamed, knowsBoth, reserveAway{1, 10}}} {
			gid := newGID()
			tryAll(t, side.begins, gid, []tcc.Payload{side.payload})
			tx, err := tcc.Resume(t.Context(), side.decides, gid)
			must(t, err)
			outcome, err := tx.Confirm(t.Context())
			if err != nil || outcome.State != saga.Confirmed {
				t.Fatalf("%+v, %v", outcome, err)
			}
			b.books(b.other, 1, 90-10*i, 0, 10+10*i)
		}
	})
}

// The older version decides a transaction of newer kinds, and leaves its branches
// to the newer one.
func TestOlderVersionDecidesWhatTheNewerOneBegan(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		older, newer := b.orch, b.openNew()
		b.orch = newer
		confirmed, cancelled := newGID(), newGID()
		tryAll(t, newer, confirmed, newPlan)
		tryAll(t, newer, cancelled, newPlan)
		tx, err := tcc.Resume(t.Context(), older, confirmed)
		must(t, err)
		outcome, err := tx.Confirm(t.Context())
		if err != nil || outcome.Finished() {
			t.Fatalf("%+v, %v", outcome, err)
		}
		tx, err = tcc.Resume(t.Context(), older, cancelled)
		must(t, err)
		outcome, err = tx.Cancel(t.Context(), "the customer left")
		if err != nil || outcome.Finished() {
			t.Fatalf("%+v, %v", outcome, err)
		}
		must(t, older.Stop(t.Context()))
		b.reaches(confirmed, saga.Confirmed)
		b.reaches(cancelled, saga.Cancelled)
		b.books(b.db, 1, 70, 0, 30)
		b.books(b.other, 1, 80, 0, 20)
		if at := b.out.at(confirmed + "/03"); at != "spent" {
			t.Errorf("the gateway says %q", at)
		}
	})
}

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

// In bulk, as one by one, a branch gets the payload of its own version.
func TestVersionsInBulk(t *testing.T) {
	t.Parallel()
	c, b := catcher{}, &bulkCredit{}
	must(t, tcc.Register(c, b, tcc.Upgrade("credit.hold", upgradeHold), tcc.Alias[holdV2]("credit.hold.v3")))
	for kind, payload := range map[string]string{
		"credit.hold":    `{"Account":1,"Cents":7}`,
		"credit.hold.v2": `{"Account":1,"Amount":{"Cents":7}}`,
		"credit.hold.v3": `{"Account":1,"Amount":{"Cents":7}}`,
	} {
		calls := []saga.BatchCall{{Call: saga.Call{GID: "g", BranchID: "01", Kind: kind, Payload: []byte(payload)}}}
		check := func(what string) {
			t.Helper()
			if len(b.items) != 1 || b.items[0].In != (holdV2{1, amount{7}}) || b.items[0].Kind != kind {
				t.Errorf("%s of %s got %+v", what, kind, b.items)
			}
			b.items = nil
		}
		for _, op := range []barrier.Op{barrier.Try, barrier.Confirm} {
			_, err := c[kind].Shape().(saga.Local).WorkBatch(t.Context(), noDatabase(t), op, calls)
			must(t, err)
			check(string(op))
		}
		c[kind].Shape().(saga.Local).EffectBatches[barrier.Confirm](t.Context(), calls)
		check("delivery")
		must(t, c.callStored(t, kind, payload))
		if b.in != (holdV2{1, amount{7}}) {
			t.Errorf("Confirm of %s got %+v", kind, b.in)
		}
	}
}

func TestVersionsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	c := catcher{}
	must(t, tcc.Register(c, &kept[holdV2]{}, tcc.Upgrade("credit.hold", upgradeHold), tcc.AllowUnknownFields[holdV2]()))
	for _, test := range []struct{ kind, payload, says string }{
		{"credit.hold", `{"Account":1,"Cents":7,"New":1}`, `"New" is not in the type`}, // what Old lacks is lost in every case
		{"credit.hold", `{"Account":0,"Cents":7}`, "upgrading the stored payload of credit.hold, g/07, to tcc_test.holdV2: no account"},
		{"credit.hold.v2", `{"Account":1,"New":1}`, ""},
		{"credit.hold.v2", `{"account":1}`, `is written "Account"`},
	} {
		err := c.callStored(t, test.kind, test.payload)
		if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%s %s: %v, want %q", test.kind, test.payload, err, test.says)
		}
	}
	if _, err := c["credit.hold"].Encoder()(holdV2{1, amount{1}}); err == nil || !strings.Contains(err.Error(), "hold") {
		t.Errorf("the newer type under the older kind: %v", err)
	}
}

func TestRegisterRefusesOptionsThatCannotWork(t *testing.T) {
	t.Parallel()
	b := &kept[holdV2]{}
	//nolint:unused // it is there to be refused
	type old struct{ lost int }
	for name, test := range map[string]struct {
		err  error
		says string
	}{
		"its own kind":       {tcc.Register(catcher{}, b, tcc.Alias[holdV2]("credit.hold.v2")), "has already"},
		"twice":              {tcc.Register(catcher{}, b, tcc.Alias[holdV2]("a"), tcc.Upgrade("a", upgradeHold)), "has already"},
		"nil function":       {tcc.Register(catcher{}, b, tcc.Upgrade[holdV2, hold]("a", nil)), "nil"},
		"older type loses":   {tcc.Register(catcher{}, b, tcc.Upgrade("a", func(old) (holdV2, error) { return holdV2{}, nil })), "old.lost"},
		"older type no JSON": {tcc.Register(catcher{}, b, tcc.Upgrade("a", func(int) (holdV2, error) { return holdV2{}, nil })), "must be a struct"},
		"empty":              {tcc.Register(catcher{}, b, tcc.Option[holdV2]{}), "empty"},
		"upgrade, remote":    {tcc.RegisterRemote(catcher{}, remote{}, tcc.Upgrade("a", upgradeHold)), "service's own registration"},
		"unknown, remote":    {tcc.RegisterRemote(catcher{}, remote{}, tcc.AllowUnknownFields[hold]()), "service's own registration"},
		"nil engine":         {tcc.Register(nil, b), "engine is nil"},
		"nil orchestrator":   {tcc.Register((*embedded.Engine)(nil), b), "engine is nil"},
	} {
		if !errors.Is(test.err, saga.ErrInvalid) || !strings.Contains(test.err.Error(), test.says) {
			t.Errorf("%s: %v, want %q", name, test.err, test.says)
		}
	}
	orch, err := embedded.Open(t.Context(), sqltest.Open(t, "sqlite"), quick)
	must(t, err)
	must(t, tcc.Register(orch, &kept[hold]{}))
	if err := tcc.Register(orch, b, tcc.Upgrade("credit.hold", upgradeHold)); !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), "credit.hold is registered") && !strings.Contains(err.Error(), "already") {
		t.Errorf("a kind that is another branch's: %v", err)
	}
	c := catcher{}
	must(t, tcc.RegisterRemote(c, remote{}, tcc.Alias[hold]("credit.reserve")))
	if c["credit.hold"].Shape() == nil || c["credit.reserve"].Shape() == nil {
		t.Errorf("registered: %v", c)
	}
}

// remote is a service elsewhere.
type remote struct{}

func (remote) Call(context.Context, saga.Call) error { return nil }
