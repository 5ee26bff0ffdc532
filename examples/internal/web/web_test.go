package web

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
)

func init() { gin.SetMode(gin.ReleaseMode) }

// routes has a page that takes a body, one that is read and one that panics.
func routes() http.Handler {
	r := New()
	r.POST("/things/:id", func(c *gin.Context) {
		var body struct {
			Name string `json:"name"`
			N    int    `json:"n"`
		}
		if Decode(c, &body) {
			c.JSON(http.StatusOK, gin.H{"id": Param(c, "id"), "name": body.Name})
		}
	})
	Get(r, "/things/:id", func(c *gin.Context) { c.JSON(http.StatusOK, gin.H{"id": Param(c, "id")}) })
	Get(r, "/panic", func(*gin.Context) { panic("the password is hunter2") })
	return Guard(r, Hosts{"shop.example"})
}

// answer is a response, whose body has to be JSON.
type answer struct {
	status int
	header http.Header
	fields map[string]any
}

func (a answer) error() string { return fmt.Sprint(a.fields["error"]) }

func send(t *testing.T, base, method, path, body string, header map[string]string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		if r.Header.Set(name, value); name == "Host" {
			r.Host = value
		}
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	a := answer{status: response.StatusCode, header: response.Header}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if method != http.MethodHead && json.Unmarshal(text, &a.fields) != nil {
		t.Errorf("%s %s: %d, and the body is not JSON: %q", method, path, a.status, text)
	}
	return a
}

func TestRequestsThatAreRefused(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(routes())
	t.Cleanup(server.Close)
	ok := `{"name":"x"}`
	cases := map[string]struct {
		method, path, body string
		header             map[string]string
		status             int
		says               string
	}{
		"fine":                        {"POST", "/things/1", ok, nil, 200, ""},
		"fine, with a charset":        {"POST", "/things/1", ok, map[string]string{"Content-Type": "application/json; charset=utf-8"}, 200, ""},
		"same origin":                 {"POST", "/things/1", ok, map[string]string{"Origin": server.URL}, 200, ""},
		"localhost":                   {"POST", "/things/1", ok, map[string]string{"Host": "LOCALHOST:80"}, 200, ""},
		"loopback, IPv6":              {"GET", "/things/1", "", map[string]string{"Host": "[::1]:80"}, 200, ""},
		"a public host":               {"GET", "/things/1", "", map[string]string{"Host": "shop.example"}, 200, ""},
		"another host":                {"GET", "/things/1", "", map[string]string{"Host": "evil.example"}, 421, "evil.example"},
		"another host, POST":          {"POST", "/things/1", ok, map[string]string{"Host": "evil.example"}, 421, "evil.example"},
		"like a loopback":             {"GET", "/things/1", "", map[string]string{"Host": "127.0.0.1.evil.example"}, 421, "host"},
		"another address":             {"GET", "/things/1", "", map[string]string{"Host": "192.0.2.1"}, 421, "host"},
		"cross origin":                {"POST", "/things/1", ok, map[string]string{"Origin": "http://evil.example"}, 403, "another origin"},
		"cross site":                  {"POST", "/things/1", ok, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403, "another origin"},
		"sandboxed":                   {"POST", "/things/1", ok, map[string]string{"Origin": "null"}, 403, "another origin"},
		"text":                        {"POST", "/things/1", ok, map[string]string{"Content-Type": "text/plain"}, 415, "application/json"},
		"form":                        {"POST", "/things/1", ok, map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, 415, "application/json"},
		"no body":                     {"POST", "/things/1", "", nil, 400, "empty"},
		"spaces":                      {"POST", "/things/1", "  ", nil, 400, "empty"},
		"null":                        {"POST", "/things/1", "null", nil, 400, "not a JSON object"},
		"array":                       {"POST", "/things/1", "[]", nil, 400, "not a JSON object"},
		"half":                        {"POST", "/things/1", `{"name":`, nil, 400, "ends in the middle"},
		"half a string":               {"POST", "/things/1", `{"name":"x`, nil, 400, "ends in the middle"},
		"more":                        {"POST", "/things/1", ok + "{}", nil, 400, "after the JSON object"},
		"unknown field":               {"POST", "/things/1", `{"price":1}`, nil, 400, `unknown field "price"`},
		"twice":                       {"POST", "/things/1", `{"name":"x","name":"y"}`, nil, 400, `"name" comes twice`},
		"twice, in other letters":     {"POST", "/things/1", `{"name":"x","NAME":"y"}`, nil, 400, `"NAME" comes twice`},
		"twice, escaped":              {"POST", "/things/1", `{"name":"x","n\u0061me":"y"}`, nil, 400, `"name" comes twice`},
		"not UTF-8":                   {"POST", "/things/1", "{\"name\":\"\xff\"}", nil, 400, "UTF-8"},
		"wrong type":                  {"POST", "/things/1", `{"n":"x"}`, nil, 400, "n of type int"},
		"too large a number":          {"POST", "/things/1", `{"n":1e99}`, nil, 400, "n of type int"},
		"oversize":                    {"POST", "/things/1", `{"name":"` + strings.Repeat("x", MaxBody) + `"}`, nil, 413, "65536 bytes"},
		"deep":                        {"POST", "/things/1", `{"name":` + strings.Repeat("[", MaxBody/2), nil, 400, "depth"},
		"wrong method":                {"DELETE", "/things/1", "", nil, 405, "POST, GET, HEAD"},
		"OPTIONS":                     {"OPTIONS", "/things/1", "", nil, 405, "POST, GET, HEAD"},
		"unknown page":                {"GET", "/nowhere", "", nil, 404, "no such page"},
		"slash at the end":            {"GET", "/things/1/", "", nil, 404, "no such page"},
		"panic":                       {"GET", "/panic", "", nil, 500, "its log says why"},
		"HEAD":                        {"HEAD", "/things/1", "", nil, 200, ""},
		"HEAD of an unknown page":     {"HEAD", "/nowhere", "", nil, 404, ""},
		"HEAD of a page that is sent": {"HEAD", "/things", "", nil, 404, ""},
	}
	for name, c := range cases {
		got := send(t, server.URL, c.method, c.path, c.body, c.header)
		if got.status != c.status || c.says != "" && !strings.Contains(got.error(), c.says) || strings.Contains(got.error(), "hunter2") {
			t.Errorf("%s: %d %v, want %d with %q", name, got.status, got.fields, c.status, c.says)
		}
		if allow := got.header.Get("Allow"); (allow != "") != (c.status == 405) {
			t.Errorf("%s: Allow is %q", name, allow)
		}
	}
	for path, id := range map[string]string{"a%2Fb": "a/b", "a%20b": "a b", "%C3%BC": "ü", "a+b": "a+b", "%2e%2e%2f": "../"} {
		if got := send(t, server.URL, "GET", "/things/"+path, "", nil); got.fields["id"] != id {
			t.Errorf("%s: %d %v, want the id %q", path, got.status, got.fields, id)
		}
	}
}

// A client that sends nothing, or its body too slowly, or too large a header, is
// not kept.
func TestClientsThatAreSlowOrLarge(t *testing.T) {
	t.Parallel()
	server := NewServer(routes())
	for name, limit := range map[string]time.Duration{"ReadHeaderTimeout": server.ReadHeaderTimeout, "ReadTimeout": server.ReadTimeout,
		"WriteTimeout": server.WriteTimeout, "IdleTimeout": server.IdleTimeout} {
		if limit <= 0 {
			t.Errorf("the server has no %s", name)
		}
	}
	if server.WriteTimeout < server.ReadTimeout+RequestTimeout {
		t.Errorf("WriteTimeout %s cuts answers off that come after %s", server.WriteTimeout, RequestTimeout)
	}
	server.ReadHeaderTimeout, server.ReadTimeout = 100*time.Millisecond, 100*time.Millisecond
	listener, err := Listen("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	const head = "POST /things/1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	for name, c := range map[string]struct {
		send   string
		status int // 0: the connection is closed
	}{
		"nothing":      {"", 0},
		"half a head":  {head, 0},
		"half a body":  {head + "Content-Length: 20\r\n\r\n{", http.StatusRequestTimeout},
		"a large head": {"GET / HTTP/1.1\r\nHost: localhost\r\nX-Large: " + strings.Repeat("x", 30000) + "\r\n\r\n", http.StatusRequestHeaderFieldsTooLarge},
	} {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, c.send)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		switch {
		case c.status == 0 && err == nil:
			t.Errorf("%s: answered %d", name, response.StatusCode)
		case c.status != 0 && (err != nil || response.StatusCode != c.status):
			t.Errorf("%s: %v, %v, want %d", name, response, err, c.status)
		case c.status == http.StatusRequestTimeout:
			if text, _ := io.ReadAll(response.Body); bytes.Contains(text, []byte("127.0.0.1")) {
				t.Errorf("%s: %s", name, text)
			}
		}
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		addr   string
		public Hosts
		ok     bool
	}{
		{"127.0.0.1:0", nil, true}, {"localhost:0", nil, true}, {":0", nil, false}, {"0.0.0.0:0", nil, false},
		{"0.0.0.0:0", Hosts{"shop.example"}, true}, {"127.0.0.1:0", Hosts{"shop.example"}, true},
	} {
		listener, err := Listen(c.addr, c.public)
		if (err == nil) != c.ok {
			t.Errorf("%s, public %q: %v", c.addr, c.public, err)
		}
		if err == nil {
			listener.Close()
		} else if !strings.Contains(err.Error(), "-public") {
			t.Errorf("%s: %v does not say what to do", c.addr, err)
		}
	}
	var hosts Hosts
	if err := hosts.Set("Shop.example, [2001:db8::1]:80"); err != nil || hosts.String() != "shop.example,2001:db8::1" {
		t.Errorf("%q %v", hosts, err)
	}
	for _, wrong := range []string{"", "a,,b", "http://shop.example", "*"} {
		if hosts.Set(wrong) == nil {
			t.Errorf("%q is taken for hosts", wrong)
		}
	}
	if got := (Hosts{}).With("http://Stock:8082").With("http://:1").With("\x00"); got.String() != "stock" {
		t.Errorf("%q", got)
	}
}

// The text of an error is for the log, not for the caller.
func TestUnavailable(t *testing.T) {
	var log bytes.Buffer
	var mu sync.Mutex
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	r := New()
	Get(r, "/x", func(c *gin.Context) {
		mu.Lock()
		defer mu.Unlock()
		Unavailable(c, "try again", fmt.Errorf("Error 1064: near 'SELECT secret'"))
	})
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	got := send(t, server.URL, "GET", "/x", "", nil)
	if got.status != 503 || got.error() != "try again" || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %v %v", got.status, got.fields, got.header)
	}
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(log.String(), "SELECT secret") {
		t.Errorf("the log does not say why: %s", &log)
	}
}
