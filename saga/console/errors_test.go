package console_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/gin-gonic/gin"
	"golang.org/x/net/html"

	"github.com/tccsaga/tccsaga/saga/console"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// What cannot be shown has a page that says why.
func TestErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	s := serve(t, w.engine.Operations(), console.Config{})
	for path, want := range map[string]int{
		"nothing": http.StatusNotFound, "transactions/": http.StatusNotFound, "transaction": http.StatusNotFound,
		"transaction?gid=nobody": http.StatusNotFound, "transaction?gid=a%2Fb": http.StatusNotFound, "transaction?gid=%E8%AE%A2": http.StatusNotFound,
		"transaction?gid=%00": http.StatusNotFound, "transaction?gid=" + strings.Repeat("x", 129): http.StatusNotFound,
		"?span=2h": http.StatusBadRequest, "acts?after=x": http.StatusBadRequest, "acts?gid=%E8%AE%A2": http.StatusBadRequest,
		"transactions?after=x": http.StatusBadRequest, "letters?stream=x": http.StatusNotFound, "letter?stream=x&number=1": http.StatusNotFound,
	} {
		s.get("/console/"+path).want(t, want, "<!doctype html>", "<h1>")
	}
	s.get("/console/assets/x/y").want(t, http.StatusNotFound)
	s.do(http.MethodDelete, "/console/", nil).want(t, http.StatusMethodNotAllowed)
	if a := s.do(http.MethodHead, "/console/", nil).want(t, http.StatusOK); a.body != "" {
		t.Error("a HEAD has a body")
	}
}

// A filter that is not valid is told beside its field, and what was typed stays.
func TestBadFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	s := serve(t, w.engine.Operations(), console.Config{})
	for _, c := range []struct{ name, value, text string }{
		{"state", "lost", "This is not a state."},
		{"kind", "a b", "A kind has"},
		{"prefix", "a/b", ""},
		{"prefix", "a b", "A gid has"},
		{"owner", "é", "An instance has"},
		{"label", "a b", "A name has"},
		{"label", "order", "needs its value"},
		{"value", strings.Repeat("x", 129), "A value has"},
		{"text", strings.Repeat("x", 201), "at most 200"},
		{"from", "yesterday", "This is not a time"},
		{"to", "12345-01-01T00:00", "This is not a time"},
		{"limit", "0", "1 to 200"},
		{"limit", "1e9", "1 to 200"},
		{"order", "random", "not a choice"},
		{"attention", "yes", "not a choice"},
	} {
		s.get("/console/transactions?"+url.Values{c.name: {c.value}}.Encode()).want(t, http.StatusBadRequest, c.text, html.EscapeString(c.value))
	}
	s.get("/console/transactions?from=2026-01-02T00:00&to=2026-01-01T00:00").want(t, http.StatusBadRequest, "must be after")
}

// If the database is gone, every page says so, within its limit of time.
func TestDatabaseGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	s := serve(t, w.engine.Operations(), console.Config{Authorize: as("ann")})
	pool, err := w.db.DB()
	sagatest.Must(t, err)
	sagatest.Must(t, pool.Close())
	for _, page := range []string{"", "transactions", "transaction?gid=done-1", "transaction.json?gid=done-1", "kinds", "instances", "acts", "find?q=done-1"} {
		a := s.get("/console/"+page).want(t, http.StatusServiceUnavailable, "The database did not answer")
		if a.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %v", page, a.Header)
		}
	}
	a := s.post("/console/kinds/act", "kind", "pay", "act", "pause", "why", "my words").want(t, http.StatusServiceUnavailable, "my words")
	if !strings.Contains(a.body, "not known whether this was done") {
		t.Error(a.body)
	}
}

// Only a number of pages read the database at once. Others are answered soon, and acts are not
// held up.
func TestBusy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	const places = 4
	in, out := make(chan struct{}, 100), make(chan struct{})
	release := sync.OnceFunc(func() { close(out) })
	defer release()
	s := serve(t, w.engine.Operations(), console.Config{Authorize: as("ann"), Redact: func(_ string, data []byte) []byte {
		in <- struct{}{}
		<-out
		return data
	}})
	var pages sync.WaitGroup
	for range places {
		pages.Go(func() {
			if a := s.get("/console/transaction?gid=done-1"); a.StatusCode != http.StatusOK {
				t.Error(a.Status)
			}
		})
	}
	for range places {
		<-in
	}
	s.get("/console/").want(t, http.StatusServiceUnavailable, "as many requests as it may")
	s.post("/console/kinds/act", "kind", "pay", "act", "pause", "why", "x").want(t, http.StatusSeeOther)
	release()
	pages.Wait()
	s.get("/console/").want(t, http.StatusOK)
}

// The console can be mounted in several ways, and its links are the same in all of them.
func TestMount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	ops := w.engine.Operations()
	standard := http.NewServeMux()
	standard.Handle("/ops/tx/", serve(t, ops, console.Config{Path: "/ops/tx"}).console)
	stripped := http.NewServeMux()
	stripped.Handle("/ops/tx/", http.StripPrefix("/ops/tx", serve(t, ops, console.Config{Path: "/ops/tx/"}).console))
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.Any("/ops/tx/*path", gin.WrapH(serve(t, ops, console.Config{Path: "/ops/tx"}).console))
	for name, handler := range map[string]http.Handler{"net/http": standard, "stripped": stripped, "gin": router} {
		get := func(path string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, r)
			return answer
		}
		for _, page := range []string{"/ops/tx/", "/ops/tx/transactions", "/ops/tx/transaction?gid=" + url.QueryEscape(nastyGID)} {
			answer := get(page)
			if answer.Code != http.StatusOK {
				t.Fatalf("%s: %s: %d", name, page, answer.Code)
			}
			for _, link := range links(t, answer.Body.String()) {
				if !strings.HasPrefix(link, "/ops/tx/") && !strings.HasPrefix(link, "#") {
					t.Errorf("%s: a link to %q", name, link)
				}
			}
		}
		if answer := get("/ops/tx"); answer.Code/100 != 3 || answer.Header().Get("Location") != "/ops/tx/" {
			t.Errorf("%s: %d, %v", name, answer.Code, answer.Header())
		}
	}
	root := serve(t, ops, console.Config{Path: "/"})
	root.get("/").want(t, http.StatusOK, `href="/transactions"`)
	root.get("/kinds").want(t, http.StatusOK)
	for _, path := range []string{"console", "/a//b", "/a/../b", "/a b", "/ä", "/a?b", "//"} {
		if _, err := console.New(ops, console.Config{Path: path}); err == nil {
			t.Errorf("the path %q is accepted", path)
		}
	}
	if _, err := console.New(nil, console.Config{}); err == nil {
		t.Error("no Operations are accepted")
	}
}

// links returns the addresses that a page names, and checks that it can be parsed.
func links(t *testing.T, page string) (found []string) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	sagatest.Must(t, err)
	for node := range root.Descendants() {
		for _, a := range node.Attr {
			switch a.Key {
			case "href", "src", "action", "hx-get":
				found = append(found, a.Val)
			}
		}
	}
	return found
}
