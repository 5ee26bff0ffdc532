package tcc_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
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

// dieInTry is what the process does that is killed: it tries and waits.
func dieInTry(t *testing.T, c child) {
	db, err := gorm.Open(sqltest.Dialector(c.Database), &gorm.Config{})
	sagatest.Must(t, err)
	config := quick
	config.CallTimeout = lateTimeout
	orch := sagatest.Open(t, db, config)
	sagatest.Must(t, tcc.RegisterExternal(orch, webGateway{c.Gateway}))
	sagatest.Run(t, orch)
	_, err = tcc.Execute(t.Context(), orch, c.GID, holdLate{1, 30})
	t.Fatalf("not killed: %v", err)
}

const lateTimeout = 1500 * time.Millisecond

// A process that is killed during a Try leaves a mark: another instance calls Cancel
// when the time of the Try is over, and once more for a request that arrives late.
func TestProcessKilledInATry(t *testing.T) {
	if c, is := asChild(t); is {
		dieInTry(t, c)
	}
	for _, dialect := range []string{"mysql", "postgres"} {
		for name, late := range map[string]bool{"arrives before Cancel": false, "arrives after Cancel": true} {
			t.Run(dialect+", "+name, func(t *testing.T) {
				t.Parallel()
				database := sqltest.Create(t, dialect)
				db := sqltest.Connect(t, database, &gorm.Config{})
				sagatest.Must(t, schema.Migrate(t.Context(), db))
				gateway, gid := newWeb(t), sagatest.GID()
				config := quick
				config.CallTimeout = lateTimeout
				b := newBench(t, db, config)
				sagatest.Must(t, tcc.RegisterExternal(b.orch, webGateway{gateway.url}))

				process := startChild(t, child{Test: "TestProcessKilledInATry", Database: database, GID: gid, Gateway: gateway.url})
				<-gateway.called
				sagatest.Must(t, process.Process.Kill())
				process.Wait()
				found := b.reaches(gid, saga.Cancelling)
				if u := found.Branches[0].UnderWay; u == nil || u.Op != barrier.Try || u.Since.IsZero() || !u.Until.After(u.Since) {
					t.Errorf("under way: %+v", u)
				}
				want := "try cancel cancel"
				if late {
					want = "cancel try cancel"
					<-gateway.freed
				} else if got := gateway.so(); got != "" {
					t.Errorf("before the time of the Try is over: %s", got)
				}
				close(gateway.gate)
				<-gateway.held
				found = b.reaches(gid, saga.Cancelled)
				if got := gateway.so(); got != want {
					t.Errorf("the gateway saw %s, want %s", got, want)
				}
				if row := found.Branches[0].Barrier; row.UnderWay != nil || row.State != barrier.StateCancelled {
					t.Errorf("in the end %+v", row)
				}
			})
		}
	}
}
