package console_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/console"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// Without a hook, only clients of the same machine see pages, and nobody acts.
func TestNoHook(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	s := serve(t, w.engine.Operations(), console.Config{})
	s.get("/console/").want(t, http.StatusOK, `id="mode"`)
	s.post("/console/transaction/act", "gid", "failing-1", "act", "retry", "why", "x").want(t, http.StatusForbidden)
	if acts := acted(t, w); len(acts) > 0 {
		t.Errorf("%+v", acts)
	}
	if a := s.get("/console/transaction?gid=failing-1"); strings.Contains(a.body, "<textarea") {
		t.Error("an act is offered")
	}
	for _, c := range []struct {
		from, host, header string
		want               int
	}{
		{"127.0.0.1:999", "localhost", "", http.StatusOK},
		{"127.0.0.1:999", "LOCALHOST:8080", "", http.StatusOK},
		{"127.0.0.9:999", "127.0.0.1:8080", "", http.StatusOK},
		{"[::1]:999", "[::1]:8080", "", http.StatusOK},
		{"[::1]:999", "[::1]", "", http.StatusOK},
		{"[::ffff:127.0.0.1]:999", "localhost", "", http.StatusOK},
		{"10.0.0.1:999", "localhost", "", http.StatusForbidden},
		{"[2001:db8::1]:999", "[::1]", "", http.StatusForbidden},
		{"127.0.0.1:999", "attacker.example", "", http.StatusForbidden}, // DNS rebinding
		{"127.0.0.1:999", "localhost.attacker.example", "", http.StatusForbidden},
		{"127.0.0.1:999", "127.0.0.1.attacker.example:80", "", http.StatusForbidden},
		{"127.0.0.1:999", "10.0.0.1", "", http.StatusForbidden},
		{"127.0.0.1:999", "", "", http.StatusForbidden},
		{"@", "localhost", "", http.StatusForbidden}, // a Unix socket
		{"127.0.0.1:999", "localhost", "X-Forwarded-For", http.StatusForbidden},
		{"127.0.0.1:999", "localhost", "Forwarded", http.StatusForbidden},
		{"127.0.0.1:999", "localhost", "X-Real-Ip", http.StatusForbidden},
		{"127.0.0.1:999", "localhost", "Via", http.StatusForbidden},
	} {
		for _, page := range []string{"/console/", "/console/transaction.json?gid=done-1"} {
			r := httptest.NewRequest(http.MethodGet, page, nil)
			r.RemoteAddr, r.Host = c.from, c.host
			if c.header != "" {
				r.Header.Set(c.header, "10.0.0.1")
			}
			answer := httptest.NewRecorder()
			s.console.ServeHTTP(answer, r)
			if answer.Code != c.want {
				t.Errorf("%+v: %s: %d", c, page, answer.Code)
			}
		}
	}
}

// acted returns the acts of the audit log.
func acted(t *testing.T, w *world) []saga.ActionRecord {
	t.Helper()
	page, err := w.engine.Operations().Actions(t.Context(), saga.ActionQuery{})
	sagatest.Must(t, err)
	return page.Actions
}

// Each act is refused without its verb, and done with it.
func TestVerbs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	var mu sync.Mutex
	var allowed []console.Verb
	allow := func(verbs ...console.Verb) {
		mu.Lock()
		defer mu.Unlock()
		allowed = verbs
	}
	s := serve(t, w.engine.Operations(), console.Config{Authorize: func(_ *http.Request, v console.Verb) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if slices.Contains(allowed, v) {
			return "bob", nil
		}
		return "", errors.New("ask the team of payments")
	}})
	s.get("/console/").want(t, http.StatusForbidden, "ask the team of payments")
	allow(console.View)
	a := s.get("/console/transaction?gid=failing-1").want(t, http.StatusOK, "ask the team of payments")
	if strings.Contains(a.body, "<textarea") || strings.Contains(a.body, "transaction.json") {
		t.Error("an act is offered that would be refused")
	}
	s.get("/console/transaction.json?gid=failing-1").want(t, http.StatusForbidden)
	act := func(path string, pairs ...string) answer {
		return s.post("/console/"+path, append(pairs, "why", "because of "+nasty)...)
	}
	acts := []struct {
		verb  console.Verb
		path  string
		pairs []string
		name  string
	}{
		{console.Retry, "transaction/act", []string{"gid", "failing-1", "act", "retry"}, "retry"},
		{console.Pause, "transaction/act", []string{"gid", "failing-1", "act", "pause"}, "pause"},
		{console.Resume, "transaction/act", []string{"gid", "failing-1", "act", "resume"}, "resume"},
		{console.Confirm, "transaction/act", []string{"gid", "open-1", "act", "confirm", "seen", "trying"}, "confirm"},
		{console.Resolve, "transaction/act", []string{"gid", "conflict-1", "act", "resolve", "branch", "02", "believed", "confirmed"}, "resolve"},
		{console.PauseKind, "kinds/act", []string{"kind", "pay", "act", "pause"}, "pause"},
		{console.ResumeKind, "kinds/act", []string{"kind", "pay", "act", "resume"}, "resume"},
	}
	for i, c := range acts {
		allow(console.View)
		act(c.path, c.pairs...).want(t, http.StatusForbidden, "ask the team of payments")
		if n := len(acted(t, w)); n != i {
			t.Fatalf("%s: %d acts after a refused one", c.verb, n)
		}
		allow(console.View, c.verb)
		a := act(c.path, c.pairs...).want(t, http.StatusSeeOther)
		done := acted(t, w)
		if len(done) != i+1 || done[0].Name != c.name || done[0].Who != "bob" || done[0].Why != "because of "+nasty {
			t.Fatalf("%s: %+v", c.verb, done)
		}
		// The page after it says what was done, once.
		for _, cookie := range a.Cookies() {
			s.header.Set("Cookie", cookie.Name+"="+cookie.Value)
		}
		a = s.get(a.Header.Get("Location")).want(t, http.StatusOK, `id="done"`, "Recorded")
		if !slices.ContainsFunc(a.Cookies(), func(c *http.Cookie) bool { return c.MaxAge < 0 }) {
			t.Error("the message stays")
		}
		s.header.Del("Cookie")
	}
	allow(console.View)
	s.get("/console/acts").want(t, http.StatusOK, "because of &lt;script&gt;")
	allow(console.View, console.Cancel)
	sagatest.Must(t, w.engine.Begin(t.Context(), saga.Opening{GID: "open-2", Pattern: "tcc"}))
	act("transaction/act", "gid", "open-2", "act", "cancel").want(t, http.StatusSeeOther)
	sagatest.Reach(t, w.engine, "open-2", saga.Cancelled)
}

// A name is needed for an act, and none for a page.
func TestNoName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	s := serve(t, w.engine.Operations(), console.Config{Authorize: as("")})
	s.get("/console/").want(t, http.StatusOK)
	s.post("/console/transaction/act", "gid", "failing-1", "act", "retry", "why", "x").want(t, http.StatusForbidden)
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	s := serve(t, w.engine.Operations(), console.Config{Authorize: as("ann"), ReadOnly: true})
	a := s.get("/console/transaction?gid=failing-1").want(t, http.StatusOK, `id="mode"`, "read-only")
	if strings.Contains(a.body, "<textarea") {
		t.Error("an act is offered")
	}
	s.get("/console/transaction.json?gid=failing-1").want(t, http.StatusOK)
	s.post("/console/transaction/act", "gid", "failing-1", "act", "retry", "why", "x").want(t, http.StatusForbidden)
	s.post("/console/kinds/act", "kind", "pay", "act", "pause", "why", "x").want(t, http.StatusForbidden)
	if acts := acted(t, w); len(acts) > 0 {
		t.Errorf("%+v", acts)
	}
}

// Another site cannot act with the cookies of a person.
func TestCrossSite(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	s := serve(t, w.engine.Operations(), console.Config{Authorize: as("ann")})
	for name, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://attacker.example"} {
		s.header.Set(name, value)
		s.post("/console/transaction/act", "gid", "failing-1", "act", "retry", "why", "x").want(t, http.StatusForbidden)
		s.post("/console/settings", "theme", "dark").want(t, http.StatusForbidden)
		s.header.Del(name)
	}
	s.header.Set("Sec-Fetch-Site", "none")
	s.get("/console/transaction/act?gid=failing-1&act=retry&why=x").want(t, http.StatusMethodNotAllowed)
	if acts := acted(t, w); len(acts) > 0 {
		t.Errorf("%+v", acts)
	}
	s.header.Set("Sec-Fetch-Site", "same-origin")
	s.post("/console/transaction/act", "gid", "failing-1", "act", "retry", "why", "x").want(t, http.StatusSeeOther)
}

// The console never redirects to another site.
func TestSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	s := serve(t, w.engine.Operations(), console.Config{})
	for back, want := range map[string]string{"/console/kinds": "/console/kinds", "/console/transaction?gid=a%2Fb": "/console/transaction?gid=a%2Fb",
		"": "/console/", "https://attacker.example/console/": "/console/", "//attacker.example/console/": "/console/", `/\attacker.example`: "/console/",
		"/other": "/console/", "javascript:alert(1)": "/console/", `/console/\..`: "/console/"} {
		a := s.post("/console/settings", "theme", "dark", "back", back).want(t, http.StatusSeeOther)
		if a.Header.Get("Location") != want {
			t.Errorf("back %q leads to %q", back, a.Header.Get("Location"))
		}
	}
	a := s.post("/console/settings", "theme", "dark")
	s.header.Set("Cookie", a.Cookies()[0].Name+"="+a.Cookies()[0].Value)
	s.get("/console/").want(t, http.StatusOK, `data-theme="dark"`)
	s.header.Set("Cookie", a.Cookies()[0].Name+"="+url.QueryEscape(nasty))
	if a := s.get("/console/").want(t, http.StatusOK); strings.Contains(a.body, "data-theme") {
		t.Error("a theme that does not exist")
	}
	s.post("/console/settings", "theme", nasty).want(t, http.StatusBadRequest)
}
