package server_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// busi is a service whose branches answer what a test says, and remember what
// they were asked.
type busi struct {
	*httptest.Server

	mu     sync.Mutex
	always answer
	once   []answer
	asked  []asked
}

type answer struct {
	status int
	kind   string // its Content-Type
	body   string
}

type asked struct {
	method, uri, body string
	header            http.Header
}

func newBusi(t *testing.T) *busi {
	b := &busi{always: answer{200, "application/json", `{"dtm_result":"SUCCESS"}`}}
	b.Server = httptest.NewServer(http.HandlerFunc(b.serve))
	t.Cleanup(b.Close)
	return b
}

func (b *busi) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, asked{r.Method, r.RequestURI, string(body), r.Header})
	a := b.always
	if len(b.once) > 0 {
		a, b.once = b.once[0], b.once[1:]
	}
	if a.kind != "" {
		w.Header().Set("Content-Type", a.kind)
	}
	w.WriteHeader(a.status)
	io.WriteString(w, a.body)
}

func (b *busi) host() string { return strings.TrimPrefix(b.URL, "http://") }

func (b *busi) answers(status int, body string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.always = answer{status, "", body}
}

func (b *busi) answersOnce(status int, body string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.once = append(b.once, answer{status, "", body})
}

func (b *busi) heard() []asked {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]asked(nil), b.asked...)
}
