package server_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dtm-labs/client/dtmcli"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/dtm/server"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// shelf puts a branch beside the API, as a service has it that serves both.
func (b *bank) shelf() *stock.Stock {
	b.t.Helper()
	shelf := stock.New(b.db)
	sagatest.Must(b.t, shelf.Put(b.t.Context(), "phone", 10))
	sagatest.Must(b.t, tcc.Register(b.orch, shelf))
	return shelf
}

func phones(n int64) stock.Lock { return stock.Lock{Items: []stock.Item{{SKU: "phone", Quantity: n}}} }

// A reservation that was begun natively and is not paid: the API does not find
// it, and leaves it alone.
func TestNativeTransactionsAreNotFound(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBank(t, db)
		shelf, ctx := b.shelf(), t.Context()
		tx, err := tcc.Begin(ctx, b.orch, "unpaid")
		sagatest.Must(t, err)
		sagatest.Must(t, tx.Try(ctx, phones(3)))
		if _, err := tcc.Execute(ctx, b.orch, "executed", phones(1)); err != nil {
			t.Fatal(err)
		}
		for _, gid := range []string{"unpaid", "executed"} {
			b.says(409, "no such transaction")(b.post("submit", `{"gid":"`+gid+`","trans_type":"tcc"}`))
			b.says(409, "no such transaction")(b.post("submit", `{"gid":"`+gid+`","trans_type":"tcc","wait_result":true}`))
			b.says(409, "no such transaction")(b.post("abort", `{"gid":"`+gid+`","trans_type":"tcc"}`))
			for _, id := range []string{"01", "02"} {
				b.says(409, "no such transaction")(b.post("registerBranch", b.registration(gid, id, b.busi.URL+"/in/confirm")))
			}
			b.says(409, "in use")(b.post("prepare", `{"gid":"`+gid+`","trans_type":"tcc"}`))
			b.says(200, `{"transaction":null,"branches":[]}`)(b.get("query?gid=" + gid))
		}
		found, err := b.orch.Lookup(ctx, "unpaid")
		sagatest.Must(t, err)
		if level, err := shelf.Get(ctx, "phone"); err != nil || found.State != saga.Trying || len(found.Branches) != 1 || level.Locked != 3 || level.Sold != 1 {
			t.Errorf("%+v, %+v, %v", found, level, err)
		}
	})
}

// The other way round.
func TestNativeCallsDoNotTakeOverTheAPIs(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"))
	b.shelf()
	b.open("theirs", "/in/confirm")
	ctx := t.Context()
	for what, err := range map[string]error{
		"resume":  second(tcc.Join(ctx, b.orch, "theirs")),
		"begin":   second(tcc.Begin(ctx, b.orch, "theirs")),
		"execute": second(tcc.Execute(ctx, b.orch, "theirs", phones(1))),
	} {
		if !errors.Is(err, saga.ErrMismatch) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if all, err := b.orch.List(ctx, saga.Filter{Pattern: server.PatternTCC}); err != nil || len(all) != 1 || all[0].GID != "theirs" || all[0].State != saga.Trying {
		t.Errorf("%+v, %v", all, err)
	}
}

// Clients of the API cannot take the gids of others.
func TestPrefixOfGIDs(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"), func(config *server.Config, _ *embedded.Config) { config.GIDPrefix = "dtm-" })
	b.says(400, `does not begin with \"dtm-\"`)(b.post("prepare", `{"gid":"order-1","trans_type":"tcc"}`))
	b.says(400, "does not begin")(b.get("query?gid=order-1"))
	gid := dtmcli.MustGenGid(b.dtm())
	sagatest.Must(t, b.transfer(gid, transfer{Amount: 30}, func(t *dtmcli.Tcc) { t.WaitResult = true }))
	b.books(70, 30)
}

func second[T any](_ T, err error) error { return err }

// between calls a function between a Lookup of the API and what the API does
// then.
type between struct {
	*embedded.Engine
	then func()
}

func (b between) Within(pattern string) saga.Engine {
	return lookups{b.Engine.Within(pattern), b.then}
}

func (b between) Lookup(ctx context.Context, gid string) (*saga.Transaction, error) {
	return lookups{b.Engine, b.then}.Lookup(ctx, gid)
}

type lookups struct {
	saga.Engine
	then func()
}

func (l lookups) Lookup(ctx context.Context, gid string) (*saga.Transaction, error) {
	found, err := l.Engine.Lookup(ctx, gid)
	l.then()
	return found, err
}

// A gid is finished, removed and begun anew between a look at it and the act.
func TestAGIDThatIsReusedInBetween(t *testing.T) {
	t.Parallel()
	for _, act := range []string{"submit", "abort", "registerBranch"} {
		t.Run(act, func(t *testing.T) {
			t.Parallel()
			var armed atomic.Bool
			var b *bank
			b = newBankOn(t, sqltest.Open(t, "sqlite"), func(orch *embedded.Engine) server.Engine {
				return between{orch, func() {
					if armed.CompareAndSwap(true, false) {
						sagatest.Must(t, second(b.orch.Cancel(context.WithoutCancel(t.Context()), "again", "")))
						sagatest.Eventually(t, "it is removed", func() bool {
							_, err := b.orch.Lookup(t.Context(), "again")
							return errors.Is(err, saga.ErrNotFound)
						})
						sagatest.Must(t, second(tcc.Begin(t.Context(), b.orch, "again")))
					}
				}}
			}, func(_ *server.Config, engine *embedded.Config) {
				engine.CallTimeout, engine.Retention = 25*time.Millisecond, 50*time.Millisecond
			})
			b.says(200, "SUCCESS")(b.post("prepare", `{"gid":"again","trans_type":"tcc","timeout_to_fail":1}`))
			armed.Store(true)
			body := `{"gid":"again","trans_type":"tcc","wait_result":true}`
			if act == "registerBranch" {
				body = b.registration("again", "01", "")
			}
			b.says(409, "no such transaction")(b.post(act, body))
			found, err := b.orch.Lookup(t.Context(), "again")
			if err != nil || found.State != saga.Trying || found.Pattern == server.PatternTCC || len(found.Branches) != 0 {
				t.Errorf("%+v, %v", found, err)
			}
			if armed.Load() {
				t.Error("it was not reused in between")
			}
		})
	}
}

// The breaker of a host that is down does not hold up the others.
func TestAHostThatIsDownHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	down, other := newBusi(t), newBusi(t)
	b := newBank(t, sqltest.Open(t, "sqlite"), func(config *server.Config, engine *embedded.Config) {
		config.Hosts = []string{down.host(), other.host()}
		engine.Limits = embedded.Limits{Failures: 3, Cooldown: time.Hour}
	})
	down.answers(500, "")
	submit := func(gid string, at *busi) {
		b.says(200, "SUCCESS")(b.post("prepare", `{"gid":"`+gid+`","trans_type":"tcc"}`))
		b.says(200, "SUCCESS")(b.post("registerBranch", b.registration(gid, "01", at.URL+"/x")))
		b.says(200, "SUCCESS")(b.post("submit", `{"gid":"`+gid+`","trans_type":"tcc"}`))
	}
	for _, gid := range []string{"a1", "a2", "a3", "a4", "a5"} {
		submit(gid, down)
	}
	sagatest.Eventually(t, "the circuit is open", func() bool {
		held := 0
		for _, gid := range []string{"a1", "a2", "a3", "a4", "a5"} {
			found, err := b.orch.Lookup(t.Context(), gid)
			sagatest.Must(t, err)
			if found.Failures > 0 {
				held++
			}
		}
		return held == 5
	})
	other.answersOnce(500, "")
	submit("b", other)
	b.reaches("b", "succeed")
	if found, err := b.orch.Lookup(t.Context(), "b"); err != nil || found.Failures != 1 || !strings.HasPrefix(found.Branches[0].Kind, "dtm.127.0.0.1_3a") {
		t.Errorf("%+v, %v", found, err)
	}
}
