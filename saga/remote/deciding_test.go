package remote_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// sale is the payload of a branch that decides.
type sale struct{ Number int }

func (sale) Branch() string { return "ticket.sell" }

// answered returns a program that answers like a web server or a proxy.
func answered(status int, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	})
}

// A branch of another service decides. While its answers are lost, or come from somebody else,
// the transaction stays undecided. Then it is decided as the service says.
func TestServiceThatDecides(t *testing.T) {
	t.Parallel()
	key, err := remote.NewKey("k", []byte("0123456789abcdefghijklmnopqrstuv"))
	sagatest.Must(t, err)
	for name, keys := range map[string][]remote.Key{"unsigned": nil, "signed": {key}} {
		for end, committed := range map[string]bool{"committed": true, "not committed": false} {
			t.Run(name+", "+end, func(t *testing.T) {
				t.Parallel()
				testServiceThatDecides(t, keys, committed)
			})
		}
	}
}

func testServiceThatDecides(t *testing.T, keys []remote.Key, committed bool) {
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: keys})
	sagatest.Must(t, tcc.Register(th.host, &reserving[sale]{read: func(p sale) (int, int) { return 1, p.Number }}, tcc.AsAction[sale]()))
	a := newAgency(t, newService(t, th.url(), remote.ServiceConfig{Keys: keys}))
	sagatest.Must(t, tcc.RegisterRemote(a.orch, newService(t, th.url(), remote.ServiceConfig{Keys: keys}), tcc.AsAction[sale]()))
	elsewhere, err := remote.NewHost(t.Context(), sqltest.Open(t, "sqlite"), remote.HostConfig{Name: "theatre", Keys: keys, AllowUnsigned: keys == nil})
	sagatest.Must(t, err)
	unused := 100
	for answer, handler := range map[string]http.Handler{
		"500": answered(500, "broken"), "page": answered(200, "<html>It works</html>"), "empty": answered(200, ""), "SUCCESS": answered(200, `{"dtm_result":"SUCCESS"}`),
		"404": answered(404, "not found"), "not deployed": elsewhere, "409": answered(409, "<html>conflict</html>"), "FAILURE": answered(409, `{"dtm_result":"FAILURE"}`),
		"broken off": http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
	} {
		var late *http.Request
		th.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if !strings.HasSuffix(r.URL.Path, "ticket.sell") {
				next.ServeHTTP(w, r)
				return
			}
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			if r.URL.Query().Get("op") == string(barrier.Try) {
				if late = r.Clone(t.Context()); committed {
					next.ServeHTTP(httptest.NewRecorder(), r)
				}
				late.Body = io.NopCloser(bytes.NewReader(body))
			}
			handler.ServeHTTP(w, r)
		})
		gid := sagatest.GID()
		if outcome, err := tcc.Execute(t.Context(), a.orch, gid, meal{1}, seats{1, 1}, tcc.Deciding(sale{2})); !errors.Is(err, saga.ErrUnknown) {
			t.Errorf("answer %s: %+v, %v", answer, outcome, err)
		}
		sagatest.Eventually(t, "recovery asks", func() bool {
			found, err := a.orch.Lookup(t.Context(), gid)
			sagatest.Must(t, err)
			if found.State != saga.Trying {
				t.Fatalf("answer %s: %+v", answer, found.Summary)
			}
			asked := found.Branches[2].Attempts
			return len(asked) >= 3 && asked[0].Operation == barrier.Ask
		})
		th.disturbed(nil)
		end := saga.Cancelled
		if committed {
			end, unused = saga.Confirmed, unused-3 // a seat and two tickets
		}
		a.reaches(gid, end)
		if !committed {
			w := httptest.NewRecorder()
			th.host.ServeHTTP(w, late)
			if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), barrier.ErrSuspended.Error()) {
				t.Errorf("answer %s: a late Try: %d %s", answer, w.Code, w.Body)
			}
		}
		var left int
		sagatest.Must(t, th.db.Raw("SELECT unused FROM things WHERE id = 1").Scan(&left).Error)
		if left != unused {
			t.Errorf("answer %s: %d are left, want %d", answer, left, unused)
		}
	}
}

// The host answers an Ask only as its barrier says, and a service of plain DTM cannot decide.
func TestAskOfAHost(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{})
	service := newService(t, th.url(), remote.ServiceConfig{})
	call := func(gid, payload string, op barrier.Op) error {
		return service.Call(t.Context(), saga.Call{GID: gid, BranchID: "01", Kind: "seats.reserve", Op: op, Caller: "me", Payload: []byte(payload)})
	}
	const payload = `{"Row":1,"Number":1}`
	sagatest.Must(t, call("a", payload, barrier.Try))
	sagatest.Must(t, call("a", payload, barrier.Ask))
	if err := call("a", `{"Row":1,"Number":2}`, barrier.Ask); !errors.Is(err, barrier.ErrConflict) || errors.Is(err, saga.ErrNotCommitted) {
		t.Errorf("another payload: %v", err)
	}
	for range 2 {
		if err := call("b", payload, barrier.Ask); !errors.Is(err, saga.ErrNotCommitted) {
			t.Errorf("without a Try: %v", err)
		}
	}
	var rejection *saga.Rejection
	if err := call("b", payload, barrier.Try); !errors.As(err, &rejection) {
		t.Errorf("a Try after the question: %v", err)
	}
	th.holds(99, 1, 0)

	plain, err := remote.NewService(th.url(), remote.ServiceConfig{PlainDTM: true})
	sagatest.Must(t, err)
	a := newAgency(t, service)
	sagatest.Must(t, tcc.RegisterRemote(a.orch, plain, tcc.AsAction[sale]()))
	if _, err := tcc.Execute(t.Context(), a.orch, "c", meal{1}, tcc.Deciding(sale{1})); !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), "plain DTM") {
		t.Errorf("plain DTM: %v", err)
	}
	if err := plain.Call(t.Context(), saga.Call{GID: "d", BranchID: "01", Kind: "seats.reserve", Op: barrier.Ask, Payload: []byte(payload)}); err == nil || errors.Is(err, saga.ErrNotCommitted) {
		t.Errorf("plain DTM was asked: %v", err)
	}
}
