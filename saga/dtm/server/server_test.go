package server_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/go-resty/resty/v2"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga/dtm/server"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

func TestDocumentedFlows(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBank(t, db)
		wait := func(t *dtmcli.Tcc) { t.WaitResult = true }

		gid := dtmcli.MustGenGid(b.dtm())
		sagatest.Must(t, b.transfer(gid, transfer{Amount: 30}, nil))
		b.reaches(gid, dtmcli.StatusSucceed)
		b.books(70, 30)
		if q := b.query(gid); len(q.Branches) != 4 || q.Branches[0].BranchID != "01" || q.Branches[0].Op != "cancel" || q.Branches[0].Status != "prepared" ||
			q.Branches[3].Op != "confirm" || q.Branches[3].Status != "succeed" || q.Branches[3].URL != b.busi.URL+"/in/confirm" || !strings.Contains(string(q.Branches[3].Data), `"amount":30`) {
			t.Errorf("%+v", q)
		}

		sagatest.Must(t, b.transfer("waits", transfer{Amount: 30}, wait))
		b.books(40, 60)
		if q := b.query("waits"); q.Transaction.Status != dtmcli.StatusSucceed {
			t.Errorf("%+v", q)
		}

		err := b.transfer("refused", transfer{Amount: 30, Fail: true}, wait)
		if !errors.Is(err, dtmcli.ErrFailure) || !strings.Contains(err.Error(), "closed") {
			t.Errorf("%v", err)
		}
		b.reaches("refused", dtmcli.StatusFailed)
		if q := b.query("refused"); !strings.Contains(q.Transaction.RollbackReason, "closed") {
			t.Errorf("%+v", q)
		}
		b.books(40, 60)
		if err := b.transfer("short", transfer{Amount: 41}, nil); !errors.Is(err, dtmcli.ErrFailure) {
			t.Errorf("%v", err)
		}
		b.reaches("short", dtmcli.StatusFailed)
		b.books(40, 60)

		sagatest.Must(t, b.through("nested", transfer{Amount: 10}, "/in/nested", wait))
		b.books(30, 70)
		if q := b.query("nested"); len(q.Branches) != 6 || q.Branches[4].BranchID != "0201" {
			t.Errorf("%+v", q)
		}
		if err := b.through("nested-refused", transfer{Amount: 10, Fail: true}, "/in/nested", nil); !errors.Is(err, dtmcli.ErrFailure) {
			t.Errorf("%v", err)
		}
		b.reaches("nested-refused", dtmcli.StatusFailed)
		b.books(30, 70)
	})
}

// A Confirm fails for a while: with WaitResult the client learns that it is not
// at its end, and it comes to its end without the client.
func TestConfirmFails(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"))
	var answered atomic.Bool
	b.disturbed(func(r *http.Request) int {
		if r.URL.Path == "/in/confirm" && !answered.Load() {
			return http.StatusInternalServerError
		}
		return 0
	})
	if err := b.transfer("a", transfer{Amount: 30}, func(t *dtmcli.Tcc) { t.WaitResult = true }); err == nil || !strings.Contains(err.Error(), "ONGOING") {
		t.Errorf("%v", err)
	}
	answered.Store(true)
	b.reaches("a", dtmcli.StatusSucceed)
	b.books(70, 30)
}

// The client dies before it decides.
func TestClientGone(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"))
	err := func() (err error) {
		defer func() {
			if p := recover(); p == nil {
				err = errors.New("it did not panic")
			}
		}()
		// What the client does when it is killed: nothing, that is neither submit
		// nor abort.
		b.api.Config.Handler = only(b.api.Config.Handler, "/prepare", "/registerBranch", "/query")
		return b.transfer("gone", transfer{Amount: 30}, func(t *dtmcli.Tcc) { t.TimeoutToFail = 1 })
	}()
	if err == nil {
		t.Error("the client was not stopped")
	}
	b.reaches("gone", dtmcli.StatusFailed)
	if q := b.query("gone"); !strings.Contains(q.Transaction.RollbackReason, "Timeout after") {
		t.Errorf("%+v", q)
	}
	b.books(100, 0)
}

// only lets requests for some paths through.
func only(next http.Handler, paths ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, path := range paths {
			if strings.HasSuffix(r.URL.Path, path) {
				next.ServeHTTP(w, r)
				return
			}
		}
		panic(http.ErrAbortHandler)
	})
}

// A branch that package remote hosts, called by DTM's client.
func TestHostedBranch(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		stocks := sqltest.Open(t, "sqlite")
		host, err := remote.NewHost(t.Context(), stocks, remote.HostConfig{AllowUnsigned: true})
		sagatest.Must(t, err)
		shelf := stock.New(stocks)
		sagatest.Must(t, shelf.Put(t.Context(), "phone", 10))
		sagatest.Must(t, tcc.Register(host, shelf))
		hosts := httptest.NewServer(host)
		t.Cleanup(hosts.Close)
		orch := sagatest.Open(t, db, quick)
		api, err := server.New(orch, server.Config{Hosts: []string{strings.TrimPrefix(hosts.URL, "http://")}})
		sagatest.Must(t, err)
		served := httptest.NewServer(api)
		t.Cleanup(served.Close)
		at := hosts.URL + "/stock.lock"
		order := func(gid string, n int64) error {
			return dtmcli.TccGlobalTransaction2(served.URL+"/api/dtmsvr", gid, func(t *dtmcli.Tcc) { t.WaitResult = true },
				func(t *dtmcli.Tcc) (*resty.Response, error) {
					return t.CallBranch(stock.Lock{Items: []stock.Item{{SKU: "phone", Quantity: n}}}, at, at, at)
				})
		}
		sagatest.Must(t, order("a", 3))
		if err := order("b", 8); !errors.Is(err, dtmcli.ErrFailure) {
			t.Errorf("%v", err)
		}
		level, err := shelf.Get(t.Context(), "phone")
		sagatest.Must(t, err)
		if level.Available != 7 || level.Locked != 0 || level.Sold != 3 {
			t.Errorf("%+v", level)
		}
		sagatest.Must(t, orch.Stop(t.Context()))
	})
}
