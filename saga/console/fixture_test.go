package console_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/console"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// nasty is a text that must never reach a page unescaped.
const nasty = `<script>alert(1)</script>"'&`

// nastyGID is a gid with all kinds of characters that a gid can have.
const nastyGID = `..%2F'"<b>&?#;\+{{1}}`

// world is a log with transactions in all states, and its engine.
type world struct {
	db     *gorm.DB
	engine *embedded.Engine
	well   atomic.Bool // the calls of the branch pay succeed
}

// newWorld makes the world. Failed calls are repeated after an hour.
func newWorld(t testing.TB, db *gorm.DB) *world {
	t.Helper()
	w := &world{db: db, engine: sagatest.Open(t, db, embedded.Config{MinBackoff: time.Hour, MaxBackoff: time.Hour})}
	for kind, work := range map[string]func(saga.Call) error{"hold": func(saga.Call) error { return nil }, "pay": w.pay} {
		sagatest.Must(t, w.engine.Register(saga.NewLocal(kind, json.Marshal, saga.Local{
			Work: func(_ context.Context, _ *gorm.DB, c saga.Call) error { return work(c) }})))
	}
	sagatest.Run(t, w.engine)
	w.execute(t, "done-1", "well", saga.Confirmed)
	w.execute(t, nastyGID, "well", saga.Confirmed)
	w.execute(t, "rejected-1", "reject", saga.Cancelled)
	w.execute(t, "failing-1", "fail", saga.Confirming)
	w.execute(t, "conflict-1", "conflict", saga.Confirming)
	sqltest.Exec(t, db, "DELETE FROM saga_barrier WHERE gid = 'conflict-1' AND branch_id = '02'") // as if its Try had never run
	sagatest.Must(t, w.engine.Begin(t.Context(), saga.Opening{GID: "open-1", Pattern: "tcc", Timeout: time.Hour}))
	sagatest.Must(t, w.engine.Try(t.Context(), "open-1", "01", saga.Step{Kind: "hold", Input: "room"}))
	return w
}

// execute executes a transaction, and waits for a state, and for a failed call if it is to fail.
func (w *world) execute(t testing.TB, gid, how string, state saga.State) {
	t.Helper()
	_, err := w.engine.Execute(t.Context(), saga.Plan{GID: gid, Pattern: "tcc",
		Steps:   []saga.Step{{Kind: "hold", Input: map[string]string{"note": nasty}}, {Kind: "pay", Input: how}},
		Options: saga.Options{Labels: map[string]string{"order": nasty}}})
	if err != nil && state != saga.Cancelled {
		t.Fatal(err)
	}
	sagatest.Eventually(t, gid+" "+string(state), func() bool {
		found, err := w.engine.Lookup(t.Context(), gid)
		return err == nil && found.State == state && (state != saga.Confirming || len(found.Branches[1].Attempts) > 0)
	})
}

// pay is a branch that does what its input says, as long as the world is not well.
func (w *world) pay(c saga.Call) error {
	var how string
	if err := json.Unmarshal(c.Payload, &how); err != nil {
		return err
	}
	switch {
	case how == "reject" && c.Op == barrier.Try:
		return saga.RejectCode("funds.short", errors.New("no funds "+nasty))
	case w.well.Load() || c.Op != barrier.Confirm:
		return nil
	case how == "fail":
		return errors.New("the bank is closed " + nasty)
	case how == "conflict":
		return fmt.Errorf("pay: %w", barrier.ErrConflict)
	}
	return nil
}

// site is a console that is served.
type site struct {
	t       testing.TB
	console *console.Console
	server  *httptest.Server
	client  *http.Client
	header  http.Header // of every request
}

// as returns an Authorize hook that lets everybody do everything by a name.
func as(who string) func(*http.Request, console.Verb) (string, error) {
	return func(*http.Request, console.Verb) (string, error) { return who, nil }
}

// serve serves a console until the test ends. It does not follow redirects.
func serve(t testing.TB, ops *embedded.Operations, config console.Config) *site {
	t.Helper()
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	c, err := console.New(ops, config)
	sagatest.Must(t, err)
	t.Cleanup(c.Close)
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	client := server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &site{t, c, server, client, make(http.Header)}
}

// answer is the answer to a request.
type answer struct {
	*http.Response
	body string
}

func (s *site) do(method, path string, form url.Values) answer {
	s.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.server.URL+path, body)
	sagatest.Must(s.t, err)
	request.Header = s.header.Clone()
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := s.client.Do(request)
	sagatest.Must(s.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	sagatest.Must(s.t, err)
	return answer{response, string(text)}
}

func (s *site) get(path string) answer { s.t.Helper(); return s.do(http.MethodGet, path, nil) }

// post sends a form, as a browser does from a page of the same site.
func (s *site) post(path string, pairs ...string) answer {
	s.t.Helper()
	form := make(url.Values)
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	return s.do(http.MethodPost, path, form)
}

// want ends the test if the answer has another status, or lacks a text.
func (a answer) want(t testing.TB, status int, texts ...string) answer {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("%s: %s, %d was expected:\n%s", a.Request.URL, a.Status, status, a.body)
	}
	if strings.Contains(a.body, "%!") {
		t.Fatalf("%s: a text has other arguments than it needs:\n%s", a.Request.URL, a.body)
	}
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			t.Fatalf("%s: the answer has no %q:\n%s", a.Request.URL, text, a.body)
		}
	}
	return a
}
