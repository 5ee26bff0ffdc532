package browsertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/console"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// attack is text that runs a script, if a page shows it as it is.
const attack = `</script><script>alert(1)</script><img src=x onerror=alert(2)>"'`

// attackGID is a gid with the same purpose.
const attackGID = `g"><script>alert(3)<\script>&x=%271%27#?`

// site is a service with the console, and with transactions in all states.
type site struct {
	engine *embedded.Engine
	db     *gorm.DB
	server *httptest.Server
	broken atomic.Bool // the Confirms of kind "message.publish" fail
	text   string      // is in errors, reasons and payloads
}

// serve starts a site. Change may change the configuration of the console.
func serve(t *testing.T, change func(*console.Config)) *site {
	t.Helper()
	t.Parallel()
	return serveTexts(t, attack, 10*time.Millisecond, change)
}

// serveTexts starts a site with a text in its transactions, and a backoff of failed calls.
func serveTexts(t *testing.T, text string, backoff time.Duration, change func(*console.Config)) *site {
	t.Helper()
	s := &site{db: sqltest.Open(t, "sqlite"), text: text}
	s.engine = sagatest.Open(t, s.db, embedded.Config{AttentionAttempts: 2, MinBackoff: backoff, MaxBackoff: 5 * backoff, Timeout: time.Hour})
	s.register(t)
	sagatest.Run(t, s.engine)
	s.fill(t)
	config := console.Config{Title: "Orders", Path: "/ops/console", Authorize: authorize}
	if change != nil {
		change(&config)
	}
	pages, err := console.New(s.engine.Operations(), config)
	sagatest.Must(t, err)
	t.Cleanup(pages.Close)
	mux := http.NewServeMux()
	mux.Handle("/ops/console/", pages)
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "user", Value: r.FormValue("user"), Path: "/", HttpOnly: true})
		fmt.Fprintf(w, "<!doctype html><html lang=en><title>login</title><main><h1>Hello</h1></main></html>")
	})
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	s.server = httptest.NewServer(mux)
	t.Cleanup(s.server.Close)
	return s
}

// authorize knows a person by a cookie. Alice may do everything, and Bob may look.
func authorize(r *http.Request, verb console.Verb) (string, error) {
	user, err := r.Cookie("user")
	switch {
	case err != nil || user.Value == "":
		return "", errors.New("sign in first")
	case user.Value == "bob" && verb != console.View && verb != console.Export:
		return "", errors.New("bob may only look")
	}
	return user.Value, nil
}

func (s *site) register(t *testing.T) {
	t.Helper()
	encode := func(input any) ([]byte, error) { return json.Marshal(input) }
	ok := func(context.Context, saga.Call) (any, error) { return nil, nil }
	reserve := func(_ context.Context, c saga.Call) (any, error) {
		if strings.Contains(string(c.Payload), "reject") {
			return nil, saga.Reject(errors.New("sold out " + s.text))
		}
		return nil, nil
	}
	publish := func(context.Context, saga.Call) (any, error) {
		if s.broken.Load() {
			return nil, errors.New("broker unreachable " + s.text)
		}
		return nil, nil
	}
	sagatest.Must(t, s.engine.Register(saga.NewExternal("stock.lock", encode, saga.External{Try: reserve, Confirm: ok, Cancel: ok})))
	sagatest.Must(t, s.engine.Register(saga.NewExternal("message.publish", encode, saga.External{Try: ok, Confirm: publish, Cancel: ok})))
}

// fill makes transactions in all states.
func (s *site) fill(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	for i := range 60 {
		s.order(t, fmt.Sprintf("order-%d", 1001+i), "7")
	}
	if s.text != "" {
		s.order(t, attackGID, attack)
	}
	_, err := s.engine.Execute(ctx, s.plan("order-2001", "reject "+s.text))
	if !errors.Is(err, saga.ErrCancelled) {
		t.Fatal(err)
	}
	sagatest.Eventually(t, "the end of all", func() bool {
		found, err := s.engine.Count(ctx, saga.Query{Unfinished: true})
		return err == nil && found.N == 0
	})
	s.broken.Store(true)
	for i := range 5 {
		s.order(t, fmt.Sprintf("order-%d", 3001+i), "8")
	}
	sagatest.Eventually(t, "attention", func() bool {
		found, err := s.engine.Count(ctx, saga.Query{Attention: true})
		return err == nil && found.N == 5
	})
	sagatest.Must(t, s.engine.Begin(ctx, saga.Opening{GID: "reservation-1", Pattern: "tcc", Timeout: time.Hour}))
	sagatest.Must(t, s.engine.Try(ctx, "reservation-1", "01", saga.Step{Kind: "stock.lock", Input: map[string]any{"sku": "phone"}}))
	sagatest.Must(t, s.engine.Begin(ctx, saga.Opening{GID: "reservation-2", Pattern: "tcc", Timeout: time.Hour}))
	sagatest.Must(t, s.engine.Pause(ctx, "order-3005", saga.Operator{Who: "carol", Why: "looking at it " + s.text}))
}

func (s *site) plan(gid, sku string) saga.Plan {
	return saga.Plan{GID: gid, Pattern: "tcc", Steps: []saga.Step{
		{Kind: "stock.lock", Input: map[string]any{"sku": sku, "quantity": 1}},
		{Kind: "message.publish", Input: map[string]any{"subject": "orders.placed", "data": s.text}},
	}}
}

// order executes an order with a label.
func (s *site) order(t *testing.T, gid, customer string) {
	t.Helper()
	p := s.plan(gid, "phone")
	p.Options = saga.Options{Labels: map[string]string{"customer": customer}, ReturnDecided: true}
	_, err := s.engine.Execute(t.Context(), p)
	sagatest.Must(t, err)
}

// page returns the address of a page of the console.
func (s *site) page(name string, parameters ...string) string {
	values := url.Values{}
	for i := 0; i+1 < len(parameters); i += 2 {
		values.Add(parameters[i], parameters[i+1])
	}
	address := s.server.URL + "/ops/console/" + name
	if len(values) > 0 {
		address += "?" + values.Encode()
	}
	return address
}

// as opens a tab in which somebody is signed in.
func (s *site) as(t *testing.T, user string, l look) *tab {
	t.Helper()
	b := open(t, l)
	b.visit(s.server.URL + "/login?user=" + url.QueryEscape(user))
	return b
}
