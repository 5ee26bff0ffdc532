package dtm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/dtm"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/tcc"
)

// The replies of the DTM server are lost.
func TestLostRepliesOfTheServer(t *testing.T) {
	t.Parallel()
	b := newBench(t, dtm.Config{})
	sold, rung := int64(0), 0
	for _, operation := range []string{"prepare", "query", "registerBranch", "submit"} {
		for _, times := range []int64{1, 2} {
			b.toServer.disturbed(loses(operation, 1, times))
			gid := fmt.Sprintf("%s-%d", operation, times)
			outcome, err := tcc.Execute(t.Context(), b.engine, gid, phones(1), ring{1})
			if err != nil || outcome.State != saga.Confirmed {
				t.Errorf("%s, lost %d times: %+v, %v", operation, times, outcome, err)
			}
			sold, rung = sold+1, rung+1
		}
	}
	b.holds(0, sold, rung, rung, 0)
	for _, times := range []int64{1, 2} {
		b.toServer.disturbed(loses("abort", 1, times))
		outcome, err := tcc.Execute(t.Context(), b.engine, fmt.Sprintf("abort-%d", times), phones(1), phones(100))
		if !errors.Is(err, saga.ErrCancelled) || outcome.State != saga.Cancelled {
			t.Errorf("abort, lost %d times: %+v, %v", times, outcome, err)
		}
	}
	b.holds(0, sold, rung, rung, 0)

	// No answer at all to the decision, nor to what became of it: then nobody
	// knows, until somebody asks again.
	b.toServer.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/submit") {
			b.toServer.disturbed(func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) })
			next.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
	})
	if _, err := tcc.Execute(t.Context(), b.engine, "unknown", phones(1), ring{1}); !errors.Is(err, saga.ErrUnknown) {
		t.Errorf("no answer: %v", err)
	}
	b.toServer.disturbed(nil)
	if outcome, err := tcc.Execute(t.Context(), b.engine, "unknown", phones(1), ring{1}); err != nil || outcome.State != saga.Confirmed {
		t.Errorf("asked again: %+v, %v", outcome, err)
	}
	b.holds(0, sold+1, rung+1, rung+1, 0)
}

// Every call of a branch comes twice, or its reply is lost.
func TestDisturbedCallsOfBranches(t *testing.T) {
	t.Parallel()
	b := newBench(t, dtm.Config{})
	twice := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		again := r.Clone(r.Context())
		text := new(strings.Builder)
		copyBody(text, r)
		r.Body, again.Body = body(text.String()), body(text.String())
		next.ServeHTTP(httptest.NewRecorder(), again)
		next.ServeHTTP(w, r)
	}
	b.toStock.disturbed(twice)
	b.toUs.disturbed(twice)
	if _, err := tcc.Execute(t.Context(), b.engine, "twice", phones(1), ring{1}); err != nil {
		t.Error(err)
	}
	if _, err := tcc.Execute(t.Context(), b.engine, "twice, no", phones(1), ring{1}, phones(100)); err == nil || !errors.Is(err, saga.ErrInvalid) {
		t.Errorf("a gid with a space: %v", err)
	}
	if _, err := tcc.Execute(t.Context(), b.engine, "twice-no", phones(1), ring{1}, phones(100)); !errors.Is(err, saga.ErrCancelled) {
		t.Error(err)
	}
	b.holds(0, 1, 2, 1, 1)

	b.toUs.disturbed(nil)
	b.toStock.disturbed(loses("stock.lock", 2, 1)) // the Confirm's
	if outcome, err := tcc.Execute(t.Context(), b.engine, "lost", phones(1), ring{1}); err != nil {
		t.Errorf("%+v, %v", outcome, err)
	}
	b.reaches("lost", saga.Confirmed)
	b.holds(0, 2, 3, 2, 1)
}

// A Try is held up on its way until its Cancel has come and gone.
func TestCancelOvertakesTry(t *testing.T) {
	t.Parallel()
	b := newBench(t, dtm.Config{})
	cancelled, late := make(chan struct{}), make(chan int, 10)
	var once sync.Once
	b.toStock.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		switch barrier.Op(r.URL.Query().Get("op")) {
		case barrier.Try:
			text := new(strings.Builder)
			copyBody(text, r)
			kept := r.Clone(context.WithoutCancel(r.Context()))
			kept.Body = body(text.String())
			go func() {
				<-cancelled
				reply := httptest.NewRecorder()
				next.ServeHTTP(reply, kept)
				late <- reply.Code
			}()
			panic(http.ErrAbortHandler)
		case barrier.Cancel:
			next.ServeHTTP(w, r)
			once.Do(func() { close(cancelled) })
		}
	})
	if _, err := tcc.Execute(t.Context(), b.engine, "late", phones(1)); !errors.Is(err, saga.ErrCancelled) {
		t.Error(err)
	}
	for range 3 {
		if status := <-late; status != http.StatusConflict {
			t.Errorf("the late Try: %d", status)
		}
	}
	b.holds(0, 0, 0, 0, 0)
	rows, err := b.hosts[0].Barrier(t.Context(), "late")
	sagatest.Must(t, err)
	if len(rows) != 1 || rows[0].State != barrier.StateSuspended {
		t.Errorf("barrier %+v", rows)
	}
}

// The DTM server is killed, and started again, before and after the decision.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	b := newBench(t, dtm.Config{})
	b.bell.fail = func(op barrier.Op) error {
		if op == barrier.Try {
			b.server.Kill()
		}
		return nil
	}
	_, err := tcc.Execute(t.Context(), b.engine, "before", phones(1), ring{1})
	if !errors.Is(err, saga.ErrUnknown) {
		t.Fatalf("the server is dead: %v", err)
	}
	b.holds(1, 0, 1, 0, 0)
	b.bell.fail = nil
	b.server.Restart()
	if outcome, err := tcc.Execute(t.Context(), b.engine, "before", phones(1), ring{1}); err != nil || outcome.State != saga.Confirmed {
		t.Errorf("asked again: %+v, %v", outcome, err)
	}
	b.holds(0, 1, 1, 1, 0)

	// After the decision, in the midst of the Confirms.
	var once sync.Once
	b.bell.fail = func(op barrier.Op) error {
		if op == barrier.Confirm {
			once.Do(b.server.Kill)
		}
		return nil
	}
	outcome, err := tcc.Execute(t.Context(), b.engine, "after", phones(1), ring{1})
	if !errors.Is(err, saga.ErrUnknown) {
		t.Errorf("the server is dead: %+v, %v", outcome, err)
	}
	b.server.Restart()
	b.reaches("after", saga.Confirmed)
	b.holds(0, 2, 2, 2, 0)
}

// A server that says nothing does not keep the caller.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	b := newBench(t, dtm.Config{RequestTimeout: 60 * time.Second})
	b.toServer.disturbed(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		copyBody(io.Discard, r) // or the server does not notice that the caller goes
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := tcc.Execute(ctx, b.engine, "a", phones(1)); !errors.Is(err, saga.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("execute: %v", err)
	}
	if _, err := b.engine.Confirm(ctx, "a", saga.Options{}); !errors.Is(err, saga.ErrUnknown) {
		t.Errorf("confirm: %v", err)
	}
	if _, err := b.engine.Cancel(ctx, "a", ""); !errors.Is(err, saga.ErrUnknown) {
		t.Errorf("cancel: %v", err)
	}
	if _, err := b.engine.Lookup(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("lookup: %v", err)
	}
}
