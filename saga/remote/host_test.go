package remote_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

const two = `{"Row":1,"Number":2}`

// Every order of three calls, compared with what the table of package barrier
// says, and the books with it.
func TestEveryOrder(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		th := newTheatre(t, db, remote.HostConfig{})
		ops := []barrier.Op{barrier.Try, barrier.Confirm, barrier.Cancel}
		held, used := 0, 0
		for n := range 27 {
			gid := sagatest.GID()
			var trace []barrier.Op
			var state barrier.State // empty for no row
			for _, op := range []barrier.Op{ops[n/9], ops[n/3%3], ops[n%3]} {
				want := http.StatusOK
				switch {
				case op == barrier.Try && state == "":
					state, held = barrier.StateTried, held+2
				case op == barrier.Try && (state == barrier.StateSuspended || state == barrier.StateCancelled):
					want = http.StatusConflict
				case op == barrier.Confirm && state == barrier.StateTried:
					state, held, used = barrier.StateConfirmed, held-2, used+2
				case op == barrier.Confirm && state != barrier.StateConfirmed:
					want = http.StatusInternalServerError
				case op == barrier.Cancel && state == "":
					state = barrier.StateSuspended
				case op == barrier.Cancel && state == barrier.StateTried:
					state, held = barrier.StateCancelled, held-2
				case op == barrier.Cancel && state == barrier.StateConfirmed:
					want = http.StatusInternalServerError
				}
				trace = append(trace, op)
				if status, body := send(t, request(t, th.url(), gid, op, two)); status != want {
					t.Errorf("%v: %d %s, want %d", trace, status, body, want)
				}
			}
			rows, err := th.host.Barrier(t.Context(), gid)
			sagatest.Must(t, err)
			if state == "" && len(rows) != 0 || state != "" && (len(rows) != 1 || rows[0].State != state) {
				t.Errorf("%v: barrier %+v, want %s", trace, rows, state)
			}
		}
		th.holds(100-held-used, held, used)
	})
}

func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{MaxPayload: 1000})
	for name, c := range map[string]struct {
		change func(r *http.Request)
		status int
		says   string
	}{
		"GET":            {func(r *http.Request) { r.Method = http.MethodGet }, 405, "POST"},
		"unknown kind":   {func(r *http.Request) { r.URL.Path = "/branches/tickets" }, 404, "tickets"},
		"no kind":        {func(r *http.Request) { r.URL.Path = "/branches/" }, 404, "without a kind"},
		"unknown op":     {set("op", "commit"), 400, "commit"},
		"no op":          {set("op", ""), 400, "try, confirm, cancel or apply"},
		"no gid":         {set("gid", ""), 400, "gid is empty"},
		"gid of spaces":  {set("gid", "a b"), 400, "printable ASCII"},
		"long gid":       {set("gid", strings.Repeat("g", 129)), 400, "129 characters"},
		"gid twice":      {func(r *http.Request) { r.URL.RawQuery += "&gid=other" }, 400, "gid 2 times"},
		"op missing":     {func(r *http.Request) { r.URL.RawQuery = "gid=g&trans_type=tcc&branch_id=01" }, 400, "op 0 times"},
		"long branch id": {set("branch_id", strings.Repeat("1", 33)), 400, "33 characters"},
		"other pattern":  {set("trans_type", "saga"), 400, "always tcc"},
		"not JSON":       {body("two"), 400, "not JSON"},
		"empty body":     {body(""), 400, "not JSON"},
		"large body":     {body(`{"Row":1,"x":"` + strings.Repeat("x", 1000) + `"}`), 413, "1000 bytes"},
		"large and chunked": {func(r *http.Request) {
			body(`{"Row":1,"x":"` + strings.Repeat("x", 1000) + `"}`)(r)
			r.ContentLength = -1
		}, 413, "1000 bytes"},
		"not this payload": {body(`{"Row":"one"}`), 500, "error id"},
		"a semicolon":      {func(r *http.Request) { r.URL.RawQuery += ";x=1" }, 400, "semicolons"},
		"a bad escape":     {func(r *http.Request) { r.URL.RawQuery += "&x=%zz" }, 400, "percent"},
		"escaped slash": {func(r *http.Request) {
			r.URL.RawPath, r.URL.Path = "/branches/x%2Fseats.reserve", "/branches/x/seats.reserve"
		}, 400, "escaped character"},
		"escaped letter":    {func(r *http.Request) { r.URL.RawPath = "/branches/%73eats.reserve" }, 400, "escaped character"},
		"slash at the end":  {func(r *http.Request) { r.URL.Path += "/" }, 404, "without a kind"},
		"path parameter":    {func(r *http.Request) { r.URL.Path += ";v=1" }, 404, "not registered"},
		"caller twice":      {func(r *http.Request) { r.URL.RawQuery += "&caller=a&caller=b" }, 400, "caller 2 times"},
		"long caller":       {set("caller", strings.Repeat("c", 129)), 400, "129 characters"},
		"caller of spaces":  {set("caller", "a b"), 400, "printable ASCII"},
		"half a request id": {func(r *http.Request) { r.Header.Set("Tccsaga-Request", "abc") }, 400, "hexadecimal"},
	} {
		r := request(t, th.url(), sagatest.GID(), barrier.Try, two)
		c.change(r)
		if status, body := send(t, r); status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %s, want %d with %q", name, status, body, c.status, c.says)
		}
	}
	th.holds(100, 0, 0)
}

func TestBadConfigurations(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	for name, config := range map[string]remote.HostConfig{
		"no keys": {}, "keys and unsigned": {Name: "x", Keys: keys("a"), AllowUnsigned: true},
		"no name": {Keys: keys("a")}, "a bad name": {Name: "a b", Keys: keys("a")},
		"an empty key": {Name: "x", Keys: []remote.Key{{}}}, "key twice": {Name: "x", Keys: keys("a", "a")},
		"negative window": {AllowUnsigned: true, Window: -1}, "short window": {AllowUnsigned: true, Window: time.Second},
		"negative payload": {AllowUnsigned: true, MaxPayload: -1}, "negative timeout": {AllowUnsigned: true, CallTimeout: -1},
		"negative number": {AllowUnsigned: true, MaxConcurrent: -1}, "negative read timeout": {AllowUnsigned: true, ReadTimeout: -1},
	} {
		if _, err := remote.NewHost(t.Context(), db, config); !errors.Is(err, saga.ErrInvalid) {
			t.Errorf("host, %s: %v", name, err)
		}
	}
	if _, err := remote.NewHost(t.Context(), nil, remote.HostConfig{AllowUnsigned: true}); !errors.Is(err, saga.ErrInvalid) {
		t.Errorf("host without a database: %v", err)
	}
	resolve := func(context.Context) (string, error) { return "", nil }
	for name, c := range map[string]struct {
		url    string
		config remote.ServiceConfig
	}{
		"no URL":           {"", remote.ServiceConfig{}},
		"no scheme":        {"stock:80/branches", remote.ServiceConfig{}},
		"other scheme":     {"ftp://stock/branches", remote.ServiceConfig{}},
		"password":         {"http://me:secret@stock/branches", remote.ServiceConfig{}},
		"query":            {"http://stock/branches?x=1", remote.ServiceConfig{}},
		"an empty key":     {"http://stock", remote.ServiceConfig{Name: "x", Keys: []remote.Key{{}}}},
		"no name":          {"http://stock", remote.ServiceConfig{Keys: keys("a")}},
		"keys for DTM":     {"http://stock", remote.ServiceConfig{Name: "x", Keys: keys("a"), PlainDTM: true}},
		"negative timeout": {"http://stock", remote.ServiceConfig{Timeout: -1}},
		"resolver and URL": {"http://stock", remote.ServiceConfig{Resolve: resolve, Hosts: []string{"stock"}}},
		"resolver alone":   {"", remote.ServiceConfig{Resolve: resolve}},
	} {
		if _, err := remote.NewService(c.url, c.config); !errors.Is(err, saga.ErrInvalid) || strings.Contains(err.Error(), "secret") {
			t.Errorf("service, %s: %v", name, err)
		}
	}
	host, err := remote.NewHost(t.Context(), db, remote.HostConfig{AllowUnsigned: true})
	sagatest.Must(t, err)
	if err := tcc.RegisterRemote[seats](host, newService(t, "http://stock", remote.ServiceConfig{})); !errors.Is(err, saga.ErrInvalid) {
		t.Errorf("a remote branch at a host: %v", err)
	}
	if err := tcc.RegisterRemote[seats](host, (*remote.Service)(nil)); !errors.Is(err, saga.ErrInvalid) {
		t.Errorf("no service: %v", err)
	}
}

// No answer has words that a DTM client would misread.
func TestAnswersHoldNoWordsOfDTM(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{})
	th.seats.fail = func(op barrier.Op) error {
		if op == barrier.Try {
			return nil
		}
		return tcc.Reject(fmt.Errorf("the printer says FAILURE, %s is ONGOING %s", op, strings.Repeat("ü\x00", 2000)))
	}
	gid := sagatest.GID()
	for _, c := range []struct {
		op     barrier.Op
		body   string
		status int
		result string
	}{
		{barrier.Try, `{"Row":1,"Number":101}`, 409, "FAILURE"},
		{barrier.Try, two, 200, "SUCCESS"},
		{barrier.Confirm, two, 500, ""},
		{barrier.Cancel, two, 500, ""},
	} {
		status, text := send(t, request(t, th.url(), gid, c.op, c.body))
		var reply struct {
			Result  string `json:"dtm_result"`
			Message string
		}
		sagatest.Must(t, json.Unmarshal([]byte(text), &reply))
		if status != c.status || reply.Result != c.result || strings.Contains(reply.Message, "FAILURE") || strings.Contains(reply.Message, "ONGOING") {
			t.Errorf("%s: %d %s", c.op, status, text)
		}
		if len(text) > 1024 && status == 409 {
			t.Errorf("%s: an answer of %d bytes is more than DTM stores as a reason", c.op, len(text))
		}
	}
}

// A branch may say that it needs more time.
func TestOngoing(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{})
	calls := 0
	th.seats.fail = func(op barrier.Op) error {
		if calls++; op == barrier.Confirm && calls < 4 {
			return fmt.Errorf("the printer warms up: %w", saga.ErrOngoing)
		}
		return nil
	}
	gid := sagatest.GID()
	for _, c := range []struct {
		op     barrier.Op
		status int
	}{{barrier.Try, 200}, {barrier.Confirm, 425}, {barrier.Confirm, 425}, {barrier.Confirm, 200}, {barrier.Confirm, 200}} {
		if status, text := send(t, request(t, th.url(), gid, c.op, two)); status != c.status {
			t.Errorf("%s: %d %s, want %d", c.op, status, text, c.status)
		}
	}
	th.holds(98, 0, 2)
}

// A branch without a database is tried once, whoever asks.
func TestExternalBranchBehindAHost(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{})
	sagatest.Must(t, tcc.RegisterExternal(th.host, printer{}))
	call := func(op barrier.Op) int {
		r := request(t, th.url(), "external", op, `{}`)
		r.URL.Path = "/branches/ticket.print"
		status, _ := send(t, r)
		return status
	}
	for _, c := range []struct {
		op     barrier.Op
		status int
	}{{barrier.Try, 200}, {barrier.Try, 425}, {barrier.Confirm, 200}, {barrier.Confirm, 200}, {barrier.Cancel, 500}} {
		if status := call(c.op); status != c.status {
			t.Errorf("%s: %d, want %d", c.op, status, c.status)
		}
	}
}

type ticket struct{}

func (ticket) Branch() string { return "ticket.print" }

type printer struct{}

func (printer) Try(context.Context, ticket) error     { return nil }
func (printer) Confirm(context.Context, ticket) error { return nil }
func (printer) Cancel(context.Context, ticket) error  { return nil }

func TestMountedOnGin(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: keys("a")})
	gin.SetMode(gin.TestMode)
	router := gin.New()
	router.POST("/api/branches/:kind", gin.WrapH(th.host))
	mux := http.NewServeMux()
	mux.Handle("/api/branches/", http.StripPrefix("/api", th.host))
	for name, handler := range map[string]http.Handler{"gin": router, "without a prefix": mux} {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		a := newAgency(t, newService(t, server.URL+"/api/branches", remote.ServiceConfig{Keys: keys("a")}))
		if outcome, err := tcc.Execute(t.Context(), a.orch, sagatest.GID(), seats{Row: 1, Number: 1}); err != nil || outcome.State != saga.Confirmed {
			t.Errorf("%s: %+v, %v", name, outcome, err)
		}
	}
	th.holds(98, 0, 2)
}
