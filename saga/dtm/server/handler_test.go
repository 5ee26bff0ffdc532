package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dtm-labs/client/workflow"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/dtm/server"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// Requests that are refused before the body is read.
func TestRequestsAreRefused(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"))
	const body = `{"gid":"refused","trans_type":"tcc"}`
	in := http.Header{"Content-Type": {"application/json"}}
	with := func(pairs ...string) http.Header {
		header := in.Clone()
		for i := 0; i < len(pairs); i += 2 {
			header.Set(pairs[i], pairs[i+1])
		}
		return header
	}
	for _, c := range []struct {
		method, path string
		header       http.Header
		status       int
		says         string
	}{
		{"POST", "prepare", http.Header{"Content-Type": {"text/plain"}}, 415, "application/json"},
		{"POST", "prepare", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, 415, "application/json"},
		{"POST", "prepare", http.Header{"Content-Type": {"application/json; charset=latin1"}}, 415, "UTF-8"},
		{"POST", "prepare", http.Header{"Content-Type": {"application/json/x"}}, 415, "application/json"},
		{"POST", "prepare", http.Header{}, 415, "application/json"},
		{"POST", "prepare", with("Content-Encoding", "gzip"), 415, "Content-Encoding"},
		{"POST", "prepare", with("Sec-Fetch-Site", "cross-site"), 403, "cross-origin"},
		{"POST", "submit", with("Sec-Fetch-Site", "same-site"), 403, "cross-origin"},
		{"POST", "submit", with("Origin", "http://evil.example"), 403, "cross-origin"},
		{"POST", "submit", with("Origin", "null"), 403, "cross-origin"},
		{"GET", "prepare", in, 405, "POST is"},
		{"GET", "submit?gid=refused", in, 405, "POST is"},
		{"PUT", "abort", in, 405, "POST is"},
		{"DELETE", "registerBranch", in, 405, "POST is"},
		{"POST", "query?gid=a", in, 405, "GET, HEAD is"},
		{"POST", "newGid", in, 405, "GET, HEAD is"},
		{"OPTIONS", "version", in, 405, "GET, HEAD is"},
		{"POST", "nothing", in, 404, "/api/dtmsvr/nothing is not served"},
		{"GET", "all?limit=0", in, 400, "limit"},
		{"GET", "all?limit=1001", in, 400, "limit"},
		{"GET", "all?transType=workflow", in, 400, "trans_type"},
		{"GET", "all?createTimeStart=yesterday", in, 400, "createTimeStart"},
		{"GET", "all?status=succeed&status=failed", in, 400, "2 times"},
		{"GET", "subscribe?topic=a&url=b", in, 501, "topics"},
		{"DELETE", "topic/a", in, 501, "topics"},
		{"POST", "resetCronTime", in, 501, "resetNextCronTime"},
		{"POST", "%73ubmit", in, 404, "is not served"},
		{"POST", "x/../submit", in, 404, "is not served"},
		{"POST", "/submit", in, 404, "is not served"},
		{"POST", "submit/", in, 404, "is not served"},
		{"POST", "Submit", in, 404, "is not served"},
		{"GET", "query", in, 400, "0 gids"},
		{"GET", "query?gid=a&gid=b", in, 400, "2 gids"},
		{"GET", "query?gid=a;b", in, 400, "semicolon"},
		{"GET", "query?gid=a%00", in, 400, "printable"},
		{"GET", "query?gid=" + strings.Repeat("x", 129), in, 400, "128"},
	} {
		sent := body
		if c.method == "GET" {
			sent = ""
		}
		status, text := b.send(c.method, c.path, sent, c.header)
		var reply struct{ Message string }
		if err := json.Unmarshal([]byte(text), &reply); err != nil || status != c.status || !strings.Contains(reply.Message, c.says) {
			t.Errorf("%s %s %v: %d %s, want %d with %q", c.method, c.path, c.header, status, text, c.status, c.says)
		}
	}
	b.says(200, `{"transaction":null,"branches":[]}`)(b.get("query?gid=refused"))
	for _, header := range []http.Header{in, {"Content-Type": {"application/json; charset=utf-8"}}, {"Content-Type": {"application/json;charset=UTF-8"}},
		with("Sec-Fetch-Site", "same-origin"), with("Sec-Fetch-Site", "none")} {
		b.says(200, "SUCCESS")(b.send("POST", "prepare", body, header))
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, b.dtm()+"/submit", nil)
	sagatest.Must(t, err)
	reply, err := http.DefaultClient.Do(r)
	sagatest.Must(t, err)
	reply.Body.Close()
	if got := reply.Header.Get("Allow"); got != "POST" {
		t.Errorf("Allow: %q", got)
	}
}

// DTM's workflow client shows its user what is wrong.
func TestWorkflowsAreRefusedClearly(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"))
	workflow.InitHTTP(b.dtm(), b.busi.URL+"/workflow")
	sagatest.Must(t, workflow.Register("order", func(*workflow.Workflow, []byte) error { return nil }))
	err := workflow.Execute("order", "w", nil)
	if err == nil || !strings.Contains(err.Error(), "the endpoint /api/dtmsvr/prepareWorkflow is not served") {
		t.Errorf("%v", err)
	}
}

// Bodies that do not come are not waited for, and hold up nobody for long.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"), func(config *server.Config, _ *embedded.Config) {
		config.BodyTimeout, config.MaxRequests = 200*time.Millisecond, 4
	})
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			connection, err := net.Dial("tcp", strings.TrimPrefix(b.api.URL, "http://"))
			if err != nil {
				t.Error(err)
				return
			}
			defer connection.Close()
			path, kind := "prepare", "application/json"
			switch i % 4 { // those that are refused are not waited for either
			case 1:
				path = "nothing"
			case 2:
				kind = "text/plain"
			}
			fmt.Fprintf(connection, "POST /api/dtmsvr/%s HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nContent-Length: 1000\r\n\r\n{", path, kind)
			connection.SetReadDeadline(time.Now().Add(20 * time.Second))
			answer, err := io.ReadAll(connection) // until the server closes it
			if err != nil || !bytes.Contains(answer, []byte("HTTP/1.1 4")) && !bytes.Contains(answer, []byte("HTTP/1.1 503")) {
				t.Errorf("%v: %s", err, answer)
			}
		})
	}
	all.Wait()
	b.says(200, "SUCCESS")(b.post("prepare", `{"gid":"a","trans_type":"tcc"}`))
}

// A client that sends slowly, but in time, is served, and its connection goes on.
func TestABodyInPieces(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"))
	connection, err := net.Dial("tcp", strings.TrimPrefix(b.api.URL, "http://"))
	sagatest.Must(t, err)
	defer connection.Close()
	for i := range 3 {
		body := fmt.Sprintf(`{"gid":"a%d","trans_type":"tcc"}`, i)
		fmt.Fprintf(connection, "POST /api/dtmsvr/prepare HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
		for _, c := range body {
			fmt.Fprintf(connection, "1\r\n%c\r\n", c)
		}
		io.WriteString(connection, "0\r\n\r\n")
		answer := make([]byte, 4096)
		n, err := connection.Read(answer)
		if err != nil || !bytes.Contains(answer[:n], []byte("200 OK")) {
			t.Fatalf("%v: %s", err, answer[:n])
		}
	}
}

func TestLargeBodies(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"))
	large := `{"gid":"` + strings.Repeat("x", 2<<20) + `"}`
	b.says(413, "too large")(b.post("prepare", large))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.dtm()+"/prepare", io.MultiReader(strings.NewReader(large))) // of unknown length
	sagatest.Must(t, err)
	r.Header.Set("Content-Type", "application/json")
	reply, err := http.DefaultClient.Do(r)
	if err == nil { // or the connection was closed while it was sent
		defer reply.Body.Close()
		if reply.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s", reply.Status)
		}
	}
}

// A client that does not take its answers keeps nobody out for long.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"), func(config *server.Config, _ *embedded.Config) {
		config.BodyTimeout, config.MaxRequests = 300*time.Millisecond, 1
	})
	b.says(200, "SUCCESS")(b.post("prepare", `{"gid":"a","trans_type":"tcc"}`))
	for i := range 10 {
		b.says(200, "SUCCESS")(b.post("registerBranch", fmt.Sprintf(`{"gid":"a","trans_type":"tcc","branch_id":%q,"data":%q}`, saga.BranchID(i+1), strings.Repeat("x", 60000))))
	}
	connection, err := net.Dial("tcp", strings.TrimPrefix(b.api.URL, "http://"))
	sagatest.Must(t, err)
	defer connection.Close()
	sagatest.Must(t, connection.(*net.TCPConn).SetReadBuffer(1024))
	_, err = io.WriteString(connection, strings.Repeat("GET /api/dtmsvr/query?gid=a HTTP/1.1\r\nHost: a\r\n\r\n", 30))
	sagatest.Must(t, err)
	sagatest.Eventually(t, "it is thrown out", func() bool {
		_, err := io.WriteString(connection, "\r\n")
		return err != nil
	})
	b.says(200, "tccsaga")(b.get("version"))
}

// lines takes what is logged.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// The text of an internal error goes to the log; the client gets its id.
func TestInternalErrorsStayInside(t *testing.T) {
	t.Parallel()
	var log lines
	db := sqltest.Open(t, "sqlite")
	b := newBank(t, db, func(config *server.Config, _ *embedded.Config) {
		config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	b.open("a", "/in/confirm")
	sagatest.Must(t, db.Exec("ALTER TABLE saga_transactions RENAME TO hidden").Error)
	id := regexp.MustCompile(`under error ([0-9a-f]{8})"`)
	for _, send := range []func() (int, string){
		func() (int, string) { return b.post("prepare", `{"gid":"b","trans_type":"tcc"}`) },
		func() (int, string) { return b.post("submit", `{"gid":"a","trans_type":"tcc"}`) },
		func() (int, string) { return b.post("abort", `{"gid":"a","trans_type":"tcc"}`) },
		func() (int, string) { return b.post("registerBranch", b.registration("a", "02", "")) },
		func() (int, string) { return b.get("query?gid=a") },
	} {
		status, text := send()
		found := id.FindStringSubmatch(text)
		if status != 500 || found == nil || strings.Contains(text, "saga_") || strings.Contains(text, "SQL") || strings.Contains(text, "table") {
			t.Errorf("%d %s", status, text)
			continue
		}
		if !strings.Contains(log.String(), "id="+found[1]) || !strings.Contains(log.String(), "saga_transactions") {
			t.Errorf("the log does not have %s: %s", found[1], log.String())
		}
	}
	sagatest.Must(t, db.Exec("ALTER TABLE hidden RENAME TO saga_transactions").Error)
	// No request makes the log long.
	before := len(log.String())
	b.get(strings.Repeat("x", 100_000))
	b.post("prepare", `{"gid":"`+strings.Repeat("x", 100_000)+`","trans_type":"tcc"}`)
	b.send(strings.Repeat("X", 100_000), "prepare", "", nil)
	b.send("POST", "prepare", "", http.Header{"Content-Type": {strings.Repeat("x", 100_000)}})
	if n := len(log.String()) - before; n > 4000 {
		t.Errorf("%d bytes were logged", n)
	}
}

func TestAStoppedEngine(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"))
	sagatest.Must(t, b.orch.Stop(context.WithoutCancel(t.Context())))
	b.says(503, "stopping")(b.post("prepare", `{"gid":"a","trans_type":"tcc"}`))
}

func TestBadConfigs(t *testing.T) {
	t.Parallel()
	b := newBank(t, sqltest.Open(t, "sqlite"))
	hosts := []string{"a"}
	for says, config := range map[string]server.Config{
		"Hosts": {}, "twice": {Hosts: []string{"a", "A"}}, "URL": {Hosts: []string{"http://a"}},
		"MaxBody": {Hosts: hosts, MaxBody: -1}, "MaxData": {Hosts: hosts, MaxData: -1}, "MaxTransactionData": {Hosts: hosts, MaxTransactionData: -1},
		"MaxTimeout": {Hosts: hosts, MaxTimeout: time.Millisecond}, "BodyTimeout": {Hosts: hosts, BodyTimeout: -1},
		"MaxWait": {Hosts: hosts, MaxWait: -1}, "MaxRequests": {Hosts: hosts, MaxRequests: -1},
		"registered already": {Hosts: []string{b.host()}},
		"Config.Topics":      {Hosts: hosts, Topics: map[string][]string{"t": {"http://a/x", "http://elsewhere/x"}}},
		"GIDPrefix":          {Hosts: hosts, GIDPrefix: "a;b"}, "64 characters": {Hosts: hosts, GIDPrefix: strings.Repeat("x", 65)},
	} {
		if _, err := server.New(b.orch, config); !errors.Is(err, saga.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// No more requests than the configuration allows are worked on at once.
func TestManyRequests(t *testing.T) {
	t.Parallel()
	inside, release := make(chan struct{}, 8), make(chan struct{})
	free := sync.OnceFunc(func() { close(release) })
	b := newBankOn(t, sqltest.Open(t, "sqlite"), func(orch *embedded.Engine) server.Engine {
		return between{orch, func() { inside <- struct{}{}; <-release }}
	}, func(config *server.Config, _ *embedded.Config) {
		config.BodyTimeout, config.MaxRequests = 50*time.Millisecond, 2
	})
	t.Cleanup(free)
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() { b.says(200, "null")(b.get("query?gid=a")) })
	}
	<-inside
	<-inside
	for range 3 {
		b.says(503, "too many requests")(b.get("query?gid=a"))
	}
	free()
	both.Wait()
	if n := len(inside); n > 0 {
		t.Errorf("%d more came in", n)
	}
	b.says(200, "null")(b.get("query?gid=a"))
}
