package tcctest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
	"github.com/tccsaga/tccsaga/tcc/tcctest"
)

// fakeGateway is a gateway that is called over HTTP.
type fakeGateway struct {
	*gateway
	url string
}

func newFakeGateway(t testing.TB) fakeGateway {
	g := &gateway{}
	side, mux := external{gateway: g}, http.NewServeMux()
	for path, call := range map[string]func(context.Context, charge) error{"/try": side.Try, "/confirm": side.Confirm, "/cancel": side.Cancel} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			if err := call(context.WithValue(r.Context(), keyOfCall{}, r.Header.Get("Idempotency-Key")), charge{30}); err != nil {
				w.WriteHeader(http.StatusConflict)
			}
		})
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return fakeGateway{g, server.URL}
}

// payments calls the gateway over HTTP, without fault unless one is planted.
type payments struct {
	url    string
	client *http.Client
	mu     sync.Mutex

	noStatus map[string]bool // the calls that do not look at the status
	swallow  map[string]bool // the calls that return no error
	deaf     bool            // takes no context
	sure     map[string]bool // if not nil, the keys of the Trys that were answered, which alone are cancelled
}

func (p *payments) post(ctx context.Context, path string) error {
	key := tcc.CallOf(ctx).Key().String()
	if p.deaf {
		ctx = context.Background()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Idempotency-Key", key)
	response, err := p.client.Do(request)
	switch {
	case err != nil && p.swallow[path]:
		return nil
	case err != nil:
		return err
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusConflict:
		return tcc.Reject(errors.New("credit is short"))
	case response.StatusCode != http.StatusOK && !p.noStatus[path]:
		return fmt.Errorf("the gateway answered %s", response.Status)
	}
	return nil
}

func (p *payments) Try(ctx context.Context, _ charge) error {
	err := p.post(ctx, "/try")
	if p.sure != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.sure[tcc.CallOf(ctx).GID] = err == nil
	}
	return err
}

func (p *payments) Confirm(ctx context.Context, _ charge) error { return p.post(ctx, "/confirm") }

func (p *payments) Cancel(ctx context.Context, _ charge) error {
	p.mu.Lock()
	answered, known := p.sure[tcc.CallOf(ctx).GID]
	p.mu.Unlock()
	if known && !answered {
		return nil
	}
	return p.post(ctx, "/cancel")
}

// What goes wrong on the wire of an external branch has to be told.
func TestFaultsOfHTTP(t *testing.T) {
	t.Parallel()
	const advice = ": return an error whenever the other side did not say yes, a status other than 2xx included, so that the call is repeated or cancelled"
	for name, c := range map[string]struct {
		plant func(*payments)
		says  string
	}{
		"no fault": {func(*payments) {}, ""},
		"Confirm does not look at the status": {func(p *payments) { p.noStatus = map[string]bool{"/confirm": true} },
			"gateway.charge, after Try, Confirm, of which request 1 (POST /confirm) is answered with the status 503: Confirm returned nil although its request failed, and the state is {Free:70 Held:30 Spent:0}, want {Free:70 Held:0 Spent:30}" + advice},
		"Cancel returns no error": {func(p *payments) { p.swallow = map[string]bool{"/cancel": true} },
			"gateway.charge, after Try, Cancel, of which request 1 (POST /cancel) does not arrive: Cancel returned nil although its request failed, and the state is {Free:70 Held:30 Spent:0}, want {Free:100 Held:0 Spent:0}" + advice},
		"Try returns no error": {func(p *payments) { p.swallow = map[string]bool{"/try": true} },
			"gateway.charge, after Try, of which request 1 (POST /try) does not arrive: Try returned nil although its request failed, and the state is {Free:100 Held:0 Spent:0}, want {Free:70 Held:30 Spent:0}" + advice},
		"ctx is not handed on": {func(p *payments) { p.deaf = true },
			"gateway.charge, after Try, of which request 1 (POST /try) is not answered when the context ends: the request goes on, want it to end with the context of the call: make the request with the ctx of the call, as http.NewRequestWithContext does, so that it ends when the call does"},
		"Cancel gives back only what was answered": {func(p *payments) { p.sure = map[string]bool{} },
			"gateway.charge, after Try, of which request 1 (POST /try) arrives, and its reply is lost, Cancel: the state is {Free:70 Held:30 Spent:0}, want {Free:100 Held:0 Spent:0}: let Cancel give back all that is there under the key of the call, also after a Try that failed, and nothing else"},
		"another client": {func(p *payments) { p.client = http.DefaultClient },
			"gateway.charge, after Case.Reset: no request has gone through Case.HTTP: give it to the http.Client of the branch as its Transport"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway, wire := newFakeGateway(t), &tcctest.Transport{}
			branch := &payments{url: gateway.url, client: &http.Client{Transport: wire}}
			c.plant(branch)
			db := sqltest.Open(t, "sqlite")
			cents := caseOf(gateway.gateway)
			cents.HTTP = wire
			got := record(t, func(t testing.TB) { tcctest.ExerciseExternal(t, db, branch, cents) })
			t.Logf("said:\n%s", got)
			if first, _, _ := strings.Cut(got, "\n"); first != c.says {
				t.Errorf("want:\n%s", c.says)
			}
		})
	}
}

// mailing is a branch that also sends a mail, over HTTP.
type mailing struct {
	*credit
	mail *payments
}

func (m mailing) Deliver(ctx context.Context, _ hold) (any, error) {
	return nil, m.mail.post(ctx, "/mail")
}

// What goes wrong in Deliver has to be told, too.
func TestFaultsOfDeliver(t *testing.T) {
	t.Parallel()
	for noStatus, says := range map[bool]string{
		false: "",
		true:  "credit.hold, after Try, Confirm, of which request 1 (POST /mail) is answered with the status 503: Confirm returned nil although its request failed, and the state is {account:{Free:70 Held:0 Spent:30} Mails:0}, want {account:{Free:70 Held:0 Spent:30} Mails:1}: return an error",
	} {
		var mails sync.Map
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { mails.Store(r.Header.Get("Idempotency-Key"), true) }))
		t.Cleanup(server.Close)
		db, wire := sqltest.Open(t, "sqlite"), &tcctest.Transport{}
		open(t, db)
		branch := mailing{newCredit(), &payments{url: server.URL, client: &http.Client{Transport: wire}, noStatus: map[string]bool{"/mail": noStatus}}}
		c := thirty()
		c.HTTP, c.Tried, c.Confirmed = wire, nil, nil
		whole := c.Reset
		c.Reset = func(ctx context.Context, db *gorm.DB) error { mails.Clear(); return whole(ctx, db) }
		c.State = func(ctx context.Context, db *gorm.DB) (any, error) {
			type state struct {
				account
				Mails int
			}
			var s state
			mails.Range(func(any, any) bool { s.Mails++; return true })
			var err error
			s.account, err = read(ctx, db)
			return s, err
		}
		got := record(t, func(t testing.TB) { tcctest.Exercise(t, db, branch, c) })
		if !strings.HasPrefix(got, says) || strings.Count(got, "\n") > 0 || (says == "") != (got == "") {
			t.Errorf("said:\n%s\nwant:\n%s", got, says)
		}
	}
}

// shaky is a branch whose other side can be stopped, over something else than HTTP.
type shaky struct {
	external
	stopped *bool
	swallow bool
}

func (s shaky) Confirm(ctx context.Context, in charge) error {
	if *s.stopped && s.swallow {
		return nil
	} else if *s.stopped {
		return errors.New("the gateway is down")
	}
	return s.external.Confirm(ctx, in)
}

func TestBreak(t *testing.T) {
	t.Parallel()
	for swallow, says := range map[bool]string{
		false: "",
		true:  "gateway.charge, after Try, Confirm while the other side fails: Confirm returned nil although the other side failed, and the state is {Free:70 Held:30 Spent:0}, want {Free:70 Held:0 Spent:30}: return an error",
	} {
		branch := shaky{external{gateway: &gateway{}}, new(bool), swallow}
		c := caseOf(branch.gateway)
		c.Break = func(context.Context) (func(), error) {
			*branch.stopped = true
			return func() { *branch.stopped = false }, nil
		}
		got := record(t, func(t testing.TB) { tcctest.ExerciseExternal(t, sqltest.Open(t, "sqlite"), branch, c) })
		if !strings.HasPrefix(got, says) || strings.Count(got, "\n") > 0 || (says == "") != (got == "") {
			t.Errorf("said:\n%s\nwant:\n%s", got, says)
		}
	}
	g := &gateway{}
	c := caseOf(g)
	c.Break = func(context.Context) (func(), error) { return nil, errors.New("not today") }
	got := record(t, func(t testing.TB) { tcctest.ExerciseExternal(t, sqltest.Open(t, "sqlite"), external{gateway: g}, c) })
	if !strings.Contains(got, "tcctest: Case.Break: not today") {
		t.Errorf("said:\n%s", got)
	}
}
