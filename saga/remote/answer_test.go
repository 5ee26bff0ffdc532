package remote_test

import (
	"bytes"
	"compress/gzip"
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
	"sync"
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

// page is what a web server answers that has no branches.
const page = "<!DOCTYPE html><html><title>Welcome to nginx!</title></html>"

// Only the answer of a host counts, signed or not.
func TestAnswersOfSomethingInBetween(t *testing.T) {
	t.Parallel()
	endless := strings.Repeat("x", 1<<17)
	for name, c := range map[string]struct {
		status int
		body   string
		header http.Header
	}{
		"a page":                {200, page, nil},
		"nothing":               {200, "", nil},
		"an empty object":       {200, "{}", nil},
		"success in words":      {200, `{"dtm_result":"SUCCESS"}`, nil},
		"success, without end":  {200, `{"dtm_result":"SUCCESS"}` + endless, nil},
		"a no":                  {409, `{"dtm_result":"FAILURE","message":"sold out"}`, nil},
		"a no in words":         {200, "FAILURE", nil},
		"not yet":               {425, "", nil},
		"accepted":              {202, "", nil},
		"no content":            {204, "", nil},
		"forbidden":             {403, page, nil},
		"an error, without end": {500, endless, nil},
		"a redirect":            {307, "", http.Header{"Location": {"http://elsewhere/"}}},
		"an empty name":         {200, `{"dtm_result":"SUCCESS","answers":{}}`, nil},
		"another call":          {200, `{"dtm_result":"SUCCESS","answers":{"gid":"g","branch_id":"01","op":"try","request":"0"}}`, nil},
		"a header of 1 MB":      {200, "{}", http.Header{"X": {strings.Repeat("x", 1<<20)}}},
		"a made up code":        {200, `{"dtm_result":"SUCCESS"}`, http.Header{"Tccsaga-Answer": {"mac=" + strings.Repeat("0", 64)}}},
		"no code":               {200, `{"dtm_result":"SUCCESS"}`, http.Header{"Tccsaga-Answer": {""}}},
	} {
		var calls atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			calls.Add(1)
			for name, values := range c.header {
				w.Header()[name] = values
			}
			w.WriteHeader(c.status)
			w.Write([]byte(c.body))
		}))
		for _, config := range []remote.ServiceConfig{{}, {Keys: keys("a")}} {
			for _, op := range []barrier.Op{barrier.Try, barrier.Confirm, barrier.Cancel} {
				call := try("g")
				call.Op = op
				calls.Store(0)
				err := newService(t, server.URL, config).Call(t.Context(), call)
				isFault(t, name, err, server.URL)
				if want := map[barrier.Op]int64{barrier.Try: 3, barrier.Confirm: 1, barrier.Cancel: 1}[op]; calls.Load() != want {
					t.Errorf("%s: %s was sent %d times, want %d", name, op, calls.Load(), want)
				}
			}
		}
		server.Close()
	}
}

// isFault checks that an error is no rejection, is short, and has a text for
// callers without an address.
func isFault(t *testing.T, name string, err error, address string) {
	t.Helper()
	var rejection *saga.Rejection
	var public interface{ Public() string }
	if err == nil || errors.As(err, &rejection) || len(err.Error()) > 1000 {
		t.Errorf("%s: %.1000v", name, err)
		return
	}
	if !errors.As(err, &public) {
		t.Errorf("%s: no text for callers: %v", name, err)
		return
	}
	at, _ := url.Parse(address)
	for _, secret := range []string{at.Host, at.Hostname(), at.Port(), "://", "127.0.0.1", "localhost", "html", "SQL"} {
		if strings.Contains(public.Public(), secret) {
			t.Errorf("%s: %q shows %q", name, public.Public(), secret)
		}
	}
}

// An answer of a host that was recorded, or changed on its way, does not count.
func TestChangedAnswers(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(status int, header http.Header, body string) (int, string){
		"another status":  func(_ int, _ http.Header, body string) (int, string) { return 409, body },
		"another message": func(status int, _ http.Header, body string) (int, string) { return status, body[:len(body)-1] + " " },
		"no code": func(status int, header http.Header, body string) (int, string) {
			header.Del("Tccsaga-Answer")
			return status, body
		},
		"a header of 1 MB": func(status int, header http.Header, body string) (int, string) {
			header.Set("X", strings.Repeat("x", 1<<20))
			return status, body
		},
	} {
		th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: keys("a")})
		th.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			answer := httptest.NewRecorder()
			next.ServeHTTP(answer, r)
			status, text := change(answer.Code, answer.Header(), answer.Body.String())
			for name, values := range answer.Header() {
				w.Header()[name] = values
			}
			w.WriteHeader(status)
			io.WriteString(w, text)
		})
		isFault(t, name, newService(t, th.url(), remote.ServiceConfig{Keys: keys("a")}).Call(t.Context(), try("g")), th.url())
	}

	// The answer to one request is none to the next, even of the same call.
	for name, config := range map[string]remote.ServiceConfig{"signed": {Keys: keys("a")}, "unsigned": {}} {
		th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: config.Keys})
		var once sync.Once
		recorded := httptest.NewRecorder()
		th.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			once.Do(func() { next.ServeHTTP(recorded, r) })
			for name, values := range recorded.Header() {
				w.Header()[name] = values
			}
			w.WriteHeader(recorded.Code)
			w.Write(recorded.Body.Bytes())
		})
		service := newService(t, th.url(), config)
		sagatest.Must(t, service.Call(t.Context(), try("g")))
		isFault(t, name, service.Call(t.Context(), try("g")), th.url())
	}

	// A code of a request is none of an answer.
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: keys("a")})
	th.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		_, mac, _ := strings.Cut(r.Header.Get("Tccsaga-Signature"), "mac=")
		w.Header().Set("Tccsaga-Answer", "mac="+mac)
		fmt.Fprintf(w, `{"answers":{"gid":"g","branch_id":"01","op":"try","request":%q}}`, r.Header.Get("Tccsaga-Request"))
	})
	isFault(t, "reflected", newService(t, th.url(), remote.ServiceConfig{Keys: keys("a")}).Call(t.Context(), try("g")), th.url())
}

// A proxy may compress an answer; one that grows beyond measure does not count.
func TestCompressedAnswers(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: keys("a")})
	zeros := 0
	th.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		w.Header().Set("Tccsaga-Answer", answer.Header().Get("Tccsaga-Answer"))
		w.Header().Set("Content-Encoding", "gzip")
		packed := gzip.NewWriter(w)
		packed.Write(answer.Body.Bytes())
		packed.Write(make([]byte, zeros))
		packed.Close()
	})
	service := newService(t, th.url(), remote.ServiceConfig{Keys: keys("a")})
	sagatest.Must(t, service.Call(t.Context(), try(sagatest.GID())))
	zeros = 100 << 20
	isFault(t, "a bomb", service.Call(t.Context(), try(sagatest.GID())), th.url())
}

// An answer that does not come to its end is none, and the timeout holds.
func TestSlowAnswer(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{})
	th.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		io.WriteString(w, `{"dtm_`)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	service := newService(t, th.url(), remote.ServiceConfig{Timeout: 100 * time.Millisecond})
	err := service.Call(t.Context(), try("g"))
	isFault(t, "slow", err, th.url())
	if !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "within 100ms") {
		t.Errorf("%v", err)
	}
}

// Branches that follow DTM's convention alone: 200 counts with an answer that a
// branch can have given.
func TestPlainDTM(t *testing.T) {
	t.Parallel()
	endless := strings.Repeat("x", 1<<17)
	for name, c := range map[string]struct {
		status   int
		body     string
		op       barrier.Op
		done     bool
		rejected bool
		is       error
	}{
		"nothing":                {status: 200, op: barrier.Confirm, done: true},
		"an empty object":        {status: 200, body: "{}\n", op: barrier.Confirm, done: true},
		"null":                   {status: 200, body: "null", op: barrier.Confirm, done: true},
		"success":                {status: 200, body: `{"dtm_result":"SUCCESS","x":1}`, op: barrier.Confirm, done: true},
		"success, the word":      {status: 200, body: "SUCCESS", op: barrier.Try, done: true},
		"an object of its own":   {status: 200, body: `{"balance":5}`, op: barrier.Try, done: true},
		"a page":                 {status: 200, body: page, op: barrier.Confirm},
		"a text":                 {status: 200, body: "ok", op: barrier.Confirm},
		"an array":               {status: 200, body: "[]", op: barrier.Confirm},
		"another result":         {status: 200, body: `{"dtm_result":"MAYBE"}`, op: barrier.Confirm},
		"an error in an object":  {status: 200, body: `{"error":"upstream"}`, op: barrier.Confirm},
		"without end":            {status: 200, body: `{"x":"` + endless + `"}`, op: barrier.Confirm},
		"a no in words":          {status: 200, body: `{"dtm_result":"FAILURE","message":"sold out"}`, op: barrier.Try, rejected: true},
		"not yet in words":       {status: 200, body: `{"dtm_result":"ONGOING"}`, op: barrier.Confirm, is: saga.ErrOngoing},
		"a no to a Confirm":      {status: 409, body: "no", op: barrier.Confirm},
		"a no to a Cancel":       {status: 200, body: "FAILURE", op: barrier.Cancel},
		"accepted":               {status: 202, op: barrier.Try},
		"no content":             {status: 204, op: barrier.Try},
		"a page of a proxy":      {status: 403, body: page, op: barrier.Try},
		"a no, without end":      {status: 409, body: endless, op: barrier.Try, rejected: true},
		"a no on a page":         {status: 409, body: page, op: barrier.Try, rejected: true},
		"an error, without end":  {status: 500, body: endless, op: barrier.Try},
		"too early, to a Try":    {status: 425, op: barrier.Try, is: saga.ErrOngoing},
		"nobody has such a kind": {status: 404, body: `{"message":"unknown"}`, op: barrier.Confirm},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("caller") || r.Header.Get("Tccsaga-Request") != "" {
				t.Errorf("%s: more than DTM's convention: %s, %v", name, r.URL, r.Header)
			}
			w.WriteHeader(c.status)
			w.Write([]byte(c.body))
		}))
		err := newService(t, server.URL, remote.ServiceConfig{PlainDTM: true}).Call(t.Context(),
			saga.Call{GID: "g", BranchID: "01", Kind: "k", Caller: "me", Op: c.op, Payload: []byte("{}")})
		var rejection *saga.Rejection
		switch {
		case c.done != (err == nil), errors.As(err, &rejection) != c.rejected, c.is != nil && !errors.Is(err, c.is):
			t.Errorf("%s: %v", name, err)
		case c.rejected && (len(err.Error()) > 1000 || strings.Contains(err.Error(), "<")):
			t.Errorf("%s: a reason of %d bytes: %.200s", name, len(err.Error()), err)
		case err != nil && !c.rejected:
			isFault(t, name, err, server.URL)
		}
		server.Close()
	}
}

// The text of an error inside a host stays there; the caller gets an id for it.
func TestHostShowsNoInternals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		op     barrier.Op
		err    error
		status int
		says   string
	}{
		"SQL":             {barrier.Try, fmt.Errorf("Error 1146 (42S02): Table 'shop.seats' on 10.0.0.7:3306 does not exist"), 500, "the call failed"},
		"a rejected step": {barrier.Confirm, tcc.Reject(errors.New("inside 10.0.0.7")), 500, "the call failed"},
		"not yet":         {barrier.Try, fmt.Errorf("10.0.0.7 warms up: %w", saga.ErrOngoing), 425, "not at its end"},
		"too slow":        {barrier.Try, fmt.Errorf("10.0.0.7: %w", context.DeadlineExceeded), 503, "took too long"},
		"bad input":       {barrier.Try, fmt.Errorf("10.0.0.7: %w", saga.ErrInvalid), 400, "the call failed"},
		"meant for all":   {barrier.Try, publicError{}, 500, "the printer is out of paper"},
	} {
		var log safeBuffer
		th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
		th.seats.fail = func(op barrier.Op) error {
			if op != c.op {
				return nil
			}
			return c.err
		}
		gid := sagatest.GID()
		if c.op == barrier.Confirm {
			sagatest.Must(t, newService(t, th.url(), remote.ServiceConfig{}).Call(t.Context(), try(gid)))
		}
		status, text := send(t, request(t, th.url(), gid, c.op, two))
		var reply struct {
			Message string
			ErrorID string `json:"error_id"`
		}
		sagatest.Must(t, json.Unmarshal([]byte(text), &reply))
		if status != c.status || !strings.Contains(reply.Message, c.says) || strings.Contains(text, "10.0.0.7") || strings.Contains(text, "42S02") {
			t.Errorf("%s: %d %s", name, status, text)
		}
		if reply.ErrorID == "" || !strings.Contains(reply.Message, reply.ErrorID) || !strings.Contains(log.String(), reply.ErrorID) || !strings.Contains(log.String(), c.err.Error()) {
			t.Errorf("%s: id %q, the log has %s", name, reply.ErrorID, log.String())
		}
	}
	// A panic too, and a statement that the database refuses.
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{})
	th.seats.fail = func(barrier.Op) error { panic("index out of range at 10.0.0.7") }
	if status, text := send(t, request(t, th.url(), sagatest.GID(), barrier.Try, two)); status != 500 || strings.Contains(text, "10.0.0.7") {
		t.Errorf("a panic: %d %s", status, text)
	}
	sqltest.Exec(t, th.db, "DROP TABLE things")
	if status, text := send(t, request(t, th.url(), sagatest.GID(), barrier.Try, two)); status != 500 || strings.Contains(text, "things") {
		t.Errorf("no table: %d %s", status, text)
	}
}

type publicError struct{}

func (publicError) Error() string  { return "printer 10.0.0.7: paper" }
func (publicError) Public() string { return "the printer is out of paper" }

// A code of a Rejection comes to the caller, and so does its whole text.
func TestRejectionCode(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]remote.ServiceConfig{"signed": {Keys: keys("a")}, "unsigned": {}, "plain DTM": {PlainDTM: true}} {
		th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: config.Keys})
		th.seats.fail = func(barrier.Op) error { return saga.RejectCode("seats.short", errors.New("row 1 is short")) }
		err := newService(t, th.url(), config).Call(t.Context(), try("g"))
		var rejection *saga.Rejection
		if !errors.As(err, &rejection) || rejection.Code != "seats.short" || rejection.Error() != "row 1 is short" {
			t.Errorf("%s: %v", name, err)
		}
	}
	// For a DTM server, its words are in no code either.
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{})
	th.seats.fail = func(barrier.Op) error { return saga.RejectCode("ONGOING", errors.New("no")) }
	if status, text := send(t, request(t, th.url(), sagatest.GID(), barrier.Try, two)); status != 409 || strings.Contains(text, "ONGOING") {
		t.Errorf("%d %s", status, text)
	}
}

// The name of the caller comes to the branch, and a signature covers it.
func TestCallerIsNamed(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]remote.ServiceConfig{"signed": {Keys: keys("a")}, "unsigned": {}} {
		th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: config.Keys})
		var got []string
		sagatest.Must(t, th.host.Register(saga.NewLocal("spy", func(any) ([]byte, error) { return nil, nil }, saga.Local{
			Work: func(_ context.Context, _ *gorm.DB, call saga.Call) error {
				got = append(got, call.Caller)
				return nil
			}})))
		service := newService(t, th.url(), config)
		for _, caller := range []string{"log-7f", strings.Repeat("c", 127), "a&op=cancel;+%20", ""} {
			call := try(sagatest.GID())
			call.Kind, call.Caller = "spy", caller
			sagatest.Must(t, service.Call(t.Context(), call))
			if got[len(got)-1] != caller {
				t.Errorf("%s: %q came as %q", name, caller, got[len(got)-1])
			}
		}
		for _, caller := range []string{"a b", strings.Repeat("c", 128), "ü", "a\nb"} {
			call := try(sagatest.GID())
			call.Kind, call.Caller = "spy", caller
			isFault(t, caller, service.Call(t.Context(), call), th.url())
		}
		if len(got) != 4 {
			t.Errorf("%s: %d calls came", name, len(got))
		}
	}
}

// safeBuffer is a log that is written and read at the same time.
type safeBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
