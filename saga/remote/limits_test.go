package remote_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// Unsigned requests are refused on their heads: the body is neither waited for
// nor kept.
func TestUnsignedBodiesAreNotRead(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: keys("a"), MaxConcurrent: 1})
	wrong := func(r *http.Request, body []byte) { another(t, "a").Sign(r, "theatre", body, time.Now()) }
	for name, c := range map[string]struct {
		sign    func(r *http.Request, body []byte)
		framing string
	}{
		"unsigned": {nil, fmt.Sprintf("Content-Length: %d", size)}, "signed with another secret": {wrong, fmt.Sprintf("Content-Length: %d", size)},
		"small": {nil, "Content-Length: 100"}, "chunks": {nil, "Transfer-Encoding: chunked"}, "small, with another secret": {wrong, "Content-Length: 100"},
		"another length": {func(r *http.Request, body []byte) { keys("a")[0].Sign(r, "theatre", body, time.Now()) }, "Content-Length: 17"},
	} {
		conn := openRequest(t, th, c.sign, c.framing, nil, size)
		if answer := answerOf(t, conn); answer.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %s", name, answer.Status)
		}
		closes(t, conn)
	}

	// Behind a middleware that hides the connection's deadlines.
	th.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
	})
	conn := openRequest(t, th, nil, "Content-Length: 100", nil, 100)
	if answer := answerOf(t, conn); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("without deadlines: %s", answer.Status)
	}
	conn.Close()
	th.disturbed(nil)
}

// Many at once, almost complete, are not kept either.
func TestManyUnsignedBodiesAreNotKept(t *testing.T) { // alone: it measures the heap
	const size = 1 << 20
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: keys("a"), MaxConcurrent: 1})
	var conns []net.Conn
	before := heap()
	for range 100 {
		conns = append(conns, openRequest(t, th, nil, fmt.Sprintf("Content-Length: %d", size), make([]byte, size-1), size))
	}
	for _, c := range conns {
		io.Copy(io.Discard, c) // to the end: the host has dropped it, though the body has not come
	}
	if kept := heap() - before; kept > 50<<20 {
		t.Errorf("%d MB are kept of 100 unsigned bodies of 1 MiB", kept>>20)
	}
	sagatest.Must(t, newService(t, th.url(), remote.ServiceConfig{Keys: keys("a")}).Call(t.Context(), try(sagatest.GID())))
}

// A body that does not come is not waited for for ever; the call that follows a
// good one may take longer than its reading.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	gin.SetMode(gin.TestMode)
	for mounted, behindGin := range map[string]bool{"net/http": false, "gin": true} {
		th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{ReadTimeout: 200 * time.Millisecond})
		if behindGin {
			router := gin.New()
			router.POST("/branches/:kind", gin.WrapH(th.host))
			th.disturbed(func(w http.ResponseWriter, r *http.Request, _ http.Handler) { router.ServeHTTP(w, r) })
		}
		conn := openRequest(t, th, nil, "Content-Length: 100", []byte("{"), 100)
		if answer := answerOf(t, conn); answer.StatusCode != http.StatusRequestTimeout {
			t.Errorf("%s: %s", mounted, answer.Status)
		}
		closes(t, conn)

		th.seats.fail = func(barrier.Op) error { // the call takes twice as long
			<-time.After(400 * time.Millisecond)
			return nil
		}
		sagatest.Must(t, newService(t, th.url(), remote.ServiceConfig{}).Call(t.Context(), try(sagatest.GID())))
	}
}

// A server with a shorter limit of its own keeps it.
func TestReadTimeoutOfServer(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{ReadTimeout: time.Hour})
	server := httptest.NewUnstartedServer(th.host)
	server.Config.ReadTimeout = 200 * time.Millisecond
	server.Start()
	t.Cleanup(server.Close)
	th.server = server
	conn := openRequest(t, th, nil, "Content-Length: 100", []byte("{"), 100)
	if answer := answerOf(t, conn); answer.StatusCode != http.StatusRequestTimeout {
		t.Error(answer.Status)
	}
}

// The bytes after a refused head are no request of their own.
func TestNoSmuggling(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: keys("a")})
	inner := request(t, th.url(), sagatest.GID(), barrier.Try, two)
	keys("a")[0].Sign(inner, "theatre", []byte(two), time.Now())
	var captured strings.Builder
	sagatest.Must(t, inner.Write(&captured))
	for name, framing := range map[string]string{
		"as a body": fmt.Sprintf("Content-Length: %d", captured.Len()), "as a chunk": "Transfer-Encoding: chunked",
		"two framings": fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked", captured.Len()),
		"two lengths":  fmt.Sprintf("Content-Length: 1\r\nContent-Length: %d", captured.Len()),
	} {
		conn := openRequest(t, th, nil, framing, []byte(captured.String()), captured.Len())
		answers, err := io.ReadAll(conn)
		if err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: %v", name, err)
		}
		if n := strings.Count(string(answers), "HTTP/1.1 "); n != 1 || strings.Contains(string(answers), "200 OK") {
			t.Errorf("%s: %d answers: %s", name, n, answers)
		}
	}
	th.holds(100, 0, 0)
}

// Beyond MaxConcurrent, a request waits a little, unread, and is sent away.
func TestMaxConcurrent(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: keys("a"), MaxConcurrent: 2})
	th.host.SetQueue(20 * time.Millisecond)
	entered, leave := make(chan struct{}), make(chan struct{})
	th.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.URL.Query().Get("branch_id") == "02" {
			r.Body = &slowBody{r.Body, entered, leave}
		}
		next.ServeHTTP(w, r)
	})
	service := newService(t, th.url(), remote.ServiceConfig{Keys: keys("a")})
	slow := make(chan error, 2)
	for range 2 {
		go func() {
			call := try(sagatest.GID())
			call.BranchID = "02"
			slow <- service.Call(t.Context(), call)
		}()
		<-entered
	}
	r := request(t, th.url(), sagatest.GID(), barrier.Try, two)
	keys("a")[0].Sign(r, "theatre", []byte(two), time.Now())
	reply, err := http.DefaultClient.Do(r)
	sagatest.Must(t, err)
	text, err := io.ReadAll(reply.Body)
	sagatest.Must(t, err)
	reply.Body.Close()
	if reply.StatusCode != http.StatusServiceUnavailable || reply.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v %s", reply.StatusCode, reply.Header, text)
	}
	isFault(t, "busy", service.Call(t.Context(), try(sagatest.GID())), th.url())
	if status, _ := send(t, request(t, th.url(), sagatest.GID(), barrier.Try, two)); status != http.StatusUnauthorized {
		t.Errorf("an unsigned request to a busy host: %d", status)
	}
	// One that waits gets the place of one that leaves.
	th.host.SetQueue(20 * time.Second)
	waiting := make(chan error, 1)
	go func() { waiting <- service.Call(t.Context(), try(sagatest.GID())) }()
	close(leave)
	for _, c := range []chan error{slow, slow, waiting} {
		sagatest.Must(t, <-c)
	}
}

// Over HTTP/2, a refused request ends its own stream and not the connection.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{Keys: keys("a"), ReadTimeout: 300 * time.Millisecond})
	server := httptest.NewUnstartedServer(th.host)
	server.EnableHTTP2 = true
	connections := make(chan struct{}, 100)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections <- struct{}{}
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	client := server.Client()
	service := newService(t, server.URL+"/branches", remote.ServiceConfig{Keys: keys("a"), Client: client})
	sagatest.Must(t, service.Call(t.Context(), try(sagatest.GID())))
	for name, c := range map[string]struct {
		sign   bool
		status int
	}{"unsigned": {false, http.StatusUnauthorized}, "slow": {true, http.StatusRequestTimeout}} {
		reading, writing := io.Pipe() // a body that does not come
		r := request(t, server.URL+"/branches", sagatest.GID(), barrier.Try, two)
		if c.sign {
			keys("a")[0].Sign(r, "theatre", []byte(two), time.Now())
		}
		r.Body, r.ContentLength = reading, -1
		reply, err := client.Do(r)
		sagatest.Must(t, err)
		reply.Body.Close()
		writing.Close()
		if reply.ProtoMajor != 2 || reply.StatusCode != c.status {
			t.Errorf("%s: %s %s", name, reply.Proto, reply.Status)
		}
	}
	sagatest.Must(t, service.Call(t.Context(), try(sagatest.GID())))
	if n := len(connections); n != 1 {
		t.Errorf("%d connections", n)
	}
	th.holds(96, 4, 0)
}

// A request does not fill the log, nor do many.
func TestLogLinesAreShort(t *testing.T) {
	t.Parallel()
	var log safeBuffer
	db := sqltest.Open(t, "sqlite")
	newHost := func() *remote.Host {
		host, err := remote.NewHost(t.Context(), db, remote.HostConfig{Name: "theatre", Keys: keys("a"), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		sagatest.Must(t, err)
		return host
	}
	host := newHost()
	serve := func(change func(r *http.Request)) int {
		r := request(t, "http://x/branches", sagatest.GID(), barrier.Try, two)
		r.RequestURI = r.URL.RequestURI()
		change(r)
		w := httptest.NewRecorder()
		host.ServeHTTP(w, r)
		return w.Code
	}
	long := strings.Repeat("x\n", 1<<20)
	changes := map[string]func(r *http.Request){
		"key":       func(r *http.Request) { r.Header.Set("Tccsaga-Signature", "key="+long) },
		"signature": func(r *http.Request) { r.Header.Set("Tccsaga-Signature", long) },
		"part": func(r *http.Request) {
			r.Header.Set("Tccsaga-Signature", strings.Repeat("x", 200)+"=1,"+strings.Repeat("x", 200)+"=2")
		},
		"path":    func(r *http.Request) { r.URL.Path = long },
		"address": func(r *http.Request) { r.RemoteAddr = long },
		"kind": func(r *http.Request) {
			r.RequestURI = "/branches/" + strings.Repeat("k", 1<<20) + "?" + r.URL.RawQuery
		},
		"query": func(r *http.Request) { r.RequestURI += "&gid=" + strings.Repeat("%20", 1<<19) },
	}
	for name, change := range changes {
		host = newHost() // it logs one line a second
		if status := serve(change); status != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, status)
		}
	}
	for range 1000 {
		serve(func(*http.Request) {})
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) > 100 {
		t.Errorf("%d lines of 1,007 refused requests", len(lines))
	}
	for _, line := range lines {
		if len(line) > 4000 {
			t.Errorf("a line of %d bytes: %.200s", len(line), line)
		}
	}
}
