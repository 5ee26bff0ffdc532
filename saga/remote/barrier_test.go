package remote_test

import (
	"io"
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
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// isQuestion reports whether a request asks for barrier rows.
func isQuestion(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/~barrier") }

// Lookup shows the barrier rows of another service, and asks it once. Rows of other logs with
// the same gid are not shown.
func TestBarrierRowsOfAService(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		th := newTheatre(t, db, remote.HostConfig{Keys: keys("a")})
		sagatest.Must(t, tcc.Register(th.host, &reserving[cab]{read: func(p cab) (int, int) { return 0, p.Number }, db: newTable(t, sqltest.Open(t, db.Name()))}))
		service := newService(t, th.url(), remote.ServiceConfig{Keys: keys("a")})
		engine := sagatest.Open(t, newTable(t, sqltest.Open(t, "sqlite")), quick)
		sagatest.Must(t, tcc.RegisterRemote[seats](engine, service))
		sagatest.Must(t, tcc.RegisterRemote[cab](engine, service))
		sagatest.Must(t, tcc.Register(engine, &reserving[meal]{read: func(p meal) (int, int) { return 1, p.Number }}))
		sagatest.Run(t, engine)
		var asked atomic.Int64
		th.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if isQuestion(r) {
				asked.Add(1)
			}
			next.ServeHTTP(w, r)
		})

		ctx := t.Context()
		tx, err := tcc.Begin(ctx, engine, sagatest.GID())
		sagatest.Must(t, err)
		sagatest.Must(t, tx.Try(ctx, seats{Row: 1, Number: 2}))
		sagatest.Must(t, tx.Try(ctx, cab{1}))
		sagatest.Must(t, tx.Try(ctx, meal{1}))
		other := saga.Call{GID: tx.GID(), BranchID: "77", Kind: "seats.reserve", Op: barrier.Try, Payload: []byte(two), Caller: "other"}
		sagatest.Must(t, th.host.Call(ctx, other))
		for range 2 { // once more
			call := saga.Call{GID: tx.GID(), BranchID: "01", Kind: "seats.reserve", Op: barrier.Try, Payload: []byte(`{"Row":1,"Number":2}`), Caller: engine.LogID()}
			sagatest.Must(t, service.Call(ctx, call))
		}

		look := func() []saga.BranchView {
			t.Helper()
			asked.Store(0)
			found, err := engine.Lookup(ctx, tx.GID())
			sagatest.Must(t, err)
			if asked.Load() != 1 {
				t.Errorf("the service was asked %d times", asked.Load())
			}
			for _, b := range found.Branches {
				if b.BarrierError != "" || b.Barrier == nil {
					t.Fatalf("%+v", b)
				}
			}
			return found.Branches
		}
		all := look()
		row := all[0].Barrier
		if len(all) != 3 || row.State != barrier.StateTried || row.Kind != "seats.reserve" || row.Caller != engine.LogID() || row.GID != tx.GID() ||
			row.Input == "" || row.TurnedAway != 2 || row.TriedAt.IsZero() || row.TurnedAwayAt.IsZero() || !row.ConfirmedAt.IsZero() {
			t.Errorf("%+v", row)
		}
		if row := all[1].Barrier; row.State != barrier.StateTried || row.Kind != "cab.reserve" || row.TurnedAway != 0 {
			t.Errorf("in another database of the host: %+v", row)
		}
		rows, err := service.Barrier(ctx, tx.GID(), engine.LogID())
		if err != nil || len(rows) != 2 {
			t.Errorf("%+v, %v", rows, err)
		}
		rows, err = service.Barrier(ctx, tx.GID(), "other")
		if err != nil || len(rows) != 1 || rows[0].BranchID != "77" || rows[0].Caller != "other" {
			t.Errorf("%+v, %v", rows, err)
		}
		for _, nobody := range []string{"nobody", "@" + engine.LogID(), "%"} {
			if rows, err = service.Barrier(ctx, tx.GID(), nobody); err != nil || len(rows) != 0 {
				t.Errorf("of %s: %+v, %v", nobody, rows, err)
			}
		}
		if _, err := tx.Confirm(ctx); err != nil {
			t.Fatal(err)
		}
		sagatest.Reach(t, engine, tx.GID(), saga.Confirmed)
		if row := look()[0].Barrier; row.State != barrier.StateConfirmed || row.ConfirmedAt.IsZero() {
			t.Errorf("%+v", row)
		}
		th.holds(96, 2, 2)
	})
}

// A row shows the call that is under way in another service.
func TestBarrierRowOfACallUnderWay(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		th := newTheatre(t, db, remote.HostConfig{CallTimeout: time.Minute})
		gateway := newCards()
		sagatest.Must(t, tcc.RegisterExternal[card](th.host, gateway))
		service := newService(t, th.url(), remote.ServiceConfig{})
		gid, done := sagatest.GID(), make(chan error, 1)
		go func() {
			done <- service.Call(t.Context(), saga.Call{GID: gid, BranchID: "01", Kind: "card.hold", Op: barrier.Try, Payload: []byte(`{}`), Caller: "log"})
		}()
		<-gateway.called
		rows, err := service.Barrier(t.Context(), gid, "log")
		sagatest.Must(t, err)
		if len(rows) != 1 || rows[0].UnderWay == nil || rows[0].UnderWay.Op != barrier.Try || rows[0].UnderWay.By == "" || rows[0].UnderWay.Left <= 0 ||
			!rows[0].UnderWay.Since.Before(rows[0].UnderWay.Until) || !strings.Contains(rows[0].Explain(), "a try is under way") {
			t.Errorf("%+v", rows)
		}
		close(gateway.gate)
		sagatest.Must(t, <-done)
	})
}

// Requests that are not a question are refused before the barrier is read.
func TestStrangeBarrierQuestions(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: keys("a")})
	gid := sagatest.GID()
	sagatest.Must(t, th.host.Call(t.Context(), saga.Call{GID: gid, BranchID: "01", Kind: "seats.reserve", Op: barrier.Try, Payload: []byte(two), Caller: "log"}))
	fine := url.Values{"gid": {gid}, "caller": {"log"}}
	with := func(name string, values ...string) string {
		changed := url.Values{"gid": fine["gid"], "caller": fine["caller"]}
		changed[name] = values
		return changed.Encode()
	}
	signed := func(r *http.Request) {
		copied, err := r.GetBody()
		sagatest.Must(t, err)
		body, err := io.ReadAll(copied)
		sagatest.Must(t, err)
		keys("a")[0].Sign(r, "theatre", body, time.Now())
	}
	asCall := func(r *http.Request) { r.URL.Path = "/branches/seats.reserve"; signed(r) }
	for name, c := range map[string]struct {
		method, query, body string
		sign                func(r *http.Request)
		status              int
		says                string
	}{
		"fine":            {"POST", fine.Encode(), "", signed, 200, `"state":"tried"`},
		"with a branch":   {"POST", with("branch_id", "09"), "", signed, 200, `"state":"tried"`},
		"of another log":  {"POST", with("caller", "other"), "", signed, 200, `"caller":"other"`},
		"get":             {"GET", fine.Encode(), "", signed, 405, "POST"},
		"body":            {"POST", fine.Encode(), "{}", signed, 400, "no body"},
		"no gid":          {"POST", with("gid"), "", signed, 400, "gid"},
		"two gids":        {"POST", with("gid", "a", "b"), "", signed, 400, "gid"},
		"strange gid":     {"POST", with("gid", "a b"), "", signed, 400, "printable"},
		"long gid":        {"POST", with("gid", strings.Repeat("x", 5000)), "", signed, 400, "128"},
		"no caller":       {"POST", with("caller"), "", signed, 400, "caller"},
		"empty caller":    {"POST", with("caller", ""), "", signed, 400, "caller"},
		"two callers":     {"POST", with("caller", "log", "log"), "", signed, 400, "caller"},
		"long caller":     {"POST", with("caller", strings.Repeat("x", 5000)), "", signed, 400, "caller"},
		"slash in caller": {"POST", with("caller", "a/b"), "", signed, 400, "caller"},
		"not signed":      {"POST", fine.Encode(), "", func(*http.Request) {}, 401, "signature"},
		"another secret":  {"POST", fine.Encode(), "", func(r *http.Request) { another(t, "a").Sign(r, "theatre", nil, time.Now()) }, 401, "signature"},
		"another key":     {"POST", fine.Encode(), "", func(r *http.Request) { keys("b")[0].Sign(r, "theatre", nil, time.Now()) }, 401, "signature"},
		"another service": {"POST", fine.Encode(), "", func(r *http.Request) { keys("a")[0].Sign(r, "agency", nil, time.Now()) }, 401, "signature"},
		"too old":         {"POST", fine.Encode(), "", func(r *http.Request) { keys("a")[0].Sign(r, "theatre", nil, time.Now().Add(-time.Hour)) }, 401, "signature"},
		"another gid":     {"POST", fine.Encode(), "", func(r *http.Request) { signed(r); set("gid", "other")(r) }, 401, "signature"},
		"another caller":  {"POST", fine.Encode(), "", func(r *http.Request) { signed(r); set("caller", "other")(r) }, 401, "signature"},
		"as a call":       {"POST", fine.Encode(), "", asCall, 400, "trans_type"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, th.url()+"/~barrier?"+c.query, strings.NewReader(c.body))
		sagatest.Must(t, err)
		c.sign(r)
		status, text := send(t, r)
		if status != c.status || !strings.Contains(text, c.says) || len(text) > 2000 || c.status != 200 && strings.Contains(text, "tried_at") {
			t.Errorf("%s: %d %s, want %d with %q", name, status, text, c.status, c.says)
		}
		if name == "of another log" && strings.Contains(text, "rows") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// A host that cannot read its barrier says so, and tells nothing else. Questions take no slots
// of calls.
func TestBarrierThatCannotBeRead(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{MaxConcurrent: 1})
	th.host.SetQueue(0)
	leave, entered := make(chan struct{}), make(chan struct{}, 1)
	go func() {
		r := request(t, th.url(), sagatest.GID(), barrier.Try, two)
		r.RequestURI, r.Body = r.URL.RequestURI(), &slowBody{r.Body, entered, leave}
		th.host.ServeHTTP(httptest.NewRecorder(), r)
	}()
	<-entered
	service := newService(t, th.url(), remote.ServiceConfig{})
	if rows, err := service.Barrier(t.Context(), "g", "log"); err != nil || len(rows) != 0 {
		t.Errorf("while the host has too many calls: %v, %v", rows, err)
	}
	close(leave)
	sqltest.Exec(t, th.db, "DROP TABLE saga_barrier")
	_, err := service.Barrier(t.Context(), "g", "log")
	if err == nil || !strings.Contains(err.Error(), "500") || !strings.Contains(err.Error(), "could not be read") || strings.Contains(err.Error(), "no such table") {
		t.Errorf("%v", err)
	}
}

// fakeService answers every question for barrier rows with a status and a text, in which GID,
// LOG and ID stand for those of the question.
func fakeService(t *testing.T, status int, text string) *remote.Service {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		replaced := strings.NewReplacer("GID", r.URL.Query().Get("gid"), "LOG", r.URL.Query().Get("caller"), "ID", r.Header.Get("Tccsaga-Request"))
		replaced.WriteString(w, text)
	}))
	t.Cleanup(server.Close)
	return newService(t, server.URL, remote.ServiceConfig{})
}

// An answer that is no answer to the question does not count, and is a clear error.
func TestBarrierAnswersThatDoNotCount(t *testing.T) {
	t.Parallel()
	const head = `{"caller":"LOG","gid":"GID","request":"ID","rows":[`
	const row = `{"gid":"GID","branch_id":"01","state":"tried","caller":"LOG"}`
	if rows, err := fakeService(t, 200, head+row+`]}`).Barrier(t.Context(), "g", "log"); err != nil || len(rows) != 1 {
		t.Errorf("%+v, %v", rows, err)
	}
	for name, c := range map[string]struct {
		status int
		text   string
		says   string
	}{
		"an older host":     {400, `{"message":"the query names trans_type 0 times","answers":{"gid":"GID","request":"ID"}}`, "does not answer questions about its barrier"},
		"no such page":      {404, "<html>nothing here</html>", "does not answer questions about its barrier"},
		"another router":    {405, "", "does not answer questions about its barrier"},
		"a page":            {200, "<html>fine</html>", "does not name the question"},
		"empty":             {200, "", "does not name the question"},
		"null":              {200, "null", "does not name the question"},
		"plain DTM":         {200, `{"dtm_result":"SUCCESS"}`, "does not name the question"},
		"redirect":          {307, "", "redirect"},
		"bad gateway":       {502, "no healthy upstream", "502"},
		"another gid":       {200, `{"caller":"LOG","gid":"other","request":"ID"}`, "another question"},
		"another caller":    {200, `{"caller":"other","gid":"GID","request":"ID"}`, "another question"},
		"an old answer":     {200, `{"caller":"LOG","gid":"GID","request":"0123"}`, "another question"},
		"too busy":          {503, `{"caller":"LOG","gid":"GID","request":"ID","message":"there are too many questions now"}`, "too many questions"},
		"rows of a gid":     {200, head + strings.Replace(row, "GID", "other", 1) + `]}`, "of another transaction"},
		"rows of a log":     {200, head + strings.Replace(row, "LOG", "other", 1) + `]}`, "of another transaction"},
		"no branch":         {200, head + strings.Replace(row, "01", "", 1) + `]}`, "no barrier has"},
		"escape characters": {200, head + strings.Replace(row, "tried", `\u001b[2J`, 1) + `]}`, "no barrier has"},
		"many rows":         {200, head + strings.Repeat(row+",", 100) + row + `]}`, "at most 99"},
		"10 MB":             {200, head + strings.Repeat(row+",", 150_000) + row + `]}`, "more than 262144 bytes"},
		"10 MB of garbage":  {200, strings.Repeat("x", 10_000_000), "more than 262144 bytes"},
	} {
		rows, err := fakeService(t, c.status, c.text).Barrier(t.Context(), "g", "log")
		if err == nil || rows != nil || !strings.Contains(err.Error(), c.says) || len(err.Error()) > 1000 {
			t.Errorf("%s: %v, %.2000v, want %q", name, rows, err, c.says)
		}
	}
	service := newService(t, "http://"+closedPort(t), remote.ServiceConfig{})
	for says, c := range map[string]struct{ gid, caller string }{
		"refused": {"g", "log"}, "the gid is empty": {"", "log"}, "the caller is missing": {"g", ""}, "128": {strings.Repeat("g", 200), "log"}, "127": {"g", strings.Repeat("l", 200)},
	} {
		if _, err := service.Barrier(t.Context(), c.gid, c.caller); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	plain := newService(t, "http://"+closedPort(t), remote.ServiceConfig{PlainDTM: true})
	if _, err := plain.Barrier(t.Context(), "g", "log"); err == nil || !strings.Contains(err.Error(), "does not answer questions") {
		t.Errorf("%v", err)
	}
}

// With keys, an answer counts only if it is signed for the question.
func TestSignedBarrierAnswers(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: keys("a", "b")})
	gid := sagatest.GID()
	sagatest.Must(t, th.host.Call(t.Context(), saga.Call{GID: gid, BranchID: "01", Kind: "seats.reserve", Op: barrier.Try, Payload: []byte(two), Caller: "log"}))
	service := newService(t, th.url(), remote.ServiceConfig{Keys: keys("b")})
	var old *httptest.ResponseRecorder // a good answer
	th.disturbed(changed(func(a *httptest.ResponseRecorder) { old = a }))
	if rows, err := service.Barrier(t.Context(), gid, "log"); err != nil || len(rows) != 1 {
		t.Errorf("%+v, %v", rows, err)
	}
	for name, by := range map[string]func(w http.ResponseWriter, r *http.Request, next http.Handler){
		"unsigned":      changed(func(a *httptest.ResponseRecorder) { a.Header().Del("Tccsaga-Answer") }),
		"another state": changed(func(a *httptest.ResponseRecorder) { replace(a, "tried", "confirmed") }),
		"another code":  changed(func(a *httptest.ResponseRecorder) { a.Code = 201 }),
		"an old one":    func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { replay(w, old) },
	} {
		th.disturbed(by)
		if rows, err := service.Barrier(t.Context(), gid, "log"); err == nil || rows != nil || !strings.Contains(err.Error(), "not signed") {
			t.Errorf("%s: %+v, %v", name, rows, err)
		}
	}
	th.disturbed(nil)
	for name, wrong := range map[string][]remote.Key{"no key": nil, "another": keys("c"), "another secret": {another(t, "a")}} {
		rows, err := newService(t, th.url(), remote.ServiceConfig{Keys: wrong}).Barrier(t.Context(), gid, "log")
		if err == nil || rows != nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("%s: %+v, %v", name, rows, err)
		}
	}
}

// Lookup asks several services side by side. Services that are down, slow or older take nothing
// away from the rest.
func TestLookupWithoutSomeServices(t *testing.T) {
	t.Parallel()
	good := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{})
	bad := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{})
	sagatest.Must(t, tcc.Register(bad.host, &reserving[cab]{read: func(p cab) (int, int) { return 1, p.Number }}))
	engine := sagatest.Open(t, newTable(t, sqltest.Open(t, "sqlite")), quick)
	sagatest.Must(t, tcc.RegisterRemote[seats](engine, newService(t, good.url(), remote.ServiceConfig{})))
	sagatest.Must(t, tcc.RegisterRemote[cab](engine, newService(t, bad.url(), remote.ServiceConfig{})))
	sagatest.Must(t, tcc.Register(engine, &reserving[meal]{read: func(p meal) (int, int) { return 1, p.Number }}))
	sagatest.Run(t, engine)
	gid := sagatest.GID()
	outcome, err := tcc.Execute(t.Context(), engine, gid, cab{1}, meal{1}, seats{Row: 1, Number: 1})
	if err != nil || outcome.State != saga.Confirmed {
		t.Fatalf("%+v, %v", outcome, err)
	}

	// Each answers when the other one was asked, too.
	both := map[*theatre]chan struct{}{good: make(chan struct{}), bad: make(chan struct{})}
	meet := func(own, other *theatre) {
		own.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			close(both[own])
			select {
			case <-both[other]:
				next.ServeHTTP(w, r)
			case <-r.Context().Done():
			}
		})
	}
	meet(good, bad)
	meet(bad, good)
	found, err := engine.Lookup(t.Context(), gid)
	sagatest.Must(t, err)
	for _, b := range found.Branches {
		if b.Barrier == nil || b.BarrierError != "" {
			t.Errorf("%+v", b)
		}
	}
	good.disturbed(nil)
	for says, by := range map[string]func(w http.ResponseWriter, r *http.Request, next http.Handler){
		"did not answer within 2s": func(_ http.ResponseWriter, r *http.Request, _ http.Handler) { <-r.Context().Done() },
		"EOF":                      func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) },
		"does not answer questions about its barrier": func(w http.ResponseWriter, r *http.Request, _ http.Handler) { http.NotFound(w, r) },
	} {
		bad.disturbed(by)
		found, err := engine.Lookup(t.Context(), gid)
		sagatest.Must(t, err)
		for i, b := range found.Branches {
			switch {
			case i == 0 && (b.Barrier != nil || !strings.Contains(b.BarrierError, says)):
				t.Errorf("%+v, want %q", b, says)
			case i > 0 && (b.Barrier == nil || b.BarrierError != ""):
				t.Errorf("%+v", b)
			}
		}
	}
}
