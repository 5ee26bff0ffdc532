package server_test

import (
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/go-resty/resty/v2"
	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/tccsaga/tccsaga/saga/dtm/server"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// xaRoutes adds branches that prepare their local transactions with XA on MariaDB.
func (b *bank) xaRoutes(mux *http.ServeMux, database sqltest.Database) {
	dsn, err := mysqldriver.ParseDSN(database.DSN)
	sagatest.Must(b.t, err)
	host, port, err := net.SplitHostPort(dsn.Addr)
	sagatest.Must(b.t, err)
	number, err := strconv.ParseInt(port, 10, 64)
	sagatest.Must(b.t, err)
	conf := dtmcli.DBConf{Driver: "mysql", Host: host, Port: number, User: dsn.User, Password: dsn.Passwd, Db: dsn.DBName}
	for path, change := range map[string]string{"/xa/out": "balance - 30 WHERE id = 'out' AND balance >= 30", "/xa/in": "balance + 30 WHERE id = 'in'"} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			if status := b.disturbance(r); status != 0 {
				w.WriteHeader(status)
				return
			}
			b.answer(w, dtmcli.XaLocalTransaction(r.URL.Query(), conf, func(db *sql.DB, _ *dtmcli.Xa) error {
				result, err := db.Exec("UPDATE accounts SET balance = " + change)
				if err != nil {
					return err
				}
				if n, _ := result.RowsAffected(); n != 1 {
					return fmt.Errorf("the balance is short: %w", dtmcli.ErrFailure)
				}
				return nil
			}))
		})
	}
}

func (b *bank) xa(gid string, custom func(*dtmcli.Xa), paths ...string) error {
	return dtmcli.XaGlobalTransaction2(b.dtm(), gid, custom, func(x *dtmcli.Xa) (*resty.Response, error) {
		for _, path := range paths {
			if reply, err := x.CallBranch(map[string]int{"amount": 30}, b.busi.URL+path); err != nil {
				return reply, err
			}
		}
		return nil, nil
	})
}

// XA transactions of DTM's client: committed, rolled back, and repeated.
func TestXA(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"))
	wait := func(x *dtmcli.Xa) { x.WaitResult = true }
	sagatest.Must(t, b.xa("a", wait, "/xa/out", "/xa/in"))
	b.books(70, 30)
	if q := b.query("a"); q.Transaction.Status != "succeed" || len(q.Branches) != 4 || q.Branches[0].Op != "rollback" || q.Branches[1].Op != "commit" ||
		q.Branches[1].Status != "succeed" || q.Branches[1].URL != b.busi.URL+"/xa/out" {
		t.Errorf("%+v", q)
	}
	if found, err := b.orch.Lookup(t.Context(), "a"); err != nil || found.Pattern != server.PatternXA {
		t.Errorf("%+v, %v", found, err)
	}
	// The second branch refuses: what the first one has prepared is rolled back.
	_, err := b.pool.Exec("UPDATE accounts SET balance = 0 WHERE id = 'out'")
	sagatest.Must(t, err)
	if err := b.xa("b", wait, "/xa/in", "/xa/out"); !errors.Is(err, dtmcli.ErrFailure) {
		t.Errorf("%v", err)
	}
	b.reaches("b", "failed")
	b.books(0, 30)
	var prepared int
	rows, err := b.pool.Query("XA RECOVER")
	sagatest.Must(t, err)
	for rows.Next() {
		var format, length, branch int
		var data string
		sagatest.Must(t, rows.Scan(&format, &length, &branch, &data))
		if strings.HasPrefix(data, "b-") {
			prepared++
		}
	}
	sagatest.Must(t, errors.Join(rows.Err(), rows.Close()))
	if prepared > 0 {
		t.Errorf("%d branches are still prepared", prepared)
	}
}

// A commit is repeated until it is done, and is a POST without a body.
func TestXACommitFails(t *testing.T) {
	t.Parallel()
	at := newBusi(t)
	b := newBankFor(t, at)
	b.says(200, "SUCCESS")(b.post("prepare", `{"gid":"a","trans_type":"xa","branch_headers":{"x":"y"}}`))
	const branch = `{"gid":"a","trans_type":"xa","branch_id":"01","url":"%s/x"}`
	b.says(200, "SUCCESS")(b.post("registerXaBranch", fmt.Sprintf(branch, at.URL)))
	b.says(200, "SUCCESS")(b.post("registerBranch", fmt.Sprintf(branch, at.URL)))
	b.says(400, "confirm is not supported for the trans_type xa")(b.post("registerBranch", `{"gid":"a","trans_type":"xa","branch_id":"02","confirm":"`+at.URL+`/x"}`))
	b.says(400, "URL of commit")(b.post("registerBranch", `{"gid":"a","trans_type":"xa","branch_id":"02","url":"http://elsewhere/x"}`))
	for _, other := range []string{"registerBranch", "submit", "abort"} {
		b.says(409, "no such transaction")(b.post(other, `{"gid":"a","trans_type":"tcc","branch_id":"02"}`))
	}
	at.answersOnce(500, "oops")
	at.answersOnce(200, `{"dtm_result":"ONGOING"}`)
	b.says(200, "SUCCESS")(b.post("submit", `{"gid":"a","trans_type":"xa"}`))
	b.reaches("a", "succeed")
	all := at.heard()
	if len(all) != 3 {
		t.Fatalf("%+v", all)
	}
	for _, r := range all {
		if r.method != "POST" || r.uri != "/x?branch_id=01&gid=a&op=commit&trans_type=xa" || r.body != "" || r.header.Get("X") != "y" {
			t.Errorf("%+v", r)
		}
	}
	b.says(409, "confirmed")(b.post("abort", `{"gid":"a","trans_type":"xa"}`))
}

// A transaction that nobody decides is rolled back at its timeout.
func TestXATimeout(t *testing.T) {
	t.Parallel()
	at := newBusi(t)
	b := newBankFor(t, at)
	b.says(200, "SUCCESS")(b.post("prepare", `{"gid":"a","trans_type":"xa","timeout_to_fail":1}`))
	b.says(200, "SUCCESS")(b.post("registerBranch", `{"gid":"a","trans_type":"xa","branch_id":"01","url":"`+at.URL+`/x"}`))
	b.reaches("a", "failed")
	if all := at.heard(); len(all) != 1 || !strings.Contains(all[0].uri, "op=rollback") {
		t.Errorf("%+v", all)
	}
	b.says(409, "cancelled")(b.post("submit", `{"gid":"a","trans_type":"xa"}`))
}
