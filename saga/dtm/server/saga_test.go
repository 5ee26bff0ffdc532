package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
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

// waits makes a saga wait for its result.
func waits(s *dtmcli.Saga) { s.WaitResult = true }

// move is a saga of DTM's client that moves an amount, with DTM's barrier.
func (b *bank) move(gid string, in transfer, change ...func(*dtmcli.Saga)) error {
	s := dtmcli.NewSaga(b.dtm(), gid).
		Add(b.busi.URL+"/saga/out", b.busi.URL+"/saga/out-back", in).
		Add(b.busi.URL+"/saga/in", b.busi.URL+"/saga/in-back", in)
	for _, change := range change {
		change(s)
	}
	return s.Submit()
}

// statuses returns the statuses of the operations of all branches.
func (b *bank) statuses(gid string) string {
	var all []string
	for _, op := range b.query(gid).Branches {
		all = append(all, op.Status)
	}
	return strings.Join(all, " ")
}

func TestSagas(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBank(t, db)
		sagatest.Must(t, b.move("a", transfer{Amount: 30}, waits))
		b.books(70, 30)
		if q := b.query("a"); q.Transaction.Status != "succeed" || len(q.Branches) != 4 || q.Branches[0].Op != "compensate" || q.Branches[1].Op != "action" ||
			q.Branches[3].URL != b.busi.URL+"/saga/in" || q.Branches[3].BranchID != "02" || !strings.Contains(string(q.Branches[3].Data), `"amount":30`) {
			t.Errorf("%+v", q)
		}
		if got := b.statuses("a"); got != "prepared succeed prepared succeed" {
			t.Error(got)
		}
		// The second action refuses: the first one is compensated.
		err := b.move("b", transfer{Amount: 30, Fail: true}, waits)
		if err == nil || !strings.Contains(err.Error(), "closed") || !strings.Contains(err.Error(), "FAILURE") {
			t.Errorf("%v", err)
		}
		b.reaches("b", "failed")
		b.books(70, 30)
		if q := b.query("b"); !strings.Contains(q.Transaction.RollbackReason, "closed") {
			t.Errorf("%+v", q)
		}
		if got := b.statuses("b"); got != "succeed succeed succeed failed" {
			t.Error(got)
		}
		// The first one refuses: the second one is never called.
		sagatest.Must(t, b.move("c", transfer{Amount: 1000}))
		b.reaches("c", "failed")
		b.books(70, 30)
		if got := b.statuses("c"); got != "succeed failed prepared prepared" {
			t.Error(got)
		}
		// Without waiting, and again with the same gid.
		sagatest.Must(t, b.move("d", transfer{Amount: 10}))
		b.reaches("d", "succeed")
		sagatest.Must(t, b.move("d", transfer{Amount: 10}))
		sagatest.Must(t, b.move("d", transfer{Amount: 10}, waits))
		b.books(60, 40)
		for _, change := range [][]func(*dtmcli.Saga){nil, {waits}} {
			if err := b.move("d", transfer{Amount: 11}, change...); err == nil || !strings.Contains(err.Error(), "different plan") {
				t.Errorf("%v", err)
			}
		}
	})
}

// calls returns what a busi was asked for, as "op id" or "op id gid".
func (b *busi) calls() (all []string) {
	for _, a := range b.heard() {
		r, _ := http.NewRequest(a.method, a.uri, nil)
		q := r.URL.Query()
		all = append(all, q.Get("op")+" "+q.Get("branch_id"))
	}
	return all
}

// steps returns a saga of DTM's client with n steps.
func (b *bank) steps(at *busi, gid string, n int, change ...func(*dtmcli.Saga)) *dtmcli.Saga {
	s := dtmcli.NewSaga(b.dtm(), gid)
	for i := range n {
		s.Add(fmt.Sprint(at.URL, "/a", i), fmt.Sprint(at.URL, "/c", i), map[string]int{"step": i})
	}
	for _, change := range change {
		change(s)
	}
	return s
}

// The outcome of an action is not known, or it has not ended: it is called again. When the
// deadline has passed, it is compensated, and so are those before it.
func TestSagaActionWithoutAnEnd(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]answer{"ongoing": {200, "", `{"dtm_result":"ONGOING"}`}, "failing": {500, "", "oops"}, "too early": {425, "", ""}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := newBusi(t)
			b := newBankFor(t, at)
			done := answer{200, "", "SUCCESS"}
			at.mu.Lock()
			at.always, at.once = last, []answer{done}
			at.mu.Unlock()
			if err := b.steps(at, "a", 3, waits).Submit(); err == nil || !strings.Contains(err.Error(), "ONGOING") {
				t.Errorf("%v", err)
			}
			at.answers(200, "SUCCESS")
			b.reaches("a", "succeed")
			if got := strings.Join(slices.Compact(at.calls()), ", "); got != "action 01, action 02, action 03" {
				t.Error(got)
			}
			// It never ends.
			before := len(at.calls())
			at.mu.Lock()
			at.always, at.once = last, []answer{done}
			at.mu.Unlock()
			sagatest.Must(t, b.steps(at, "b", 2, func(s *dtmcli.Saga) { s.TimeoutToFail = 1 }).Submit())
			sagatest.Eventually(t, "it is compensated", func() bool { return slices.Contains(at.calls()[before:], "compensate 02") })
			at.answers(200, "SUCCESS")
			b.reaches("b", "failed")
			calls := at.calls()[before:]
			if got := strings.Join(slices.Compact(calls), ", "); got != "action 01, action 02, compensate 02, compensate 01" {
				t.Error(got)
			}
			if q := b.query("b"); q.Transaction.RollbackReason != "Timeout after 1 seconds" {
				t.Errorf("%+v", q)
			}
		})
	}
}

// Compensations are repeated until they are done, in the reverse order.
func TestSagaCompensationFails(t *testing.T) {
	t.Parallel()
	at := newBusi(t)
	b := newBankFor(t, at)
	done, refused := answer{200, "", ""}, answer{409, "", `{"message":"sold out"}`}
	at.mu.Lock()
	at.once = []answer{done, done, refused, done, {500, "", "oops"}, {409, "", "no"}, {200, "", "FAILURE"}, done}
	at.mu.Unlock()
	err := b.steps(at, "a", 3, waits).Submit()
	if err == nil || !strings.Contains(err.Error(), "sold out") {
		t.Errorf("%v", err)
	}
	b.reaches("a", "failed")
	if got := strings.Join(at.calls(), ", "); got != "action 01, action 02, action 03, compensate 03, compensate 02, compensate 02, compensate 02, compensate 02, compensate 01" {
		t.Error(got)
	}
}

// With retry_limit, an action is called a number of times again.
func TestSagaRetryLimit(t *testing.T) {
	t.Parallel()
	at := newBusi(t)
	b := newBankFor(t, at)
	at.mu.Lock()
	at.once = []answer{{500, "", "oops"}, {500, "", "oops"}, {200, "", ""}, {200, "", ""}, {500, "", "a"}, {500, "", "b"}}
	at.mu.Unlock()
	limit := func(n int64) func(*dtmcli.Saga) { return func(s *dtmcli.Saga) { s.RetryLimit = n } }
	sagatest.Must(t, b.steps(at, "a", 1, limit(2)).Submit())
	b.reaches("a", "succeed")
	at.heard()
	sagatest.Must(t, b.steps(at, "b", 2, limit(1)).Submit())
	b.reaches("b", "failed")
	if got := strings.Join(at.calls(), ", "); got != "action 01, action 01, action 01, action 01, action 02, action 02, compensate 02, compensate 01" {
		t.Error(got)
	}
}

// Steps with an order are called by levels, those of a level at the same time; the
// compensations in reverse.
func TestConcurrentSagas(t *testing.T) {
	t.Parallel()
	at := newBusi(t)
	b := newBankFor(t, at)
	// Step 0 is first, then 1 and 3 at once, then 2.
	ordered := func(s *dtmcli.Saga) {
		waits(s)
		s.SetConcurrent().AddBranchOrder(1, []int{0}).AddBranchOrder(3, []int{0}).AddBranchOrder(2, []int{1, 3})
	}
	sagatest.Must(t, b.steps(at, "a", 4, ordered).Submit())
	calls := at.calls()
	slices.Sort(calls[1:3])
	if got := strings.Join(calls, ", "); got != "action 01, action 02, action 04, action 03" {
		t.Error(got)
	}
	if paths := at.heard(); !strings.HasPrefix(paths[3].uri, "/a2?") || !strings.Contains(paths[3].body, "2") {
		t.Errorf("%+v", paths[3])
	}
	var ids []string
	for _, op := range b.query("a").Branches {
		ids = append(ids, op.BranchID+" "+op.URL[len(op.URL)-2:])
	}
	if got := strings.Join(ids, ", "); got != "01 c0, 01 a0, 02 c1, 02 a1, 04 c3, 04 a3, 03 c2, 03 a2" {
		t.Error(got)
	}
	// The last one refuses.
	done := answer{200, "", ""}
	at.mu.Lock()
	at.once = []answer{done, done, done, {409, "", "no"}}
	at.mu.Unlock()
	if err := b.steps(at, "b", 4, ordered).Submit(); err == nil {
		t.Error("it succeeded")
	}
	b.reaches("b", "failed")
	calls = at.calls()[8:]
	slices.Sort(calls[1:3])
	if got := strings.Join(calls, ", "); got != "compensate 03, compensate 02, compensate 04, compensate 01" {
		t.Error(got)
	}
}

// The steps of a level are called at the same time: each waits for the other one.
func TestSagaStepsAtTheSameTime(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"))
	both := make(chan struct{}, 2)
	meet := make(chan struct{})
	b.disturbed(func(r *http.Request) int {
		both <- struct{}{}
		if len(both) == 2 {
			close(meet)
		}
		<-meet
		return 0
	})
	sagatest.Must(t, b.move("a", transfer{Amount: 30}, waits, func(s *dtmcli.Saga) { s.SetConcurrent() }))
	b.books(70, 30)
}

// The engine stops and another one continues: a saga is durable when its submit is answered.
func TestSagaGoesOnInAnotherInstance(t *testing.T) {
	t.Parallel()
	at := newBusi(t)
	db := sqltest.Open(t, "sqlite")
	hosts := func(config *server.Config, _ *embedded.Config) { config.Hosts = []string{at.host()} }
	b := newBank(t, db, hosts)
	at.answers(500, "oops")
	sagatest.Must(t, b.steps(at, "a", 2, func(s *dtmcli.Saga) { s.BranchHeaders = map[string]string{"x": "y"} }).Submit())
	sagatest.Eventually(t, "it was called", func() bool { return len(at.heard()) > 0 })
	sagatest.Must(t, b.orch.Stop(t.Context()))
	at.answers(200, "")
	other := newBank(t, db, hosts)
	other.reaches("a", "succeed")
	for _, r := range at.heard() {
		if r.header.Get("X") != "y" || r.method != "POST" {
			t.Errorf("%+v", r)
		}
	}
}

// A retry_interval is the pause, and not the engine's.
func TestRetryInterval(t *testing.T) {
	t.Parallel()
	at := newBusi(t)
	b := newBankFor(t, at, patientBackoff)
	second := func(s *dtmcli.Saga) { s.RetryInterval = 1 }
	at.answersOnce(500, "oops")
	at.answersOnce(425, "")
	sagatest.Must(t, b.steps(at, "a", 1, second).Submit())
	b.reaches("a", "succeed")
	// So is that of a Confirm.
	at.answersOnce(500, "oops")
	b.says(200, "SUCCESS")(b.post("prepare", `{"gid":"b","trans_type":"tcc","retry_interval":1}`))
	b.says(200, "SUCCESS")(b.post("registerBranch", b.registration("b", "01", at.URL+"/x")))
	b.says(200, "SUCCESS")(b.post("submit", `{"gid":"b","trans_type":"tcc"}`))
	b.reaches("b", "succeed")
	for _, gid := range []string{"a", "b"} {
		found, err := b.orch.Lookup(t.Context(), gid)
		sagatest.Must(t, err)
		for _, attempt := range found.Branches[0].Attempts {
			if pause := attempt.NextAt.Sub(attempt.FailedAt); pause < time.Second || pause > 3*time.Second {
				t.Errorf("%s: %s", gid, pause)
			}
		}
	}
}

func TestBadSagas(t *testing.T) {
	t.Parallel()
	at := newBusi(t)
	b := newBankFor(t, at, func(config *server.Config, _ *embedded.Config) { config.MaxData, config.MaxTransactionData = 100, 1000 })
	step := func(n int) string {
		return strings.TrimPrefix(strings.Repeat(fmt.Sprintf(`,{"action":"%s/a","compensate":"%s/c"}`, at.URL, at.URL), n), ",")
	}
	for body, says := range map[string]string{
		``:                            "no steps",
		`"steps":[]`:                  "no steps",
		`"steps":{"action":"x"}`:      "steps is",
		`"steps":["x"]`:               "steps is",
		`"steps":[{"action":1}]`:      "steps is",
		`"steps":[` + step(100) + `]`: "100 steps, 99",
		`"steps":[{"action":"http://169.254.169.254/x"}]`:                                                  "step 0: invalid: the URL of action",
		`"steps":[{"action":"` + at.URL + `/a","compensate":"http://elsewhere/c"}]`:                        "URL of compensate",
		`"steps":[{"action":"` + at.URL + `/a","confirm":"` + at.URL + `/c"}]`:                             "step 0 has \\\"confirm\\\"",
		`"steps":[` + step(1) + `],"payloads":["1","2"]`:                                                   "2 payloads for 1 steps",
		`"steps":[` + step(1) + `],"payloads":["` + strings.Repeat("x", 101) + `"]`:                        "101 bytes",
		`"steps":[` + step(40) + `]`:                                                                       "bytes of data and URLs",
		`"steps":[` + step(1) + `],"custom_data":"x"`:                                                      "not a JSON object",
		`"steps":[` + step(1) + `],"custom_data":"{\"delay\":1}"`:                                          "delay",
		`"steps":[` + step(1) + `],"custom_data":"{\"x\":1}"`:                                              `x\", which a saga`,
		`"steps":[` + step(2) + `],"custom_data":"{\"concurrent\":true,\"orders\":{\"2\":[0]}}"`:           "steps are 0 to 1",
		`"steps":[` + step(2) + `],"custom_data":"{\"concurrent\":true,\"orders\":{\"x\":[0]}}"`:           "steps are 0 to 1",
		`"steps":[` + step(2) + `],"custom_data":"{\"concurrent\":true,\"orders\":{\"1\":[-1]}}"`:          "steps are 0 to 1",
		`"steps":[` + step(2) + `],"custom_data":"{\"concurrent\":true,\"orders\":{\"1\":[1]}}"`:           "circle",
		`"steps":[` + step(2) + `],"custom_data":"{\"concurrent\":true,\"orders\":{\"1\":[0],\"0\":[1]}}"`: "circle",
		`"steps":[` + step(1) + `],"retry_limit":-1`:                                                       "retry_limit",
		`"steps":[` + step(1) + `],"retry_limit":1001`:                                                     "retry_limit",
		`"steps":[` + step(1) + `],"query_prepared":"` + at.URL + `/q"`:                                    "query_prepared is not supported for the trans_type saga",
		`"steps":[` + step(1) + `],"timeout_to_fail":86401`:                                                "timeout_to_fail",
	} {
		b.says(400, says)(b.post("submit", strings.Replace(`{"gid":"a","trans_type":"saga",`+body+`}`, ",}", "}", 1)))
	}
	for _, endpoint := range []string{"prepare", "abort", "registerBranch"} {
		b.says(400, endpoint+" is not possible for the trans_type saga")(b.post(endpoint, `{"gid":"a","trans_type":"saga","steps":[`+step(1)+`]}`))
	}
	b.says(200, "null")(b.get("query?gid=a"))
	if heard := at.heard(); len(heard) > 0 {
		t.Errorf("%+v", heard)
	}
	// A gid that is in use.
	b.says(200, "SUCCESS")(b.post("prepare", `{"gid":"b","trans_type":"tcc"}`))
	b.says(409, "in use")(b.post("submit", `{"gid":"b","trans_type":"saga","steps":[`+step(1)+`]}`))
	sagatest.Must(t, b.orch.Begin(t.Context(), saga.Opening{GID: "native"}))
	b.says(409, "in use")(b.post("submit", `{"gid":"native","trans_type":"saga","steps":[`+step(1)+`]}`))
	// Without URLs there is nothing to do, and the data of old clients is in the steps.
	b.says(200, "SUCCESS")(b.post("submit", `{"gid":"c","trans_type":"saga","wait_result":true,"steps":[{"action":""},{"action":"`+at.URL+`/a","data":"old"}]}`))
	if heard := at.heard(); len(heard) != 1 || heard[0].body != "old" {
		t.Errorf("%+v", heard)
	}
}
