package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// together makes calls that travel as one request, and returns their errors.
func together(t *testing.T, service *remote.Service, calls ...saga.Call) []error {
	t.Helper()
	service.Gather(len(calls))
	failures := make([]error, len(calls))
	var all sync.WaitGroup
	for i, c := range calls {
		all.Go(func() { failures[i] = service.Call(t.Context(), c) })
	}
	all.Wait()
	return failures
}

// counted counts the requests of a theatre by the last part of their paths.
func (th *theatre) counted() map[string]int {
	var mu sync.Mutex
	counts := map[string]int{}
	th.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		mu.Lock()
		counts[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]]++
		mu.Unlock()
		next.ServeHTTP(w, r)
	})
	return counts
}

func call(gid string, op barrier.Op) saga.Call {
	c := try(gid)
	c.Op, c.Caller = op, "a-log"
	return c
}

// Calls of one batch have the verdicts and the errors that they have alone.
func TestCallsTravelTogether(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for name, config := range map[string]remote.ServiceConfig{"signed": {Keys: keys("a")}, "unsigned": {}} {
			t.Run(name, func(t *testing.T) {
				sqltest.Exec(t, db, "DROP TABLE IF EXISTS things")
				sqltest.Exec(t, db, "DELETE FROM saga_barrier")
				th := newTheatre(t, db, remote.HostConfig{Keys: config.Keys})
				service := newService(t, th.url(), config)
				counts := th.counted()

				var trys []saga.Call
				for i := range 40 {
					trys = append(trys, call(fmt.Sprint("g", i), barrier.Try))
				}
				if err := errors.Join(together(t, service, trys...)...); err != nil {
					t.Fatal(err)
				}
				th.holds(20, 80, 0)

				// Every verdict in one batch.
				short, other, unknown, bad := call("short", barrier.Try), call("g5", barrier.Try), call("unknown", barrier.Try), call("", barrier.Try)
				short.Payload = []byte(`{"Row":1,"Number":1000}`)
				other.Payload = []byte(`{"Row":1,"Number":3}`)
				unknown.Kind = "no.such.kind"
				failures := together(t, service, call("g0", barrier.Confirm), call("g1", barrier.Cancel), call("g2", barrier.Try), call("empty", barrier.Cancel),
					call("never", barrier.Confirm), short, other, unknown, bad, call("g3", barrier.Confirm), call("g4", barrier.Cancel))
				for i, is := range []func(error) bool{isNil, isNil, isNil, isNil, isConflict, isRejection, isConflict, isFailure, isFailure, isNil, isNil} {
					if !is(failures[i]) {
						t.Errorf("call %d: %v", i, failures[i])
					}
				}
				th.holds(24, 72, 4)

				// And what follows from them.
				failures = together(t, service, call("g0", barrier.Confirm), call("g1", barrier.Cancel), call("empty", barrier.Try), call("g1", barrier.Try),
					call("g0", barrier.Cancel), call("g1", barrier.Confirm), call("short", barrier.Cancel))
				for i, is := range []func(error) bool{isNil, isNil, isRejection, isRejection, isConflict, isConflict, isNil} {
					if !is(failures[i]) {
						t.Errorf("call %d after its first: %v", i, failures[i])
					}
				}
				th.holds(24, 72, 4)
				if counts["~calls"] != 3 || counts["seats.reserve"] != 0 {
					t.Errorf("requests: %v", counts)
				}
			})
		}
	})
}

func isNil(err error) bool      { return err == nil }
func isFailure(err error) bool  { return err != nil && !isRejection(err) && !isConflict(err) }
func isConflict(err error) bool { return errors.Is(err, barrier.ErrConflict) }
func isRejection(err error) bool {
	var rejection *saga.Rejection
	return errors.As(err, &rejection)
}

// One call of a batch that hangs, panics or fails keeps no other from its answer.
func TestOneCallOfABatchHangs(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "mysql"), remote.HostConfig{Keys: keys("a"), CallTimeout: time.Minute})
	service := newService(t, th.url(), remote.ServiceConfig{Keys: keys("a"), Timeout: time.Minute})
	hangs := make(chan struct{})
	var calls []saga.Call
	for i := range 100 {
		one := call(fmt.Sprint("g", i), barrier.Try)
		one.Payload = []byte(`{"Row":1,"Number":1}`)
		calls = append(calls, one)
	}
	sagatest.Must(t, th.host.Register(saga.NewLocal("hangs", nothingEncodes, saga.Local{Work: func(ctx context.Context, _ *gorm.DB, _ saga.Call) error {
		select {
		case <-hangs:
		case <-ctx.Done():
		}
		return ctx.Err()
	}})))
	sagatest.Must(t, th.host.Register(saga.NewLocal("panics", nothingEncodes, saga.Local{Work: func(context.Context, *gorm.DB, saga.Call) error { panic("on purpose") }})))
	calls[10].Kind, calls[20].Kind, calls[30].Payload = "hangs", "panics", []byte(`{"Row":1,"Number":1000}`)
	service.Gather(len(calls))
	answered := make(chan error, len(calls))
	var hanging sync.WaitGroup
	for i, c := range calls {
		if i == 10 {
			hanging.Go(func() { sagatest.Must(t, service.Call(t.Context(), c)) })
			continue
		}
		go func() { answered <- service.Call(t.Context(), c) }()
	}
	failed := 0
	for range len(calls) - 1 {
		if err := <-answered; err != nil {
			failed++
		}
	}
	if failed != 2 {
		t.Errorf("%d calls have failed", failed)
	}
	th.holds(3, 97, 0)
	close(hangs)
	hanging.Wait()
}

func nothingEncodes(any) ([]byte, error) { return []byte("null"), nil }

// A host that knows only single calls is found out once.
func TestAHostWithoutBatches(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge} {
		th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{})
		service := newService(t, th.url(), remote.ServiceConfig{})
		var mu sync.Mutex
		var batches, singles int
		th.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			mu.Lock()
			defer mu.Unlock()
			if strings.HasSuffix(r.URL.Path, "/~calls") {
				batches++
				w.WriteHeader(status)
				return
			}
			singles++
			next.ServeHTTP(w, r)
		})
		if err := errors.Join(together(t, service, call("a", barrier.Try), call("b", barrier.Try), call("c", barrier.Try))...); err != nil {
			t.Error(err)
		}
		var all sync.WaitGroup
		for _, gid := range []string{"a", "b", "c"} {
			all.Go(func() { sagatest.Must(t, service.Call(t.Context(), call(gid, barrier.Confirm))) })
		}
		all.Wait()
		if th.holds(94, 0, 6); batches != 1 || singles != 6 {
			t.Errorf("%d: %d batches, %d single calls", status, batches, singles)
		}
	}
}

// Of an answer that is cut, changed, mixed up or not of a host, only what is sound counts. The
// other calls may be repeated.
func TestAnswersToABatch(t *testing.T) {
	t.Parallel()
	swap := func(lines []string, i, j int) {
		a, b := strings.SplitN(lines[i], " ", 2), strings.SplitN(lines[j], " ", 2)
		lines[i], lines[j] = a[0]+" "+b[1], b[0]+" "+a[1]
	}
	for name, c := range map[string]struct {
		change func(lines []string) string
		counts int // how many calls have an answer
	}{
		"whole": {func(lines []string) string { return strings.Join(lines, "") }, 5},
		"in another order": {func(lines []string) string {
			slices.Reverse(lines)
			return strings.Join(lines, "")
		}, 5},
		"empty":         {func([]string) string { return "" }, 0},
		"cut":           {func(lines []string) string { return strings.Join(lines[:2], "") }, 2},
		"cut in a line": {func(lines []string) string { return strings.Join(lines[:2], "") + lines[2][:len(lines[2])/2] }, 2},
		"twice the same": {func(lines []string) string {
			lines[1] = lines[0]
			return strings.Join(lines, "")
		}, 4},
		"of other calls": {func(lines []string) string { swap(lines, 0, 1); return strings.Join(lines, "") }, 3},
		"another status": {func(lines []string) string {
			lines[0] = strings.Replace(lines[0], " 200 ", " 409 ", 1)
			return strings.Join(lines, "")
		}, 4},
		"a page":          {func([]string) string { return "<html>\n<body>It works</body>\n" }, 0},
		"no such call":    {func(lines []string) string { return "7" + lines[0][1:] + strings.Join(lines[1:], "") }, 0},
		"a negative call": {func(lines []string) string { return "-1" + lines[0][1:] + strings.Join(lines[1:], "") }, 0},
		"without end":     {func([]string) string { return strings.Repeat("x", 2<<20) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: keys("a")})
			service := newService(t, th.url(), remote.ServiceConfig{Keys: keys("a")})
			var calls []saga.Call
			for i := range 5 {
				calls = append(calls, call(fmt.Sprint("g", i), barrier.Try))
			}
			if err := errors.Join(together(t, service, calls...)...); err != nil {
				t.Fatal(err)
			}
			th.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				answer := httptest.NewRecorder()
				next.ServeHTTP(answer, r)
				lines := strings.SplitAfter(strings.TrimSuffix(answer.Body.String(), "\n"), "\n")
				lines[len(lines)-1] += "\n"
				slices.Sort(lines)
				io.WriteString(w, c.change(lines))
			})
			for i := range calls {
				calls[i].Op = barrier.Confirm
			}
			answered := 0
			for i, err := range together(t, service, calls...) {
				if err == nil {
					answered++
				} else {
					isFault(t, fmt.Sprint("call ", i), err, th.url())
				}
			}
			if answered != c.counts {
				t.Errorf("%d calls have an answer, want %d", answered, c.counts)
			}
			th.holds(90, 0, 10) // they were made all the same
			th.disturbed(nil)
			if err := errors.Join(together(t, service, calls...)...); err != nil {
				t.Error(err)
			}
			th.holds(90, 0, 10)
		})
	}
}

// A batch that was recorded has no second effect, and cannot be changed.
func TestARecordedBatch(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: keys("a")})
	service := newService(t, th.url(), remote.ServiceConfig{Keys: keys("a")})
	var recorded *http.Request
	var sent []byte
	th.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		sent, _ = io.ReadAll(r.Body)
		recorded = r.Clone(context.WithoutCancel(t.Context()))
		r.Body = io.NopCloser(bytes.NewReader(sent))
		next.ServeHTTP(w, r)
	})
	if err := errors.Join(together(t, service, call("a", barrier.Try), call("b", barrier.Try))...); err != nil {
		t.Fatal(err)
	}
	th.disturbed(nil)
	again := func(change func(body string) string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, th.server.URL+recorded.URL.RequestURI(), strings.NewReader(change(string(sent))))
		sagatest.Must(t, err)
		for name, values := range recorded.Header {
			if strings.HasPrefix(name, "Tccsaga-") {
				r.Header[name] = values
			}
		}
		return send(t, r)
	}
	if status, body := again(func(body string) string { return body }); status != http.StatusOK || strings.Count(body, "SUCCESS") != 2 {
		t.Errorf("again: %d %s", status, body)
	}
	for name, change := range map[string]func(body string) string{
		"one call changed": func(body string) string { return strings.Replace(body, `"a"`, `"c"`, 1) },
		"in part":          func(body string) string { return body[:len(body)-5] },
		"another order":    func(body string) string { return strings.NewReplacer(`"a"`, `"b"`, `"b"`, `"a"`).Replace(body) },
	} {
		if status, body := again(change); status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	th.holds(96, 4, 0)
}

// A request that is not a batch is refused, and calls nothing.
func TestBadBatches(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{MaxPayload: 100})
	head := func(payload, results int) string {
		return fmt.Sprintf(`{"gid":"g","branch_id":"01","op":"try","kind":"seats.reserve","payload":%d,"results":%d}`, payload, results)
	}
	for name, c := range map[string]struct {
		body   string
		status int
		says   string
	}{
		"empty":             {"", 400, "head of a batch"},
		"no JSON":           {"x\n", 400, "head of a batch"},
		"no calls":          {"{\"calls\":[]}\n", 400, "0 calls, 1 to 256 are allowed"},
		"too many calls":    {`{"calls":[` + strings.TrimSuffix(strings.Repeat(head(0, 0)+",", 257), ",") + "]}\n", 400, "257 calls"},
		"short payload":     {`{"calls":[` + head(10, 0) + "]}\n{}", 400, "ends before the payload of call 0"},
		"negative payload":  {`{"calls":[` + head(-1, 0) + "]}\n{}", 400, "ends before the payload of call 0"},
		"short results":     {`{"calls":[` + head(2, 5) + "]}\n{}{}", 400, "ends before the results of call 0"},
		"bad results":       {`{"calls":[` + head(2, 2) + "]}\n{}[]", 400, "results of call 0 are not a JSON object"},
		"more than calls":   {`{"calls":[` + head(2, 0) + "]}\n{}{}", 400, "2 bytes more than its calls"},
		"payload too large": {`{"calls":[` + head(102, 0) + "]}\n\"" + strings.Repeat("x", 100) + `"`, 200, "more than the 100 bytes"},
		"payload no JSON":   {`{"calls":[` + head(1, 0) + "]}\nx", 200, "the body is not JSON"},
		"too large":         {strings.Repeat("x", 2<<20), 413, "more than the 1048576 bytes"},
	} {
		r := request(t, th.url(), "g", barrier.Try, c.body)
		r.URL.Path, r.URL.RawQuery = "/branches/~calls", ""
		r.Header.Set("Tccsaga-Request", strings.Repeat("0", 32))
		status, body := send(t, r)
		if status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	r := request(t, th.url(), "g", barrier.Try, "{\"calls\":["+head(2, 0)+"]}\n{}")
	r.URL.Path, r.URL.RawQuery = "/branches/~calls", ""
	if status, body := send(t, r); status != 400 || !strings.Contains(body, "needs the header Tccsaga-Request") {
		t.Errorf("without an id: %d %s", status, body)
	}
	th.holds(100, 0, 0)
}

// 20,000 callers of a service that does not answer need few requests and little memory. They
// fail when their time is over, or go on when the service answers.
func TestManyCallersWait(t *testing.T) { // alone: it measures the heap
	const callers = 20_000
	var requests atomic.Int64
	answer := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		body, _ := io.ReadAll(r.Body)
		select {
		case <-answer:
		case <-r.Context().Done():
			return
		}
		calls, err := wire.DecodeBatch(body)
		if err != nil { // a single call
			calls = []saga.Call{call(r.URL.Query().Get("gid"), barrier.Try)}
		}
		for i, c := range calls {
			reply := wire.Reply{Answers: &wire.Answer{GID: c.GID, BranchID: c.BranchID, Op: string(c.Op), Request: r.Header.Get("Tccsaga-Request")}}
			if text := reply.Encode(http.StatusOK); err != nil {
				w.Write(text)
			} else {
				w.Write(wire.EncodeAnswer(i, http.StatusOK, "-", text))
			}
		}
	}))
	defer server.Close()
	service := newService(t, server.URL, remote.ServiceConfig{Timeout: time.Minute})
	before := heap()
	var started, done, gone atomic.Int64
	var all sync.WaitGroup
	hurry, leave := context.WithCancel(t.Context())
	for i := range callers {
		all.Go(func() {
			ctx := t.Context()
			if i%10 == 0 {
				ctx = hurry
			}
			started.Add(1)
			switch err := service.Call(ctx, call(fmt.Sprint("g", i), barrier.Try)); {
			case err == nil:
				done.Add(1)
			case errors.Is(err, context.Canceled):
				gone.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	sagatest.Eventually(t, "all callers wait", func() bool { return started.Load() == callers })
	each := (heap() - before) / callers
	leave()
	sagatest.Eventually(t, "those in a hurry are gone", func() bool { return gone.Load() == callers/10 })
	close(answer)
	all.Wait()
	if done.Load() != callers-callers/10 || requests.Load() > callers/100 || each > 8<<10 {
		t.Errorf("%d are done, %d requests, %d bytes for each caller", done.Load(), requests.Load(), each)
	}
}

// A caller that goes leaves the others of its batch alone.
func TestACallerOfABatchGoes(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{})
	service := newService(t, th.url(), remote.ServiceConfig{})
	service.Gather(3)
	gone, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	left := make(chan error, 1)
	all.Go(func() { left <- service.Call(gone, call("gone", barrier.Confirm)) })
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for _, gid := range []string{"a", "b"} {
		all.Go(func() { sagatest.Must(t, service.Call(t.Context(), call(gid, barrier.Try))) })
	}
	all.Wait()
	th.holds(96, 4, 0)
}
