package server_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/go-resty/resty/v2"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/dtm/server"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// quick keeps tests short: leases, polls and retries of milliseconds.
var quick = saga.Config{
	Lease: 400 * time.Millisecond, Poll: 20 * time.Millisecond, CallTimeout: 5 * time.Second,
	FirstRetry: 5 * time.Millisecond, MaxRetry: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
}

// transfer is the payload of the branches, as a user of DTM writes it.
type transfer struct {
	Amount int  `json:"amount"`
	Fail   bool `json:"fail"`
}

// bank is a service of a user of DTM, with DTM's own barrier on MariaDB, and the
// API that its client talks to instead of a DTM server's.
type bank struct {
	t    *testing.T
	pool *sql.DB
	busi *httptest.Server
	api  *httptest.Server
	orch *saga.Orchestrator
	db   *gorm.DB

	mu     sync.Mutex
	before func(r *http.Request) (status int) // 0 for going on
}

func newBank(t *testing.T, db *gorm.DB) *bank {
	t.Helper()
	b := &bank{t: t, db: db}
	accounts := sqltest.Open(t, "mysql")
	var err error
	b.pool, err = accounts.DB()
	must(t, err)
	for _, statement := range []string{
		"CREATE TABLE barrier (id BIGINT PRIMARY KEY AUTO_INCREMENT, trans_type VARCHAR(45), gid VARCHAR(128), branch_id VARCHAR(128), op VARCHAR(45), barrier_id VARCHAR(45), reason VARCHAR(45), UNIQUE KEY (gid, branch_id, op, barrier_id))",
		"CREATE TABLE accounts (id VARCHAR(10) PRIMARY KEY, balance INT NOT NULL, trading INT NOT NULL)",
		"INSERT INTO accounts VALUES ('out', 100, 0), ('in', 0, 0)",
	} {
		must(t, accounts.Exec(statement).Error)
	}
	b.busi = httptest.NewServer(b.routes())
	t.Cleanup(b.busi.Close)
	b.orch, err = saga.Open(t.Context(), db, quick)
	must(t, err)
	api, err := server.New(b.orch, server.Config{Hosts: []string{strings.TrimPrefix(b.busi.URL, "http://")}, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	ended := make(chan error, 1)
	go func() { ended <- b.orch.Run(context.WithoutCancel(t.Context())) }()
	b.api = httptest.NewServer(api)
	t.Cleanup(func() {
		b.api.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		b.orch.Stop(ctx)
		<-ended
	})
	return b
}

func (b *bank) dtm() string { return b.api.URL + "/api/dtmsvr" }

func (b *bank) disturbed(before func(r *http.Request) int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.before = before
}

func (b *bank) routes() http.Handler {
	mux := http.NewServeMux()
	for path, statement := range map[string]string{
		"/out/try":     "UPDATE accounts SET trading = trading - ? WHERE id = 'out' AND balance + trading >= ?",
		"/out/confirm": "UPDATE accounts SET trading = trading + ?, balance = balance - ? WHERE id = 'out'",
		"/out/cancel":  "UPDATE accounts SET trading = trading + ? WHERE id = 'out' AND ? = ?",
		"/in/try":      "UPDATE accounts SET trading = trading + ? WHERE id = 'in' AND ? > 0",
		"/in/confirm":  "UPDATE accounts SET trading = trading - ?, balance = balance + ? WHERE id = 'in'",
		"/in/cancel":   "UPDATE accounts SET trading = trading - ? WHERE id = 'in' AND ? = ?",
	} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			b.mu.Lock()
			before := b.before
			b.mu.Unlock()
			if before != nil {
				if status := before(r); status != 0 {
					w.WriteHeader(status)
					return
				}
			}
			b.answer(w, b.work(r, statement))
		})
	}
	// A branch that has branches of its own.
	mux.HandleFunc("POST /in/nested", func(w http.ResponseWriter, r *http.Request) {
		nested, err := dtmcli.TccFromQuery(r.URL.Query())
		var in transfer
		if err == nil {
			err = json.NewDecoder(r.Body).Decode(&in)
		}
		if err == nil {
			_, err = nested.CallBranch(in, b.busi.URL+"/in/try", b.busi.URL+"/in/confirm", b.busi.URL+"/in/cancel")
		}
		b.answer(w, err)
	})
	mux.HandleFunc("POST /in/nothing", func(w http.ResponseWriter, r *http.Request) { b.answer(w, nil) })
	return mux
}

func (b *bank) answer(w http.ResponseWriter, err error) {
	status, body := dtmcli.Result2HttpJSON(err)
	if err == nil {
		body = dtmcli.MapSuccess
	}
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

// work is a branch call with DTM's own barrier.
func (b *bank) work(r *http.Request, statement string) error {
	barrier, err := dtmcli.BarrierFromQuery(r.URL.Query())
	if err != nil {
		return err
	}
	barrier.DBType, barrier.BarrierTableName = "mysql", "barrier"
	var in transfer
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return err
	}
	return barrier.CallWithDB(b.pool, func(tx *sql.Tx) error {
		if in.Fail && strings.HasSuffix(r.URL.Path, "/in/try") {
			return fmt.Errorf("the account is closed: %w", dtmcli.ErrFailure)
		}
		arguments := []any{in.Amount}
		for range strings.Count(statement, "?") - 1 {
			arguments = append(arguments, in.Amount)
		}
		result, err := tx.Exec(statement, arguments...)
		if err != nil {
			return err
		}
		if n, _ := result.RowsAffected(); n != 1 {
			return fmt.Errorf("the balance is short: %w", dtmcli.ErrFailure)
		}
		return nil
	})
}

// transfer is a TCC transaction as DTM's documentation shows it.
func (b *bank) transfer(gid string, in transfer, custom func(*dtmcli.Tcc)) error {
	return b.through(gid, in, "/in/try", custom)
}

func (b *bank) through(gid string, in transfer, second string, custom func(*dtmcli.Tcc)) error {
	if custom == nil {
		custom = func(*dtmcli.Tcc) {}
	}
	return dtmcli.TccGlobalTransaction2(b.dtm(), gid, custom, func(t *dtmcli.Tcc) (*resty.Response, error) {
		reply, err := t.CallBranch(in, b.busi.URL+"/out/try", b.busi.URL+"/out/confirm", b.busi.URL+"/out/cancel")
		if err != nil {
			return reply, err
		}
		if second != "/in/try" {
			return t.CallBranch(in, b.busi.URL+second, b.busi.URL+"/in/nothing", b.busi.URL+"/in/nothing")
		}
		return t.CallBranch(in, b.busi.URL+"/in/try", b.busi.URL+"/in/confirm", b.busi.URL+"/in/cancel")
	})
}

// books checks both accounts.
func (b *bank) books(out, in int) {
	b.t.Helper()
	type account struct{ balance, trading int }
	var got [2]account
	for i, id := range []string{"out", "in"} {
		must(b.t, b.pool.QueryRow("SELECT balance, trading FROM accounts WHERE id = ?", id).Scan(&got[i].balance, &got[i].trading))
	}
	if want := [2]account{{out, 0}, {in, 0}}; got != want {
		b.t.Errorf("balance and trading %v, want %v", got, want)
	}
}

func (b *bank) reaches(gid, status string) {
	b.t.Helper()
	eventually(b.t, gid+" is "+status, func() bool { return b.query(gid).Transaction.Status == status })
}

type queried struct {
	Transaction struct {
		GID            string `json:"gid"`
		Status         string `json:"status"`
		RollbackReason string `json:"rollback_reason"`
	} `json:"transaction"`
	Branches []struct {
		BranchID string `json:"branch_id"`
		Op       string `json:"op"`
		URL      string `json:"url"`
		Data     []byte `json:"bin_data"`
		Status   string `json:"status"`
	} `json:"branches"`
}

func (b *bank) query(gid string) (q queried) {
	b.t.Helper()
	reply, err := dtmcli.GetRestyClient().R().SetResult(&q).Get(b.dtm() + "/query?gid=" + gid)
	must(b.t, err)
	if reply.StatusCode() != http.StatusOK {
		b.t.Fatalf("query: %s", reply)
	}
	return q
}

func TestDocumentedFlows(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBank(t, db)
		wait := func(t *dtmcli.Tcc) { t.WaitResult = true }

		gid := dtmcli.MustGenGid(b.dtm())
		must(t, b.transfer(gid, transfer{Amount: 30}, nil))
		b.reaches(gid, dtmcli.StatusSucceed)
		b.books(70, 30)
		if q := b.query(gid); len(q.Branches) != 4 || q.Branches[0].BranchID != "01" || q.Branches[0].Op != "cancel" || q.Branches[0].Status != "prepared" ||
			q.Branches[3].Op != "confirm" || q.Branches[3].Status != "succeed" || q.Branches[3].URL != b.busi.URL+"/in/confirm" || !strings.Contains(string(q.Branches[3].Data), `"amount":30`) {
			t.Errorf("%+v", q)
		}

		must(t, b.transfer("waits", transfer{Amount: 30}, wait))
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

		must(t, b.through("nested", transfer{Amount: 10}, "/in/nested", wait))
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
	var failed atomic.Int64
	b.disturbed(func(r *http.Request) int {
		if r.URL.Path == "/in/confirm" && failed.Add(1) <= 3 {
			return http.StatusInternalServerError
		}
		return 0
	})
	if err := b.transfer("a", transfer{Amount: 30}, func(t *dtmcli.Tcc) { t.WaitResult = true }); err == nil || !strings.Contains(err.Error(), "ONGOING") {
		t.Errorf("%v", err)
	}
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
	if q := b.query("gone"); !strings.Contains(q.Transaction.RollbackReason, "deadline") {
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
		must(t, err)
		shelf := stock.New(stocks)
		must(t, shelf.Put(t.Context(), "phone", 10))
		must(t, tcc.Register(host, shelf))
		hosts := httptest.NewServer(host)
		t.Cleanup(hosts.Close)
		orch, err := saga.Open(t.Context(), db, quick)
		must(t, err)
		api, err := server.New(orch, server.Config{Hosts: []string{strings.TrimPrefix(hosts.URL, "http://")}})
		must(t, err)
		served := httptest.NewServer(api)
		t.Cleanup(served.Close)
		at := hosts.URL + "/stock.lock"
		order := func(gid string, n int64) error {
			return dtmcli.TccGlobalTransaction2(served.URL+"/api/dtmsvr", gid, func(t *dtmcli.Tcc) { t.WaitResult = true },
				func(t *dtmcli.Tcc) (*resty.Response, error) {
					return t.CallBranch(stock.Lock{Items: []stock.Item{{SKU: "phone", Quantity: n}}}, at, at, at)
				})
		}
		must(t, order("a", 3))
		if err := order("b", 8); !errors.Is(err, dtmcli.ErrFailure) {
			t.Errorf("%v", err)
		}
		level, err := shelf.Get(t.Context(), "phone")
		must(t, err)
		if level.Available != 7 || level.Locked != 0 || level.Sold != 3 {
			t.Errorf("%+v", level)
		}
		must(t, orch.Stop(t.Context()))
	})
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"))
	here := `"confirm":"` + b.busi.URL + `/in/confirm","cancel":"` + b.busi.URL + `/in/cancel","data":"{}"`
	for _, c := range []struct {
		name, path, body string
		status           int
		says             string
	}{
		{"prepared", "prepare", `{"gid":"a","trans_type":"tcc"}`, 200, `"dtm_result":"SUCCESS"`},
		{"again", "prepare", `{"gid":"a","trans_type":"tcc"}`, 200, "SUCCESS"},
		{"no gid", "prepare", `{"trans_type":"tcc"}`, 400, "gid is empty"},
		{"saga", "prepare", `{"gid":"x","trans_type":"saga"}`, 400, "tcc only"},
		{"headers", "prepare", `{"gid":"x","trans_type":"tcc","branch_headers":{"a":"b"}}`, 400, "branch_headers"},
		{"custom data", "prepare", `{"gid":"x","trans_type":"tcc","custom_data":"b"}`, 400, "custom_data"},
		{"negative", "prepare", `{"gid":"x","trans_type":"tcc","timeout_to_fail":-1}`, 400, "between"},
		{"endless", "prepare", `{"gid":"x","trans_type":"tcc","timeout_to_fail":18700000000}`, 400, "between"},
		{"not JSON", "prepare", `gid`, 400, "invalid"},
		{"large", "prepare", `{"gid":"` + strings.Repeat("x", 2<<20) + `"}`, 413, "large"},
		{"another host", "registerBranch", `{"gid":"a","trans_type":"tcc","branch_id":"01","confirm":"http://169.254.169.254/x"}`, 400, "169.254.169.254"},
		{"a file", "registerBranch", `{"gid":"a","trans_type":"tcc","branch_id":"01","confirm":"file:///etc/passwd"}`, 400, "http://"},
		{"registered", "registerBranch", `{"gid":"a","trans_type":"tcc","branch_id":"01",` + here + `}`, 200, "SUCCESS"},
		{"again", "registerTccBranch", `{"gid":"a","trans_type":"tcc","branch_id":"01",` + here + `}`, 200, "SUCCESS"},
		{"with other data", "registerBranch", `{"gid":"a","trans_type":"tcc","branch_id":"01",` + strings.Replace(here, "{}", "1", 1) + `}`, 409, "FAILURE"},
		{"of nobody", "registerBranch", `{"gid":"nobody","trans_type":"tcc","branch_id":"01",` + here + `}`, 409, "FAILURE"},
		{"submit of nobody", "submit", `{"gid":"nobody","trans_type":"tcc"}`, 409, "FAILURE"},
		{"abort of nobody", "abort", `{"gid":"nobody","trans_type":"tcc"}`, 409, "FAILURE"},
		{"aborted", "abort", `{"gid":"a","trans_type":"tcc","rollback_reason":"why not"}`, 200, "SUCCESS"},
		{"again", "abort", `{"gid":"a","trans_type":"tcc"}`, 200, "SUCCESS"},
		{"submitted too late", "submit", `{"gid":"a","trans_type":"tcc"}`, 409, "why not"},
		{"prepared too late", "prepare", `{"gid":"a","trans_type":"tcc"}`, 409, "cancelled"},
		{"registered too late", "registerBranch", `{"gid":"a","trans_type":"tcc","branch_id":"02",` + here + `}`, 409, "FAILURE"},
		{"prepared", "prepare", `{"gid":"b","trans_type":"tcc"}`, 200, "SUCCESS"},
		{"submitted without branches", "submit", `{"gid":"b","trans_type":"tcc"}`, 200, "SUCCESS"},
		{"aborted too late", "abort", `{"gid":"b","trans_type":"tcc"}`, 409, "FAILURE"},
		{"no such operation", "forceStop", `{"gid":"b","trans_type":"tcc"}`, 404, ""},
		{"nothing", "query?gid=nobody", "", 200, `"transaction":null`},
		{"version", "version", "", 200, "tccsaga"},
	} {
		method := http.MethodPost
		if c.body == "" {
			method = http.MethodGet
		}
		r, err := http.NewRequestWithContext(t.Context(), method, b.dtm()+"/"+c.path, strings.NewReader(c.body))
		must(t, err)
		reply, err := http.DefaultClient.Do(r)
		must(t, err)
		text, err := io.ReadAll(reply.Body)
		must(t, err)
		reply.Body.Close()
		if reply.StatusCode != c.status || !strings.Contains(string(text), c.says) {
			t.Errorf("%s %s: %d %s, want %d with %q", c.name, c.path, reply.StatusCode, text, c.status, c.says)
		}
	}
	for name, config := range map[string]server.Config{"no hosts": {}, "negative": {Hosts: []string{"a"}, MaxBody: -1}} {
		if _, err := server.New(b.orch, config); !errors.Is(err, saga.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := server.New(b.orch, server.Config{Hosts: []string{"a"}}); !errors.Is(err, saga.ErrInvalid) {
		t.Errorf("twice: %v", err)
	}
}

// eventually polls a condition: the end of something that other goroutines and
// the database do is not to be had otherwise from outside.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	limit := time.After(20 * time.Second)
	for !condition() {
		select {
		case <-ticker.C:
		case <-limit:
			t.Fatalf("never came: %s", what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
