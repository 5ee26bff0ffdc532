package server_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/dtm-labs/client/dtmcli"

	"github.com/tccsaga/tccsaga/saga/dtm/server"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
)

// message returns a message of DTM's client with n actions.
func (b *bank) message(at *busi, gid string, n int, change ...func(*dtmcli.Msg)) *dtmcli.Msg {
	m := dtmcli.NewMsg(b.dtm(), gid)
	for i := range n {
		m.Add(at.URL+"/a", map[string]int{"step": i})
	}
	for _, change := range change {
		change(m)
	}
	return m
}

// Each action of a message is called until it succeeds, one after the other: none can refuse.
func TestMessages(t *testing.T) {
	t.Parallel()
	at := newBusi(t)
	b := newBankFor(t, at)
	wait := func(m *dtmcli.Msg) { m.WaitResult = true }
	at.mu.Lock()
	at.once = []answer{{200, "", ""}, {409, "", "no"}, {200, "", "FAILURE"}, {425, "", ""}, {500, "", "oops"}}
	at.always = answer{500, "", "oops"}
	at.mu.Unlock()
	if err := b.message(at, "a", 3, wait).Submit(); err == nil || !strings.Contains(err.Error(), "ONGOING") {
		t.Errorf("%v", err)
	}
	sagatest.Eventually(t, "all has been answered", func() bool { return len(at.calls()) > 5 })
	at.answers(200, "SUCCESS")
	b.reaches("a", "succeed")
	if got := strings.Join(slices.Compact(at.calls()), ", "); got != "action 01, action 02, action 03" {
		t.Error(got)
	}
	if q := b.query("a"); len(q.Branches) != 3 || q.Branches[2].Op != "action" || q.Branches[2].Status != "succeed" || q.Branches[2].BranchID != "03" {
		t.Errorf("%+v", q)
	}
	for _, r := range at.heard() {
		if !strings.Contains(r.uri, "trans_type=msg") {
			t.Errorf("%+v", r)
		}
	}
	before := len(at.calls())
	sagatest.Must(t, b.message(at, "a", 3).Submit()) // again
	sagatest.Must(t, b.message(at, "a", 3, wait).Submit())
	if err := b.message(at, "a", 2).Submit(); err == nil || !strings.Contains(err.Error(), "different plan") {
		t.Errorf("%v", err)
	}
	sagatest.Must(t, b.message(at, "b", 2, wait, func(m *dtmcli.Msg) { m.Concurrent = true }).Submit())
	if n := len(at.calls()) - before; n != 2 {
		t.Errorf("%d calls", n)
	}
}

// A step for a topic is one for each of its subscribers.
func TestTopics(t *testing.T) {
	t.Parallel()
	at := newBusi(t)
	b := newBankFor(t, at, func(config *server.Config, _ *embedded.Config) {
		config.Topics = map[string][]string{"two": {at.URL + "/x", at.URL + "/y"}, "one": {at.URL + "/z"}}
	})
	m := dtmcli.NewMsg(b.dtm(), "a").AddTopic("two", 1).Add(at.URL+"/a", 2).AddTopic("one", 3)
	m.WaitResult = true
	sagatest.Must(t, m.Submit())
	var got []string
	for _, r := range at.heard() {
		got = append(got, r.uri[:2]+r.body)
	}
	if calls := strings.Join(at.calls(), ", "); strings.Join(got, " ") != "/x1 /y1 /a2 /z3" || calls != "action 01-01, action 01-02, action 02, action 03" {
		t.Errorf("%v, %s", got, calls)
	}
	if err := dtmcli.NewMsg(b.dtm(), "b").AddTopic("none", 1).Submit(); err == nil || !strings.Contains(err.Error(), "topic not found") {
		t.Errorf("%v", err)
	}
}

// What the API does not do with messages, it refuses.
func TestMessagesThatAreRefused(t *testing.T) {
	t.Parallel()
	at := newBusi(t)
	b := newBankFor(t, at)
	for says, send := range map[string]func() error{
		"no query_prepared":   func() error { return b.message(at, "a", 1).Prepare("") },
		"query_prepared: the": func() error { return b.message(at, "a", 1).Prepare("http://elsewhere/q") },
		"custom_data":         func() error { return b.message(at, "a", 1).SetDelay(10).Submit() },
		"no steps":            func() error { return b.message(at, "a", 0).Submit() },
		"has no steps":        func() error { return b.message(at, "a", 0).Prepare(at.URL + "/q") },
	} {
		if err := send(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	b.says(409, "no such transaction")(b.post("abort", `{"gid":"a","trans_type":"msg"}`))
	b.says(400, "registerBranch is not possible")(b.post("registerBranch", `{"gid":"a","trans_type":"msg"}`))
	b.says(200, "null")(b.get("query?gid=a"))
	if heard := at.heard(); len(heard) > 0 {
		t.Errorf("%+v", heard)
	}
}
