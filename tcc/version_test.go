package tcc_test

import (
	"errors"
	"strings"
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

func tryAll(t *testing.T, engine saga.Engine, gid string, plan []tcc.Payload) {
	t.Helper()
	tx, err := tcc.Begin(t.Context(), engine, gid)
	sagatest.Must(t, err)
	for _, payload := range plan {
		sagatest.Must(t, tx.Try(t.Context(), payload))
	}
}

// Two versions run side by side on one log. Open transactions of the older one
// are decided and finished by the newer one.
func TestNewerVersionFinishesWhatTheOlderOneOpened(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick) // the older version
		newer := b.openNew()
		confirmed, cancelled := sagatest.GID(), sagatest.GID()
		tryAll(t, b.orch, confirmed, oldPlan)
		tx, err := tcc.Join(t.Context(), newer, confirmed)
		sagatest.Must(t, err)
		sagatest.Must(t, tx.Try(t.Context(), holdV2{2, amount{5}})) // and a branch of the newer version
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
		tx, err = tcc.Join(t.Context(), newer, cancelled)
		sagatest.Must(t, err)
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
		planned, expiring := sagatest.GID(), sagatest.GID()
		tx, err := tcc.BeginWith(t.Context(), b.orch, expiring, saga.Options{Timeout: time.Second})
		sagatest.Must(t, err)
		sagatest.Must(t, tx.Try(t.Context(), hold{2, 5}))
		b.away.fail(barrier.Confirm, 1<<30, errors.New("not yet"))
		outcome, err := tcc.Execute(t.Context(), b.orch, planned, oldPlan...)
		if err != nil || outcome.State != saga.Confirming {
			t.Fatalf("%+v, %v", outcome, err)
		}
		sagatest.Must(t, b.orch.Stop(t.Context()))
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
		gid := sagatest.GID()
		plan := []tcc.Payload{oldPlan[0], oldPlan[2]}
		tryAll(t, newer, gid, plan)
		tx, err := tcc.Join(t.Context(), b.orch, gid)
		sagatest.Must(t, err)
		outcome, err := tx.Confirm(t.Context())
		if err != nil || outcome.State != saga.Confirmed {
			t.Fatalf("%+v, %v", outcome, err)
		}
		b.books(b.db, 1, 70, 0, 30)

		// The same request on either version is the same transaction.
		executed := sagatest.GID()
		for _, engine := range []*embedded.Engine{newer, b.orch} {
			outcome, err = tcc.Execute(t.Context(), engine, executed, plan...)
			if err != nil || outcome.State != saga.Confirmed {
				t.Fatalf("%+v, %v", outcome, err)
			}
			_, err = engine.States(t.Context(), executed) // waits until the end is written
			sagatest.Must(t, err)
		}
		b.books(b.db, 1, 40, 0, 60)
	})
}

// A kind is renamed in two steps, and each step finishes what the other began.
func TestRenamingAKind(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		open := func(register func(saga.Registrar) error) *embedded.Engine {
			orch := sagatest.Open(t, db, quick)
			sagatest.Must(t, register(orch))
			sagatest.Run(t, orch)
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
			gid := sagatest.GID()
			tryAll(t, side.begins, gid, []tcc.Payload{side.payload})
			tx, err := tcc.Join(t.Context(), side.decides, gid)
			sagatest.Must(t, err)
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
		confirmed, cancelled := sagatest.GID(), sagatest.GID()
		tryAll(t, newer, confirmed, newPlan)
		tryAll(t, newer, cancelled, newPlan)
		tx, err := tcc.Join(t.Context(), older, confirmed)
		sagatest.Must(t, err)
		outcome, err := tx.Confirm(t.Context())
		if err != nil || outcome.Finished() {
			t.Fatalf("%+v, %v", outcome, err)
		}
		tx, err = tcc.Join(t.Context(), older, cancelled)
		sagatest.Must(t, err)
		outcome, err = tx.Cancel(t.Context(), "the customer left")
		if err != nil || outcome.Finished() {
			t.Fatalf("%+v, %v", outcome, err)
		}
		sagatest.Must(t, older.Stop(t.Context()))
		b.reaches(confirmed, saga.Confirmed)
		b.reaches(cancelled, saga.Cancelled)
		b.books(b.db, 1, 70, 0, 30)
		b.books(b.other, 1, 80, 0, 20)
		if at := b.out.at(confirmed + "/03"); at != "spent" {
			t.Errorf("the gateway says %q", at)
		}
	})
}

// In bulk, as one by one, a branch gets the payload of its own version.
func TestVersionsInBulk(t *testing.T) {
	t.Parallel()
	c, b := catcher{}, &bulkCredit{}
	sagatest.Must(t, tcc.Register(c, b, tcc.Upgrade("credit.hold", upgradeHold), tcc.Alias[holdV2]("credit.hold.v3")))
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
			sagatest.Must(t, err)
			check(string(op))
		}
		c[kind].Shape().(saga.Local).EffectBatches[barrier.Confirm](t.Context(), calls)
		check("delivery")
		sagatest.Must(t, c.callStored(t, kind, payload))
		if b.in != (holdV2{1, amount{7}}) {
			t.Errorf("Confirm of %s got %+v", kind, b.in)
		}
	}
}

func TestVersionsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	c := catcher{}
	sagatest.Must(t, tcc.Register(c, &kept[holdV2]{}, tcc.Upgrade("credit.hold", upgradeHold), tcc.AllowUnknownFields[holdV2]()))
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
	orch := sagatest.Open(t, sqltest.Open(t, "sqlite"), quick)
	sagatest.Must(t, tcc.Register(orch, &kept[hold]{}))
	if err := tcc.Register(orch, b, tcc.Upgrade("credit.hold", upgradeHold)); !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), "credit.hold is registered") && !strings.Contains(err.Error(), "already") {
		t.Errorf("a kind that is another branch's: %v", err)
	}
	c := catcher{}
	sagatest.Must(t, tcc.RegisterRemote(c, remote{}, tcc.Alias[hold]("credit.reserve")))
	if c["credit.hold"].Shape() == nil || c["credit.reserve"].Shape() == nil {
		t.Errorf("registered: %v", c)
	}
}
