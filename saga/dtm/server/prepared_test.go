package server_test

import (
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dtm-labs/client/dtmcli"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/dtm/server"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// seller is a program of a user of DTM: it takes money from an account in its database, and a
// message brings it to the other account.
type seller struct{ *bank }

func newSeller(t *testing.T, db *gorm.DB, at *busi) seller {
	return seller{newBank(t, db, func(config *server.Config, engine *embedded.Config) {
		config.Hosts = append(config.Hosts, at.host())
		engine.MinBackoff, engine.MaxBackoff, engine.Poll = time.Millisecond, 20*time.Millisecond, 20*time.Millisecond
	})}
}

func (s seller) message(gid string) *dtmcli.Msg {
	return dtmcli.NewMsg(s.dtm(), gid).Add(s.busi.URL+"/saga/in", transfer{Amount: 30})
}

// asked is the URL that DTM's own barrier answers.
func (s seller) asked() string { return s.busi.URL + "/query-prepared" }

func (s seller) pay(tx *sql.Tx) error {
	_, err := tx.Exec("UPDATE accounts SET balance = balance - 30 WHERE id = 'out'")
	return err
}

// commits prepares a message and commits the local transaction, and does not submit: the process
// has died.
func (s seller) commits(m *dtmcli.Msg) {
	s.t.Helper()
	sagatest.Must(s.t, m.Prepare(s.asked()))
	sagatest.Must(s.t, s.barrier(m).CallWithDB(s.pool, s.pay))
}

func (s seller) barrier(m *dtmcli.Msg) *dtmcli.BranchBarrier {
	barrier, err := dtmcli.BarrierFrom("msg", m.Gid, "00", "msg")
	sagatest.Must(s.t, err)
	barrier.DBType, barrier.BarrierTableName = "mysql", "barrier"
	return barrier
}

// overdue makes the deadline of a transaction pass.
func (s seller) overdue(gid string) {
	s.t.Helper()
	sagatest.Must(s.t, s.db.Exec("UPDATE saga_transactions SET deadline_at = created_at, due_at = created_at WHERE gid = ?", gid).Error)
}

// failing lets query_prepared fail at first, and counts the questions.
func (s seller) failing(times int64) *atomic.Int64 {
	var asked atomic.Int64
	s.disturbed(func(r *http.Request) int {
		if r.URL.Path != "/query-prepared" {
			return 0
		}
		if n := asked.Add(1); n <= times {
			return []int{500, 425, 404, 302}[n%4]
		}
		return 0
	})
	return &asked
}

// DTM's client commits a local transaction with a message.
func TestDoAndSubmitDB(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s := newSeller(t, db, newBusi(t))
		m := s.message("a")
		m.WaitResult = true
		sagatest.Must(t, m.DoAndSubmitDB(s.asked(), s.pool, s.pay))
		s.books(70, 30)
		q := s.query("a")
		if q.Transaction.Status != "succeed" || len(q.Branches) != 1 || q.Branches[0].BranchID != "01" || q.Branches[0].Op != "action" || q.Branches[0].Status != "succeed" {
			t.Errorf("%+v", q)
		}
		// The local transaction is rolled back, with DTM's word for it or with another error.
		for gid, failure := range map[string]error{"b": fmt.Errorf("short: %w", dtmcli.ErrFailure), "c": errors.New("oops")} {
			if err := s.message(gid).DoAndSubmitDB(s.asked(), s.pool, func(tx *sql.Tx) error { return errors.Join(s.pay(tx), failure) }); !errors.Is(err, failure) {
				t.Errorf("%s: %v", gid, err)
			}
			s.reaches(gid, "failed")
		}
		s.books(70, 30)
		if q := s.query("b"); len(q.Branches) != 1 || q.Branches[0].Status != "prepared" {
			t.Errorf("%+v", q)
		}
	})
}

// The process dies after its COMMIT and never submits. At the timeout, query_prepared is asked
// until it answers, and the message is delivered.
func TestPreparedAndCommittedAndNeverSubmitted(t *testing.T) {
	t.Parallel()
	s := newSeller(t, sqltest.Open(t, "sqlite"), newBusi(t))
	s.failing(5)
	s.commits(s.message("a"))
	s.says(200, `"prepared"`)(s.get("query?gid=a"))
	s.overdue("a")
	s.reaches("a", "succeed")
	s.books(70, 30)
	// A late submit, prepare and abort.
	sagatest.Must(t, s.message("a").Submit())
	if err := s.message("a").Prepare(s.asked()); err == nil {
		t.Error("it is prepared again")
	}
	s.says(409, "")(s.post("abort", `{"gid":"a","trans_type":"msg"}`))
	s.books(70, 30)
}

// The process dies before its COMMIT. The message is not delivered, and neither the late local
// transaction nor the late submit changes that.
func TestPreparedAndNotCommitted(t *testing.T) {
	t.Parallel()
	s := newSeller(t, sqltest.Open(t, "sqlite"), newBusi(t))
	s.failing(3)
	m := s.message("a")
	sagatest.Must(t, m.Prepare(s.asked()))
	s.overdue("a")
	s.reaches("a", "failed")
	if err := s.barrier(m).CallWithDB(s.pool, s.pay); !errors.Is(err, dtmcli.ErrDuplicated) {
		t.Errorf("late local transaction: %v", err)
	}
	if err := m.Submit(); err == nil || !strings.Contains(err.Error(), "FAILURE") {
		t.Errorf("late submit: %v", err)
	}
	s.books(100, 0)
}

// A submit of a message asks query_prepared. Without an answer nothing is decided, and the submit
// can be sent again.
func TestSubmitOfAPreparedMessageAsks(t *testing.T) {
	t.Parallel()
	s := newSeller(t, sqltest.Open(t, "sqlite"), newBusi(t))
	asked := s.failing(4)
	m := s.message("a")
	s.commits(m)
	for range 2 {
		if err := m.Submit(); err == nil || !strings.Contains(err.Error(), "unknown") {
			t.Errorf("%v", err)
		}
		s.says(200, `"prepared"`)(s.get("query?gid=a"))
		s.says(500, "unknown")(s.post("abort", `{"gid":"a","trans_type":"msg"}`))
	}
	s.books(70, 0)
	m.WaitResult = true
	sagatest.Must(t, m.Submit())
	s.books(70, 30)
	if n := asked.Load(); n != 5 {
		t.Errorf("%d questions", n)
	}
	// A client that submits and has not committed.
	m = s.message("b")
	sagatest.Must(t, m.Prepare(s.asked()))
	if err := m.Submit(); err == nil || !strings.Contains(err.Error(), "FAILURE") {
		t.Errorf("%v", err)
	}
	s.reaches("b", "failed")
	s.books(70, 30)
}

// Abort asks too: a message whose local transaction is committed is delivered.
func TestAbortOfAPreparedMessage(t *testing.T) {
	t.Parallel()
	s := newSeller(t, sqltest.Open(t, "sqlite"), newBusi(t))
	s.commits(s.message("a"))
	s.says(409, "FAILURE")(s.post("abort", `{"gid":"a","trans_type":"msg"}`))
	s.reaches("a", "succeed")
	sagatest.Must(t, s.message("b").Prepare(s.asked()))
	s.says(200, "SUCCESS")(s.post("abort", `{"gid":"b","trans_type":"msg","rollback_reason":"no stock"}`))
	s.reaches("b", "failed")
	if q := s.query("b"); q.Transaction.RollbackReason != "no stock" {
		t.Errorf("%+v", q)
	}
	s.books(70, 30)
}

// The question is DTM's, and only a definite answer decides.
func TestQuestionsOfPreparedMessages(t *testing.T) {
	t.Parallel()
	at := newBusi(t)
	s := newSeller(t, sqltest.Open(t, "sqlite"), at)
	for i, c := range []struct {
		status int
		body   string
		says   string // of submit; empty for success
	}{
		{200, "", ""}, {200, `{"dtm_result":"SUCCESS"}`, ""}, {200, "SUCCESS", ""},
		{409, "", "FAILURE"}, {200, `{"dtm_result":"FAILURE"}`, "FAILURE"}, {500, "FAILURE", "FAILURE"},
		{425, "", "unknown"}, {200, "ONGOING", "unknown"}, {500, "SUCCESS", "unknown"}, {404, "", "unknown"}, {204, "", "unknown"},
		{302, "", "unknown"}, {200, "<html>It works</html>", "unknown"},
	} {
		gid := fmt.Sprint("m", i)
		m := s.message(gid)
		m.BranchHeaders = map[string]string{"X-Tenant": "one"}
		sagatest.Must(t, m.Prepare(at.URL+"/q?a=b"))
		at.answersOnce(c.status, c.body)
		if err := m.Submit(); (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%d %s: %v", c.status, c.body, err)
		}
		found, err := s.orch.Lookup(t.Context(), gid)
		if err != nil || (found.State == saga.Trying) != (c.says == "unknown") {
			t.Errorf("%d %s: %+v, %v", c.status, c.body, found, err)
		}
		heard := at.heard()
		if want := "/q?a=b&branch_id=00&gid=" + gid + "&op=msg&trans_type=msg"; len(heard) != i+1 || heard[i].method != "GET" || heard[i].uri != want || heard[i].header.Get("X-Tenant") != "one" {
			t.Errorf("%d questions, the last is %+v", len(heard), heard[len(heard)-1])
		}
	}
}

// The pause after a question without an answer is that of other calls.
func TestRetryIntervalOfQuestions(t *testing.T) {
	t.Parallel()
	at := newBusi(t)
	s := newSeller(t, sqltest.Open(t, "sqlite"), at)
	at.answers(425, "")
	m := s.message("a")
	m.RetryInterval = 3600
	sagatest.Must(t, m.Prepare(at.URL+"/q"))
	s.overdue("a")
	sagatest.Eventually(t, "the question has failed", func() bool {
		found, err := s.orch.Lookup(t.Context(), "a")
		sagatest.Must(t, err)
		return found.Failures > 0
	})
	found, err := s.orch.Lookup(t.Context(), "a")
	sagatest.Must(t, err)
	if attempts := found.Branches[0].Attempts; len(attempts) != 1 || attempts[0].NextAt.Sub(attempts[0].FailedAt).Round(time.Minute) != time.Hour || len(at.heard()) != 1 {
		t.Errorf("%+v", attempts)
	}
}

// The prepare of a message is idempotent, and its submit has to have the same steps.
func TestPreparesOfMessages(t *testing.T) {
	t.Parallel()
	at := newBusi(t)
	s := newSeller(t, sqltest.Open(t, "sqlite"), at)
	other := func() *dtmcli.Msg { return s.message("a").Add(at.URL+"/more", 1) }
	for range 2 {
		sagatest.Must(t, s.message("a").Prepare(at.URL+"/q"))
	}
	for what, err := range map[string]error{
		"other steps": other().Prepare(at.URL + "/q"), "another query": s.message("a").Prepare(at.URL + "/p"), "submit": other().Submit(),
	} {
		if err == nil || !strings.Contains(err.Error(), "FAILURE") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if heard := at.heard(); len(heard) > 0 {
		t.Errorf("%+v", heard)
	}
	found, err := s.orch.Lookup(t.Context(), "a")
	if err != nil || found.DeadlineAt.Sub(found.CreatedAt).Round(time.Second) != 35*time.Second {
		t.Errorf("%+v, %v", found, err)
	}
	late := s.message("b")
	late.TimeoutToFail = 120
	sagatest.Must(t, late.Prepare(at.URL+"/q"))
	if found, err := s.orch.Lookup(t.Context(), "b"); err != nil || found.DeadlineAt.Sub(found.CreatedAt).Round(time.Second) != 2*time.Minute {
		t.Errorf("%+v, %v", found, err)
	}
	if got := s.all("?status=prepared&transType=msg"); got != "a b, " {
		t.Error(got)
	}
	// A submit without its steps, and steps in another order than the calls.
	s.says(200, "SUCCESS")(s.post("submit", `{"gid":"a","trans_type":"msg","wait_result":true}`))
	both := dtmcli.NewMsg(s.dtm(), "c").Add(at.URL+"/1", 1).Add(at.URL+"/2", 2)
	both.Concurrent, both.WaitResult = true, true
	sagatest.Must(t, both.Prepare(at.URL+"/q"))
	sagatest.Must(t, both.Submit())
	calls := at.calls()
	slices.Sort(calls)
	if got := strings.Join(calls, ", "); got != "action 01, action 02, msg 00, msg 00" {
		t.Error(got)
	}
}
