package otelsaga_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel/trace"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// A call of another service continues the trace of its own transaction, alone and in a batch of
// calls of different transactions.
func TestTracesAcrossServices(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s, here, there := newShop(t, db), newProcess(t), newProcess(t)
		host, err := remote.NewHost(t.Context(), s.cards, remote.HostConfig{AllowUnsigned: true, Observers: []saga.Observer{there.observer}, Logger: slog.New(slog.DiscardHandler)})
		sagatest.Must(t, err)
		sagatest.Must(t, host.Register(saga.NewLocal(seat, encode, saga.Local{Work: s.run})))
		var batches atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "~calls") {
				batches.Add(1)
			}
			host.ServeHTTP(w, r)
		}))
		t.Cleanup(server.Close)
		service, err := remote.NewService(server.URL, remote.ServiceConfig{})
		sagatest.Must(t, err)
		engine := s.open(embedded.Config{}, here.observer)
		sagatest.Must(t, engine.Register(saga.NewRemote(seat, encode, service)))
		sagatest.Run(t, engine)

		var gids []string
		execute := func(n int) {
			var running sync.WaitGroup
			for range n {
				gid := sagatest.GID()
				gids = append(gids, gid)
				running.Go(func() {
					ctx, caller := here.begin("order")
					defer caller.End()
					if _, err := engine.Execute(ctx, plan(gid, seat)); err != nil {
						t.Error(err)
					}
				})
			}
			running.Wait()
		}
		execute(1)
		for batches.Load() == 0 { // whether calls share a request depends on the time
			execute(30)
		}
		for _, gid := range gids {
			for _, op := range []string{" try", " confirm"} {
				client, hosted := here.one(gid, seat+op), there.one(gid, seat+op)
				childOf(t, client, here.one(gid, "tccsaga execute").SpanContext)
				childOf(t, hosted, client.SpanContext)
				if client.SpanKind != trace.SpanKindClient || hosted.SpanKind != trace.SpanKindServer {
					t.Errorf("the kinds of the spans are %s and %s", client.SpanKind, hosted.SpanKind)
				}
			}
		}
	})
}

// If an HTTP handler has begun a span of the trace, the call is a child of that span.
func TestTraceInAnHTTPHandler(t *testing.T) {
	t.Parallel()
	there := newProcess(t)
	ctx, span := there.begin("POST /branches")
	defer span.End()
	text := "00-" + span.SpanContext().TraceID().String() + "-1111111111111111-01"
	if got := there.observer.Extract(ctx, text); got != ctx {
		t.Error("the span of the handler is not the parent")
	}
	other := "00-" + strings.Repeat("ab", 16) + "-1111111111111111-01"
	if got := trace.SpanContextFromContext(there.observer.Extract(ctx, other)); got.TraceID().String() != strings.Repeat("ab", 16) {
		t.Errorf("the call of another trace is in the trace %s", got.TraceID())
	}
	for _, bad := range []string{"", "x", strings.Repeat("a", 9999), "00-" + strings.Repeat("0", 32) + "-1111111111111111-01"} {
		if got := trace.SpanContextFromContext(there.observer.Extract(ctx, bad)); got.TraceID() != span.SpanContext().TraceID() {
			t.Errorf("the trace %.40q changes the trace to %s", bad, got.TraceID())
		}
	}
}
