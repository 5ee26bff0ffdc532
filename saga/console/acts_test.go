package console_test

import (
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/console"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// Each way in which an act can be refused has an answer that says so, and nothing is done.
func TestRefusedActs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	s := serve(t, w.engine.Operations(), console.Config{Authorize: as("ann")})
	for _, c := range []struct {
		path  string
		pairs []string
		want  int
		text  string
	}{
		{"transaction/act", []string{"gid", "failing-1", "act", "retry"}, http.StatusBadRequest, "needs a reason"},
		{"transaction/act", []string{"gid", "failing-1", "act", "retry", "why", " \r\n\t"}, http.StatusBadRequest, "needs a reason"},
		{"transaction/act", []string{"gid", "failing-1", "act", "retry", "why", strings.Repeat("x", 1025)}, http.StatusBadRequest, "1025 characters"},
		{"transaction/act", []string{"gid", "failing-1", "act", "retry", "why", "\x00"}, http.StatusBadRequest, "not valid"},
		{"transaction/act", []string{"gid", "failing-1", "act", "delete", "why", "x"}, http.StatusBadRequest, "no such act"},
		{"transaction/act", []string{"gid", "failing-1", "act", "", "why", "x"}, http.StatusBadRequest, "no such act"},
		{"transaction/act", []string{"gid", "nobody", "act", "retry", "why", "x"}, http.StatusNotFound, "no such transaction"},
		{"transaction/act", []string{"gid", "", "act", "retry", "why", "x"}, http.StatusNotFound, "no transaction"},
		{"transaction/act", []string{"gid", "a/b", "act", "retry", "why", "x"}, http.StatusNotFound, "no transaction"},
		{"transaction/act", []string{"gid", "done-1", "act", "retry", "why", "my words"}, http.StatusConflict, "it is confirmed already"},
		{"transaction/act", []string{"gid", "done-1", "act", "retry", "why", "my words"}, http.StatusConflict, `<pre id="typed">my words</pre>`},
		{"transaction/act", []string{"gid", "done-1", "act", "cancel", "why", "x"}, http.StatusConflict, "Nothing was changed"},
		{"transaction/act", []string{"gid", "rejected-1", "act", "confirm", "why", "x"}, http.StatusConflict, "Nothing was changed"},
		{"transaction/act", []string{"gid", "failing-1", "act", "resume", "why", "x"}, http.StatusConflict, "it is not paused"},
		{"transaction/act", []string{"gid", "failing-1", "act", "retry", "why", "my words", "seen", "trying"}, http.StatusConflict, "changed since you saw it"},
		{"transaction/act", []string{"gid", "failing-1", "act", "retry", "why", "my words", "seen", "confirming+paused"}, http.StatusConflict, "my words"},
		{"transaction/act", []string{"gid", "failing-1", "act", "resolve", "branch", "02", "believed", "confirmed", "why", "x"}, http.StatusConflict, "did not fail with a conflict"},
		{"transaction/act", []string{"gid", "conflict-1", "act", "resolve", "branch", "02", "believed", "trying", "why", "x"}, http.StatusBadRequest, "must be Confirmed or Cancelled"},
		{"transaction/act", []string{"gid", "conflict-1", "act", "resolve", "why", "x"}, http.StatusBadRequest, "not valid"},
		{"kinds/act", []string{"kind", "pay", "act", "resume", "why", "x"}, http.StatusConflict, "it is not paused"},
		{"kinds/act", []string{"kind", nasty, "act", "pause", "why", "x"}, http.StatusBadRequest, "must be 1 to 64"},
		{"kinds/act", []string{"kind", "pay", "act", "delete", "why", "x"}, http.StatusBadRequest, "no such act"},
		{"kinds/act", []string{"kind", "pay", "act", "pause"}, http.StatusBadRequest, "needs a reason"},
		{"letters/act", []string{"stream", "x", "act", "resend", "why", "x"}, http.StatusNotFound, "no dead letters with this name"},
	} {
		a := s.post("/console/"+c.path, c.pairs...)
		if a.StatusCode != c.want || !strings.Contains(html.UnescapeString(a.body), c.text) {
			t.Errorf("%s %q: %s, %d with %q was expected:\n%s", c.path, c.pairs, a.Status, c.want, c.text, a.body)
		}
	}
	s.do(http.MethodPost, "/console/transaction/act", url.Values{"why": {strings.Repeat("x", 100_000)}}).want(t, http.StatusBadRequest)
	if acts := acted(t, w); len(acts) > 0 {
		t.Errorf("%+v", acts)
	}
}

// The page says which act would be refused, and offers the others.
func TestOfferedActs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	s := serve(t, w.engine.Operations(), console.Config{Authorize: as("ann")})
	for gid, offered := range map[string][]string{"done-1": nil, "failing-1": {"retry", "pause"}, "open-1": {"pause", "confirm", "cancel"},
		"conflict-1": {"retry", "pause", "resolve-02"}} {
		a := s.get("/console/transaction?gid="+gid).want(t, http.StatusOK)
		for _, act := range []string{"retry", "pause", "resume", "confirm", "cancel", "resolve-02"} {
			is := strings.Contains(a.body, `<details class="act" id="act-`+act+`">`)
			if want := strings.Contains(" "+strings.Join(offered, " ")+" ", " "+act+" "); is != want {
				t.Errorf("%s: %s is offered: %t", gid, act, is)
			}
		}
	}
}

// An export has what Lookup returns, as far as it may be shown.
func TestExport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	s := serve(t, w.engine.Operations(), console.Config{Authorize: as("ann"), Redact: func(kind string, data []byte) []byte {
		if kind == "pay" {
			return []byte("hidden")
		}
		return data
	}})
	a := s.get("/console/transaction.json?gid="+url.QueryEscape(nastyGID)).want(t, http.StatusOK)
	if a.Header.Get("Content-Type") != "application/json" || !strings.HasPrefix(a.Header.Get("Content-Disposition"), "attachment; filename=") {
		t.Error(a.Header)
	}
	var got saga.Transaction
	sagatest.Must(t, json.Unmarshal([]byte(a.body), &got))
	if got.GID != nastyGID || len(got.Branches) != 2 || string(got.Branches[1].Payload) != `"hidden"` || !strings.Contains(string(got.Branches[0].Payload), "alert") {
		t.Errorf("%+v", got)
	}
	a = s.get("/console/transaction?gid=failing-1").want(t, http.StatusOK, "hidden")
	if strings.Contains(a.body, "&#34;fail&#34;") {
		t.Error("the payload is shown")
	}
	s.get("/console/transaction.json?gid=nobody").want(t, http.StatusNotFound)
}
