package tcc_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// webGateway is a branch that calls a gateway over HTTP.
type webGateway struct{ url string }

func (g webGateway) post(ctx context.Context, op barrier.Op) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/"+string(op), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	io.Copy(io.Discard, response.Body)
	return response.Body.Close()
}

func (g webGateway) Try(ctx context.Context, _ holdLate) error { return g.post(ctx, barrier.Try) }
func (g webGateway) Confirm(ctx context.Context, _ holdLate) error {
	return g.post(ctx, barrier.Confirm)
}
func (g webGateway) Cancel(ctx context.Context, _ holdLate) error { return g.post(ctx, barrier.Cancel) }

// web is the gateway: a Try reserves when the gate is open, whether its client is
// there or not.
type web struct {
	url    string
	called chan struct{}
	gate   chan struct{}
	held   chan struct{}
	freed  chan struct{}

	mu    sync.Mutex
	calls []string
}

func newWeb(t *testing.T) *web {
	w := &web{called: make(chan struct{}), gate: make(chan struct{}), held: make(chan struct{}), freed: make(chan struct{}, 100)}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		op := strings.TrimPrefix(r.URL.Path, "/")
		if op == string(barrier.Try) {
			close(w.called)
			<-w.gate
		}
		w.mu.Lock()
		w.calls = append(w.calls, op)
		w.mu.Unlock()
		switch barrier.Op(op) {
		case barrier.Try:
			close(w.held)
		case barrier.Cancel:
			w.freed <- struct{}{}
		}
	}))
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

func (w *web) so() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.calls, " ")
}
