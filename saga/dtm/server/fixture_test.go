package server_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/go-resty/resty/v2"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/dtm/server"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// The barriers of XA branches have no other way to know the table.
func init() { dtmcli.SetBarrierTableName("barrier") }

// quick has a short lease, so that another instance soon takes over.
var quick = embedded.Config{Lease: 400 * time.Millisecond, CallTimeout: 5 * time.Second}

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
	orch *embedded.Engine
	db   *gorm.DB

	mu     sync.Mutex
	before func(r *http.Request) (status int) // 0 for going on
}

func newBank(t *testing.T, db *gorm.DB, change ...func(*server.Config, *embedded.Config)) *bank {
	t.Helper()
	return newBankOn(t, db, func(orch *embedded.Engine) server.Engine { return orch }, change...)
}

func newBankOn(t *testing.T, db *gorm.DB, on func(*embedded.Engine) server.Engine, change ...func(*server.Config, *embedded.Config)) *bank {
	t.Helper()
	b := &bank{t: t, db: db}
	database := sqltest.Create(t, "mysql")
	accounts := sqltest.Connect(t, database, &gorm.Config{})
	var err error
	b.pool, err = accounts.DB()
	sagatest.Must(t, err)
	for _, statement := range []string{
		"CREATE TABLE barrier (id BIGINT PRIMARY KEY AUTO_INCREMENT, trans_type VARCHAR(45), gid VARCHAR(128), branch_id VARCHAR(128), op VARCHAR(45), barrier_id VARCHAR(45), reason VARCHAR(45), UNIQUE KEY (gid, branch_id, op, barrier_id))",
		"CREATE TABLE accounts (id VARCHAR(10) PRIMARY KEY, balance INT NOT NULL, trading INT NOT NULL)",
		"INSERT INTO accounts VALUES ('out', 100, 0), ('in', 0, 0)",
	} {
		sagatest.Must(t, accounts.Exec(statement).Error)
	}
	b.busi = httptest.NewServer(b.routes(database))
	t.Cleanup(b.busi.Close)
	config, engine := server.Config{Hosts: []string{b.host()}, Logger: slog.New(slog.DiscardHandler)}, quick
	for _, change := range change {
		change(&config, &engine)
	}
	b.orch = sagatest.Open(t, db, engine)
	api, err := server.New(on(b.orch), config)
	sagatest.Must(t, err)
	sagatest.Run(t, b.orch)
	b.api = httptest.NewServer(api)
	t.Cleanup(b.api.Close)
	return b
}

func (b *bank) host() string { return strings.TrimPrefix(b.busi.URL, "http://") }

func (b *bank) dtm() string { return b.api.URL + "/api/dtmsvr" }

func (b *bank) disturbed(before func(r *http.Request) int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.before = before
}

func (b *bank) disturbance(r *http.Request) (status int) {
	b.mu.Lock()
	before := b.before
	b.mu.Unlock()
	if before == nil {
		return 0
	}
	return before(r)
}

func (b *bank) routes(database sqltest.Database) http.Handler {
	mux := http.NewServeMux()
	for path, statement := range map[string]string{
		"/out/try":     "UPDATE accounts SET trading = trading - ? WHERE id = 'out' AND balance + trading >= ?",
		"/out/confirm": "UPDATE accounts SET trading = trading + ?, balance = balance - ? WHERE id = 'out'",
		"/out/cancel":  "UPDATE accounts SET trading = trading + ? WHERE id = 'out' AND ? = ?",
		"/in/try":      "UPDATE accounts SET trading = trading + ? WHERE id = 'in' AND ? > 0",
		"/in/confirm":  "UPDATE accounts SET trading = trading - ?, balance = balance + ? WHERE id = 'in'",
		"/in/cancel":   "UPDATE accounts SET trading = trading - ? WHERE id = 'in' AND ? = ?",

		"/saga/out":      "UPDATE accounts SET balance = balance - ? WHERE id = 'out' AND balance >= ?",
		"/saga/out-back": "UPDATE accounts SET balance = balance + ? WHERE id = 'out'",
		"/saga/in":       "UPDATE accounts SET balance = balance + ? WHERE id = 'in'",
		"/saga/in-back":  "UPDATE accounts SET balance = balance - ? WHERE id = 'in'",
	} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			if status := b.disturbance(r); status != 0 {
				w.WriteHeader(status)
				return
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
	b.xaRoutes(mux, database)
	mux.HandleFunc("GET /query-prepared", func(w http.ResponseWriter, r *http.Request) {
		if status := b.disturbance(r); status != 0 {
			w.WriteHeader(status)
			return
		}
		barrier, err := dtmcli.BarrierFromQuery(r.URL.Query())
		if err == nil {
			barrier.DBType, barrier.BarrierTableName = "mysql", "barrier"
			err = barrier.QueryPrepared(b.pool)
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
		if in.Fail && (strings.HasSuffix(r.URL.Path, "/in/try") || r.URL.Path == "/saga/in") {
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
	return b.transferAt(b.dtm(), gid, in, custom)
}

func (b *bank) transferAt(api, gid string, in transfer, custom func(*dtmcli.Tcc)) error {
	return b.throughAt(api, gid, in, "/in/try", custom)
}

func (b *bank) through(gid string, in transfer, second string, custom func(*dtmcli.Tcc)) error {
	return b.throughAt(b.dtm(), gid, in, second, custom)
}

func (b *bank) throughAt(api, gid string, in transfer, second string, custom func(*dtmcli.Tcc)) error {
	if custom == nil {
		custom = func(*dtmcli.Tcc) {}
	}
	return dtmcli.TccGlobalTransaction2(api, gid, custom, func(t *dtmcli.Tcc) (*resty.Response, error) {
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
		sagatest.Must(b.t, b.pool.QueryRow("SELECT balance, trading FROM accounts WHERE id = ?", id).Scan(&got[i].balance, &got[i].trading))
	}
	if want := [2]account{{out, 0}, {in, 0}}; got != want {
		b.t.Errorf("balance and trading %v, want %v", got, want)
	}
}

func (b *bank) reaches(gid, status string) {
	b.t.Helper()
	sagatest.Eventually(b.t, gid+" is "+status, func() bool { return b.query(gid).Transaction.Status == status })
}

// patient ends what would never end, if a bound does not hold.
var patient = &http.Client{Timeout: 30 * time.Second}

// post sends a body as it is, and get asks.
func (b *bank) post(path, body string) (status int, text string) {
	b.t.Helper()
	return b.send(http.MethodPost, path, body, http.Header{"Content-Type": {"application/json"}})
}

func (b *bank) get(path string) (status int, text string) {
	b.t.Helper()
	return b.send(http.MethodGet, path, "", nil)
}

func (b *bank) send(method, path, body string, header http.Header) (status int, text string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.dtm()+"/"+path, strings.NewReader(body))
	sagatest.Must(b.t, err)
	r.Header = header
	reply, err := patient.Do(r)
	sagatest.Must(b.t, err)
	defer reply.Body.Close()
	all, err := io.ReadAll(reply.Body)
	sagatest.Must(b.t, err)
	return reply.StatusCode, string(all)
}

// open prepares a transaction with a branch at the path of a URL.
func (b *bank) open(gid, path string) {
	b.t.Helper()
	b.says(200, "SUCCESS")(b.post("prepare", `{"gid":"`+gid+`","trans_type":"tcc"}`))
	b.says(200, "SUCCESS")(b.post("registerBranch", b.registration(gid, "01", b.busi.URL+path)))
}

func (b *bank) registration(gid, id, address string) string {
	return fmt.Sprintf(`{"gid":%q,"trans_type":"tcc","branch_id":%q,"data":"{\"amount\":30}","confirm":%q,"cancel":%q}`, gid, id, address, address)
}

// says checks an answer.
func (b *bank) says(status int, text string) func(gotStatus int, got string) {
	b.t.Helper()
	return func(gotStatus int, got string) {
		b.t.Helper()
		if gotStatus != status || !strings.Contains(got, text) {
			b.t.Errorf("%d %s, want %d with %q", gotStatus, got, status, text)
		}
	}
}

// all returns the gids and the next position of a list.
func (b *bank) all(query string) string {
	b.t.Helper()
	status, text := b.get("all" + query)
	var got struct {
		Transactions []struct{ GID string }
		Next         string `json:"next_position"`
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || status != 200 || got.Transactions == nil {
		b.t.Fatalf("%s: %d %s", query, status, text)
	}
	var gids []string
	for _, t := range got.Transactions {
		gids = append(gids, t.GID)
	}
	return strings.Join(gids, " ") + ", " + got.Next
}

// patientBackoff makes an engine that repeats nothing by itself.
func patientBackoff(_ *server.Config, engine *embedded.Config) {
	engine.MinBackoff, engine.MaxBackoff = 24*time.Hour, 24*time.Hour
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
	sagatest.Must(b.t, err)
	if reply.StatusCode() != http.StatusOK {
		b.t.Fatalf("query: %s", reply)
	}
	return q
}
