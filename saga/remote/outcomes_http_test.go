package remote_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/participant"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// disturbed puts a handler before the Outcomes; nil takes it away.
func (d *inDoubt) disturbed(by func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	if by == nil {
		d.before.Store(nil)
		return
	}
	d.before.Store(&by)
}

// logID returns the id of the engine's log.
func (d *inDoubt) logID() (id string) {
	d.t.Helper()
	sagatest.Must(d.t, d.logDB.Raw("SELECT log_id FROM saga_schema").Scan(&id).Error)
	return id
}

// host returns one more process of the theatre, which asks with other keys or engines.
func (d *inDoubt) host(engines ...participant.Outcomes) *remote.Host {
	d.t.Helper()
	host, err := remote.NewHost(d.t.Context(), d.theatre.db, remote.HostConfig{Name: "theatre", Keys: keys("a"), Outcomes: engines, AskAfter: time.Hour, Logger: slog.New(slog.DiscardHandler)})
	sagatest.Must(d.t, err)
	sagatest.Must(d.t, registerSeats(host))
	return host
}

// Questions and answers that are not signed with the right key, and answers that are not to
// the question, do not count.
func TestOutcomeAnswersThatDoNotCount(t *testing.T) {
	t.Parallel()
	d := newInDoubt(t, sqltest.Open(t, "sqlite"), sqltest.Open(t, "sqlite"), keys("a", "b")...)
	tx := d.tried()
	_, err := tx.Confirm(t.Context())
	sagatest.Must(t, err)
	answered := func(status int, text string) func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Location", d.asks.URL+"/elsewhere")
			w.WriteHeader(status)
			io.WriteString(w, text)
		}
	}
	var old *httptest.ResponseRecorder // a good answer
	for name, c := range map[string]struct {
		by   func(w http.ResponseWriter, r *http.Request, next http.Handler)
		says string
	}{
		"page of a proxy":      {answered(200, "<html>fine</html>"), "not signed"},
		"not found":            {answered(404, "no such page"), "not signed"},
		"redirect":             {answered(307, ""), "redirect"},
		"gone":                 {func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }, "EOF"},
		"unsigned":             {changed(func(a *httptest.ResponseRecorder) { a.Header().Del("Tccsaga-Answer") }), "not signed"},
		"another state":        {changed(func(a *httptest.ResponseRecorder) { replace(a, "confirming", "cancelled") }), "not signed"},
		"unknown":              {changed(func(a *httptest.ResponseRecorder) { replace(a, "confirming", "unknown") }), "not signed"},
		"another status":       {changed(func(a *httptest.ResponseRecorder) { a.Code = 201 }), "not signed"},
		"too long":             {answered(200, strings.Repeat(" ", 100_000)), "not signed"},
		"old, to a later time": {func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { replay(w, old) }, "not signed"},
	} {
		if old == nil {
			d.disturbed(changed(func(a *httptest.ResponseRecorder) { old = a }))
			_, err := d.asked(keys("a")...).Outcome(t.Context(), d.logID(), tx.GID())
			sagatest.Must(t, err)
		}
		d.disturbed(c.by)
		if err := d.waits(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	d.disturbed(nil)

	// Keys, from the side of the host. The second key is known to the engine: a rotation.
	for name, c := range map[string]struct {
		keys  []remote.Key
		ended int
	}{
		"no key": {nil, 0}, "another key": {keys("c"), 0}, "another secret": {[]remote.Key{another(t, "a")}, 0}, "the next key": {keys("b"), 1},
	} {
		host := d.host(d.asked(c.keys...))
		if c.ended == 1 {
			defer func() {
				if ended, err := d.ask(host); ended != 1 || err != nil {
					t.Errorf("%s: %d, %v", name, ended, err)
				}
				d.theatre.holds(98, 0, 2)
			}()
		} else if ended, err := d.ask(host); ended != 0 || err == nil {
			t.Errorf("%s: %d, %v", name, ended, err)
		}
	}
}

// changed changes the answer of the Outcomes.
func changed(change func(*httptest.ResponseRecorder)) func(w http.ResponseWriter, r *http.Request, next http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		change(answer)
		replay(w, answer)
	}
}

func replace(a *httptest.ResponseRecorder, from, to string) {
	a.Body = bytes.NewBufferString(strings.Replace(a.Body.String(), from, to, 1))
}

func replay(w http.ResponseWriter, a *httptest.ResponseRecorder) {
	for name, values := range a.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(a.Code)
	w.Write(a.Body.Bytes())
}

// Without keys, an answer counts if it names the question.
func TestUnsignedOutcome(t *testing.T) {
	t.Parallel()
	d := newInDoubt(t, sqltest.Open(t, "sqlite"), sqltest.Open(t, "sqlite"))
	tx := d.tried()
	for _, text := range []string{
		`{"state":"cancelled"}`, `{"log":"` + d.logID() + `","gid":"` + tx.GID() + `","state":"unknown","request":"` + strings.Repeat("0", 32) + `"}`, "null", "",
	} {
		d.disturbed(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { io.WriteString(w, text) })
		if err := d.waits(); err == nil {
			t.Errorf("%s counts", text)
		}
	}
	d.disturbed(changed(func(a *httptest.ResponseRecorder) { replace(a, d.logID(), "other") }))
	if err := d.waits(); err == nil || !strings.Contains(err.Error(), "another question") {
		t.Errorf("%v", err)
	}
	d.disturbed(changed(func(a *httptest.ResponseRecorder) { replace(a, "trying", "perhaps") }))
	if err := d.waits(); err == nil || !strings.Contains(err.Error(), "unknown state") {
		t.Errorf("%v", err)
	}
	d.disturbed(nil)
	_, err := tx.Cancel(t.Context(), "never mind")
	sagatest.Must(t, err)
	d.ends(100, 0, 0)
}

// Requests that are not a question are refused before the log is read.
func TestStrangeQuestions(t *testing.T) {
	t.Parallel()
	d := newInDoubt(t, sqltest.Open(t, "sqlite"), sqltest.Open(t, "sqlite"), keys("a")...)
	fine := url.Values{"gid": {"g"}, "caller": {d.logID()}}
	with := func(name string, values ...string) string {
		changed := url.Values{"gid": fine["gid"], "caller": fine["caller"]}
		changed[name] = values
		return changed.Encode()
	}
	for name, c := range map[string]struct {
		method, query, body string
		status              int
		says                string
	}{
		"fine":          {"GET", fine.Encode(), "", 200, `"state":"unknown"`},
		"post":          {"POST", fine.Encode(), "", 405, "GET"},
		"body":          {"GET", fine.Encode(), "{}", 400, "no body"},
		"no gid":        {"GET", with("gid"), "", 400, "gid"},
		"two gids":      {"GET", with("gid", "a", "b"), "", 400, "gid"},
		"strange gid":   {"GET", with("gid", "a b"), "", 400, "printable"},
		"no caller":     {"GET", with("caller"), "", 400, "caller"},
		"empty caller":  {"GET", with("caller", ""), "", 400, "caller"},
		"long caller":   {"GET", with("caller", strings.Repeat("x", 200)), "", 400, "caller"},
		"another log":   {"GET", with("caller", "other"), "", 421, "another engine"},
		"bad query":     {"GET", "gid=%zz", "", 401, "signature"},
		"with a branch": {"GET", with("branch_id", "01"), "", 200, `"state":"unknown"`},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, d.asks.URL+"/outcomes?"+c.query, strings.NewReader(c.body))
		sagatest.Must(t, err)
		if name == "bad query" {
			r.Header.Set("Tccsaga-Signature", "key=a, time=1, length=0, body=x, mac=00")
		} else {
			keys("a")[0].Sign(r, "agency", []byte(c.body), time.Now())
		}
		if status, text := send(t, r); status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s: %d %s, want %d with %q", name, status, text, c.status, c.says)
		}
	}
	// A signed question is for one service, and for a short time.
	for name, sign := range map[string]func(r *http.Request){
		"another service": func(r *http.Request) { keys("a")[0].Sign(r, "theatre", nil, time.Now()) },
		"old":             func(r *http.Request) { keys("a")[0].Sign(r, "agency", nil, time.Now().Add(-time.Hour)) },
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.asks.URL+"/outcomes?"+fine.Encode(), nil)
		sagatest.Must(t, err)
		sign(r)
		if status, text := send(t, r); status != 401 || strings.Contains(text, "state") {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
}

// A configuration that cannot work is refused.
func TestOutcomesConfig(t *testing.T) {
	t.Parallel()
	engine := sagatest.Open(t, sqltest.Open(t, "sqlite"), quick)
	for says, err := range map[string]error{
		"no Keys":           second(remote.NewOutcomes(engine, remote.OutcomesConfig{})),
		"exclude":           second(remote.NewOutcomes(engine, remote.OutcomesConfig{Name: "x", Keys: keys("a"), AllowUnsigned: true})),
		"Name":              second(remote.NewOutcomes(engine, remote.OutcomesConfig{Keys: keys("a")})),
		"engine is nil":     second(remote.NewOutcomes(nil, remote.OutcomesConfig{AllowUnsigned: true})),
		"MaxConcurrent":     second(remote.NewOutcomes(engine, remote.OutcomesConfig{AllowUnsigned: true, MaxConcurrent: -1})),
		"http":              second(remote.NewEngine("agency/outcomes", remote.EngineConfig{})),
		"must be the name":  second(remote.NewEngine("http://agency/outcomes", remote.EngineConfig{Keys: keys("a")})),
		"Timeout":           second(remote.NewEngine("http://agency/outcomes", remote.EngineConfig{Timeout: -1})),
		"nobody can be":     second(participant.New(t.Context(), sqltest.Open(t, "sqlite"), participant.Config{AskAfter: 1})),
		"one of the":        second(participant.New(t.Context(), sqltest.Open(t, "sqlite"), participant.Config{Outcomes: []participant.Outcomes{nil}})),
		"AskAfter is negat": second(participant.New(t.Context(), sqltest.Open(t, "sqlite"), participant.Config{AskAfter: -1})),
	} {
		if !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	host, err := remote.NewHost(t.Context(), sqltest.Open(t, "sqlite"), remote.HostConfig{AllowUnsigned: true})
	sagatest.Must(t, err)
	if err := host.Run(t.Context()); !errors.Is(err, saga.ErrInvalid) {
		t.Errorf("%v", err)
	}
	if _, err := host.AskOutcomes(t.Context()); !errors.Is(err, saga.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

func second[T any](_ T, err error) error { return err }
