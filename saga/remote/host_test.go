package remote_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// request is a branch call by hand.
func request(t *testing.T, base, gid, op string, body string) *http.Request {
	t.Helper()
	query := url.Values{"gid": {gid}, "trans_type": {"tcc"}, "branch_id": {"01"}, "op": {op}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/seats.reserve?"+query.Encode(), strings.NewReader(body))
	must(t, err)
	return r
}

func send(t *testing.T, r *http.Request) (status int, body string) {
	t.Helper()
	reply, err := http.DefaultClient.Do(r)
	must(t, err)
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	must(t, err)
	return reply.StatusCode, string(text)
}

const two = `{"Row":1,"Number":2}`

// Every order of three calls, compared with what the table of package barrier
// says, and the books with it.
func TestEveryOrder(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		th := newTheatre(t, db, remote.HostConfig{})
		ops := []string{"try", "confirm", "cancel"}
		held, used := 0, 0
		for n := range 27 {
			gid := newGID()
			var trace []string
			state := ""
			for _, op := range []string{ops[n/9], ops[n/3%3], ops[n%3]} {
				want := http.StatusOK
				switch {
				case op == "try" && state == "":
					state, held = "tried", held+2
				case op == "try" && (state == "suspended" || state == "cancelled"):
					want = http.StatusConflict
				case op == "confirm" && state == "tried":
					state, held, used = "confirmed", held-2, used+2
				case op == "confirm" && state != "confirmed":
					want = http.StatusInternalServerError
				case op == "cancel" && state == "":
					state = "suspended"
				case op == "cancel" && state == "tried":
					state, held = "cancelled", held-2
				case op == "cancel" && state == "confirmed":
					want = http.StatusInternalServerError
				}
				trace = append(trace, op)
				if status, body := send(t, request(t, th.url(), gid, op, two)); status != want {
					t.Errorf("%v: %d %s, want %d", trace, status, body, want)
				}
			}
			rows, err := th.host.Barrier(t.Context(), gid)
			must(t, err)
			if state == "" && len(rows) != 0 || state != "" && (len(rows) != 1 || string(rows[0].State) != state) {
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
		"GET":              {func(r *http.Request) { r.Method = http.MethodGet }, 405, "POST"},
		"unknown kind":     {func(r *http.Request) { r.URL.Path = "/branches/tickets" }, 404, "tickets"},
		"no kind":          {func(r *http.Request) { r.URL.Path = "/branches/" }, 404, "not registered"},
		"unknown op":       {set("op", "commit"), 400, "commit"},
		"no op":            {set("op", ""), 400, "operation"},
		"no gid":           {set("gid", ""), 400, "gid is empty"},
		"gid of spaces":    {set("gid", "a b"), 400, "printable ASCII"},
		"long gid":         {set("gid", strings.Repeat("g", 129)), 400, "129 characters"},
		"gid twice":        {func(r *http.Request) { r.URL.RawQuery += "&gid=other" }, 400, "gid 2 times"},
		"op missing":       {func(r *http.Request) { r.URL.RawQuery = "gid=g&trans_type=tcc&branch_id=01" }, 400, "op 0 times"},
		"long branch id":   {set("branch_id", strings.Repeat("1", 33)), 400, "33 characters"},
		"other pattern":    {set("trans_type", "saga"), 400, "always tcc"},
		"not JSON":         {body("two"), 400, "not JSON"},
		"empty body":       {body(""), 400, "not JSON"},
		"large body":       {body(`{"Row":1,"x":"` + strings.Repeat("x", 1000) + `"}`), 413, "1000 bytes"},
		"not this payload": {body(`{"Row":"one"}`), 500, "does not fit"},
	} {
		r := request(t, th.url(), newGID(), "try", two)
		c.change(r)
		if status, body := send(t, r); status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %s, want %d with %q", name, status, body, c.status, c.says)
		}
	}
	th.holds(100, 0, 0)
}

func set(name, value string) func(r *http.Request) {
	return func(r *http.Request) {
		query := r.URL.Query()
		query.Set(name, value)
		r.URL.RawQuery = query.Encode()
	}
}

func body(text string) func(r *http.Request) {
	return func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	}
}

func keys(ids ...string) []remote.Key {
	var all []remote.Key
	for _, id := range ids {
		all = append(all, remote.Key{ID: id, Secret: bytes.Repeat([]byte(id), 32)})
	}
	return all
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: keys("a", "b"), Window: time.Minute})
	th.host.SetClock(func() time.Time { return now })
	a := keys("a")[0]
	for name, c := range map[string]struct {
		key    remote.Key
		off    time.Duration
		change func(r *http.Request) // after signing
		status int
	}{
		"first key":          {key: a, status: 200},
		"second key":         {key: keys("b")[0], status: 200},
		"a little early":     {key: a, off: -time.Minute, status: 200},
		"a little late":      {key: a, off: time.Minute, status: 200},
		"too early":          {key: a, off: -61 * time.Second, status: 401},
		"too late":           {key: a, off: 61 * time.Second, status: 401},
		"unknown key":        {key: keys("c")[0], status: 401},
		"other secret":       {key: remote.Key{ID: "a", Secret: bytes.Repeat([]byte("x"), 32)}, status: 401},
		"unsigned":           {key: a, change: func(r *http.Request) { r.Header.Del("Tccsaga-Signature") }, status: 401},
		"garbage":            {key: a, change: func(r *http.Request) { r.Header.Set("Tccsaga-Signature", "key=a, time=now, mac=zz") }, status: 401},
		"another gid":        {key: a, change: set("gid", "other"), status: 401},
		"another operation":  {key: a, change: set("op", "cancel"), status: 401},
		"another kind":       {key: a, change: func(r *http.Request) { r.URL.Path = "/branches/meal.reserve" }, status: 401},
		"another body":       {key: a, change: body(`{"Row":1,"Number":3}`), status: 401},
		"one more parameter": {key: a, change: set("more", "1"), status: 401},
		"the order of a query": {key: a, change: func(r *http.Request) {
			parts := strings.Split(r.URL.RawQuery, "&")
			slices.Reverse(parts)
			r.URL.RawQuery = strings.Join(parts, "&")
		}, status: 200},
	} {
		r := request(t, th.url(), newGID(), "try", two)
		c.key.Sign(r, []byte(two), now.Add(c.off))
		if c.change != nil {
			c.change(r)
		}
		if status, text := send(t, r); status != c.status {
			t.Errorf("%s: %d %s, want %d", name, status, text, c.status)
		}
	}
	th.holds(90, 10, 0)

	// Whoever repeats a signed request achieves nothing.
	r := request(t, th.url(), newGID(), "try", two)
	a.Sign(r, []byte(two), now)
	for range 3 {
		body(two)(r)
		if status, text := send(t, r); status != 200 {
			t.Errorf("replayed: %d %s", status, text)
		}
	}
	th.holds(88, 12, 0)
}

// Keys are replaced while calls go on.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	th := newTheatre(t, db, remote.HostConfig{Keys: keys("old", "new")})
	for _, signing := range [][]remote.Key{keys("old"), keys("new", "old"), keys("new")} {
		a := newAgency(t, newService(t, th.url(), remote.ServiceConfig{Keys: signing}))
		outcome, err := tcc.Execute(t.Context(), a.orch, newGID(), seats{Row: 1, Number: 1})
		if err != nil || outcome.State != saga.Confirmed {
			t.Errorf("signed with %s: %+v, %v", signing[0].ID, outcome, err)
		}
	}
	th.holds(97, 0, 3)
	a := newAgency(t, newService(t, th.url(), remote.ServiceConfig{}))
	if _, err := tcc.Execute(t.Context(), a.orch, newGID(), seats{Row: 1, Number: 1}); !errors.Is(err, saga.ErrCancelled) || !strings.Contains(err.Error(), "signature") {
		t.Errorf("unsigned: %v", err)
	}
	th.holds(97, 0, 3)
}

func TestBadConfigurations(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	short := []remote.Key{{ID: "a", Secret: []byte("short")}}
	unnamed := []remote.Key{{Secret: bytes.Repeat([]byte("x"), 32)}}
	for name, config := range map[string]remote.HostConfig{
		"short key": {Keys: short}, "unnamed key": {Keys: unnamed}, "key twice": {Keys: keys("a", "a")},
		"negative window": {Window: -1}, "negative payload": {MaxPayload: -1}, "negative timeout": {CallTimeout: -1},
	} {
		if _, err := remote.NewHost(t.Context(), db, config); !errors.Is(err, saga.ErrInvalid) {
			t.Errorf("host, %s: %v", name, err)
		}
	}
	if _, err := remote.NewHost(t.Context(), nil, remote.HostConfig{}); !errors.Is(err, saga.ErrInvalid) {
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
		"short key":        {"http://stock", remote.ServiceConfig{Keys: short}},
		"negative timeout": {"http://stock", remote.ServiceConfig{Timeout: -1}},
		"resolver and URL": {"http://stock", remote.ServiceConfig{Resolve: resolve, Hosts: []string{"stock"}}},
		"resolver alone":   {"", remote.ServiceConfig{Resolve: resolve}},
	} {
		if _, err := remote.NewService(c.url, c.config); !errors.Is(err, saga.ErrInvalid) || strings.Contains(err.Error(), "secret") {
			t.Errorf("service, %s: %v", name, err)
		}
	}
	host, err := remote.NewHost(t.Context(), db, remote.HostConfig{})
	must(t, err)
	if err := tcc.RegisterRemote[seats](host, newService(t, "http://stock", remote.ServiceConfig{})); !errors.Is(err, saga.ErrInvalid) {
		t.Errorf("a remote branch at a host: %v", err)
	}
	if err := tcc.RegisterRemote[seats](host, (*remote.Service)(nil)); !errors.Is(err, saga.ErrInvalid) {
		t.Errorf("no service: %v", err)
	}
}

// What a DTM client would misread stands in no answer.
func TestAnswersHoldNoWordsOfDTM(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{})
	th.seats.fail = func(op barrier.Op) error {
		if op == barrier.Try {
			return nil
		}
		return tcc.Reject(fmt.Errorf("the printer says FAILURE, %s is ONGOING %s", op, strings.Repeat("ü\x00", 2000)))
	}
	gid := newGID()
	for _, c := range []struct {
		op, body string
		status   int
		result   string
	}{
		{"try", `{"Row":1,"Number":101}`, 409, "FAILURE"},
		{"try", two, 200, "SUCCESS"},
		{"confirm", two, 500, ""},
		{"cancel", two, 500, ""},
	} {
		status, text := send(t, request(t, th.url(), gid, c.op, c.body))
		var reply struct {
			Result  string `json:"dtm_result"`
			Message string
		}
		must(t, json.Unmarshal([]byte(text), &reply))
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
	gid := newGID()
	for _, c := range []struct {
		op     string
		status int
	}{{"try", 200}, {"confirm", 425}, {"confirm", 425}, {"confirm", 200}, {"confirm", 200}} {
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
	must(t, tcc.RegisterExternal(th.host, printer{}))
	call := func(op string) int {
		r := request(t, th.url(), "external", op, `{}`)
		r.URL.Path = "/branches/ticket.print"
		status, _ := send(t, r)
		return status
	}
	for _, c := range []struct {
		op     string
		status int
	}{{"try", 200}, {"try", 425}, {"confirm", 200}, {"confirm", 200}, {"cancel", 500}} {
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
		if outcome, err := tcc.Execute(t.Context(), a.orch, newGID(), seats{Row: 1, Number: 1}); err != nil || outcome.State != saga.Confirmed {
			t.Errorf("%s: %+v, %v", name, outcome, err)
		}
	}
	th.holds(98, 0, 2)
}

// What is final and old goes, and nothing else.
func TestClean(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		ctx := t.Context()
		th := newTheatre(t, db, remote.HostConfig{CallTimeout: 5 * time.Second})
		calls := func(gid string, ops ...string) {
			for _, op := range ops {
				if status, text := send(t, request(t, th.url(), gid, op, two)); status != 200 {
					t.Fatal(status, text)
				}
			}
		}
		calls("confirmed", "try", "confirm")
		calls("cancelled", "try", "cancel")
		calls("suspended", "cancel")
		calls("tried", "try")
		// Several branches, of which one is still to be confirmed.
		must(t, db.Transaction(func(tx *gorm.DB) error {
			for i := range 5000 {
				key := barrier.Key{GID: fmt.Sprintf("many-%04d", i/3), BranchID: saga.BranchID(i%3 + 1)}
				op := barrier.Cancel
				if i == 2000 {
					op = barrier.Try
				}
				if _, err := barrier.Call(ctx, tx, barrier.Request{Key: key, Op: op}); err != nil {
					return err
				}
			}
			return nil
		}))
		// In the log of an orchestrator that lives in the same database.
		orch, err := saga.Open(ctx, db, quick)
		must(t, err)
		must(t, tcc.Register(orch, &reserving[meal]{read: func(p meal) (int, int) { return 1, p.Number }}))
		if _, err := tcc.Execute(ctx, orch, "own", meal{1}); err != nil {
			t.Fatal(err)
		}
		must(t, orch.Stop(ctx))

		if n, err := th.host.Clean(ctx, time.Hour); n != 0 || err != nil {
			t.Errorf("nothing is an hour old: %d, %v", n, err)
		}
		if _, err := th.host.Clean(ctx, 9*time.Second); !errors.Is(err, saga.ErrInvalid) {
			t.Errorf("too young: %v", err)
		}
		quicker, err := remote.NewHost(ctx, db, remote.HostConfig{CallTimeout: time.Millisecond})
		must(t, err)
		keep := &keeper{}
		must(t, tcc.Register(quicker, keep))
		if n, err := quicker.Clean(ctx, 2*time.Millisecond); n != 3+1666 || err != nil {
			t.Errorf("removed %d, %v", n, err)
		}
		if len(keep.cleaned) != 3+1666 {
			t.Errorf("the branch has cleaned %d", len(keep.cleaned))
		}
		var left []string
		must(t, db.Raw("SELECT DISTINCT gid FROM saga_barrier ORDER BY gid").Scan(&left).Error)
		if want := []string{"many-0666", "own", "tried"}; !slices.Equal(left, want) {
			t.Errorf("left %v, want %v", left, want)
		}
	})
}

// keeper is a branch that keeps something of each transaction.
type keeper struct {
	reserving[seats]
	cleaned []string
}

func (k *keeper) Clean(_ context.Context, _ *gorm.DB, gids []string) error {
	k.cleaned = append(k.cleaned, gids...)
	return nil
}
