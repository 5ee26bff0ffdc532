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

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/dtm"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

func TestExecute(t *testing.T) {
	t.Parallel()
	b := newBench(t, dtm.Config{})
	ctx := t.Context()
	for range 2 { // the second time it does nothing new
		outcome, err := tcc.Execute(ctx, b.engine, "yes", phones(2), ring{1})
		if err != nil || outcome.State != saga.Confirmed {
			t.Fatalf("%+v, %v", outcome, err)
		}
		b.holds(0, 2, 1, 1, 0)
	}
	found, err := b.engine.Lookup(ctx, "yes")
	sagatest.Must(t, err)
	if found.State != saga.Confirmed || len(found.Branches) != 2 || found.Branches[0].Kind != "stock.lock" || found.Branches[1].Kind != "bell.ring" ||
		string(found.Branches[1].Payload) != `{"Times":1}` || found.FinishedAt.IsZero() || found.Pattern != "tcc" {
		t.Errorf("%+v", found)
	}
	if _, err := tcc.Execute(ctx, b.engine, "yes", phones(3), ring{1}); !errors.Is(err, saga.ErrMismatch) {
		t.Errorf("another plan: %v", err)
	}
	if err := b.engine.Begin(ctx, saga.Opening{GID: "yes", Pattern: "tcc"}); !errors.Is(err, saga.ErrMismatch) {
		t.Errorf("opening it: %v", err)
	}

	var rejection *saga.Rejection
	outcome, err := tcc.Execute(ctx, b.engine, "no", ring{1}, phones(99))
	if !errors.Is(err, saga.ErrCancelled) || !errors.As(err, &rejection) || outcome.State != saga.Cancelled || !strings.Contains(outcome.Reason, "phone") {
		t.Errorf("%+v, %v", outcome, err)
	}
	b.holds(0, 2, 2, 1, 1)
	again, err := tcc.Execute(ctx, b.engine, "no", ring{1}, phones(99))
	if !errors.Is(err, saga.ErrCancelled) || again != outcome {
		t.Errorf("%+v, %v; want the same again", again, err)
	}
	b.holds(0, 2, 2, 1, 1)

	outcome, err = tcc.ExecuteWith(ctx, b.engine, "soon", saga.Options{ReturnDecided: true}, phones(1))
	if err != nil || outcome.State != saga.Confirming {
		t.Errorf("%+v, %v", outcome, err)
	}
	b.reaches("soon", saga.Confirmed)
	b.holds(0, 3, 2, 1, 1)
}

func TestOpenTransactions(t *testing.T) {
	t.Parallel()
	b := newBench(t, dtm.Config{})
	ctx := t.Context()
	begin := func(gid string) *tcc.Transaction {
		tx, err := tcc.Begin(ctx, b.engine, gid, saga.Options{})
		sagatest.Must(t, err)
		return tx
	}
	for range 2 { // a request that is repeated runs again
		tx := begin("a")
		sagatest.Must(t, tx.Try(ctx, phones(2)))
		sagatest.Must(t, tx.Try(ctx, ring{1}))
		b.holds(2, 0, 1, 0, 0)
	}
	other, err := tcc.Resume(ctx, b.engine, "a")
	sagatest.Must(t, err)
	sagatest.Must(t, other.Try(ctx, phones(1)))
	if _, err := b.engine.Confirm(ctx, "a", saga.Options{}); err != nil {
		t.Error(err)
	}
	outcome, err := other.Confirm(ctx)
	if err != nil || outcome.State != saga.Confirmed {
		t.Errorf("%+v, %v", outcome, err)
	}
	b.holds(0, 3, 1, 1, 0)
	if err := other.Try(ctx, ring{1}); !errors.Is(err, saga.ErrNotOpen) {
		t.Errorf("after the decision: %v", err)
	}
	if outcome, err := other.Cancel(ctx, ""); !errors.Is(err, saga.ErrConfirmed) || outcome.State != saga.Confirmed {
		t.Errorf("%+v, %v", outcome, err)
	}

	tx := begin("b")
	sagatest.Must(t, tx.Try(ctx, phones(2)))
	if err := begin("b").Try(ctx, phones(3)); !errors.Is(err, saga.ErrMismatch) {
		t.Errorf("another payload: %v", err)
	}
	for range 2 {
		outcome, err := tx.Cancel(ctx, "changed "+long(2000))
		if err != nil || outcome.State != saga.Cancelled || !strings.HasPrefix(outcome.Reason, "changed x") {
			t.Errorf("%+v, %v", outcome, err)
		}
	}
	if _, err := tx.Confirm(ctx); !errors.Is(err, saga.ErrCancelled) {
		t.Errorf("confirming what is cancelled: %v", err)
	}
	b.holds(0, 3, 1, 1, 0)

	// Nobody decides: the server does, at the deadline.
	tx, err = tcc.Begin(ctx, b.engine, "c", saga.Options{Timeout: time.Second})
	sagatest.Must(t, err)
	if err := tx.Try(ctx, phones(4)); err != nil && !errors.Is(err, saga.ErrNotOpen) {
		t.Error(err)
	}
	b.reaches("c", saga.Cancelled)
	if _, err := tx.Confirm(ctx); !errors.Is(err, saga.ErrCancelled) && !strings.Contains(err.Error(), "a Try has failed") {
		t.Errorf("after the deadline: %v", err)
	}
	b.holds(0, 3, 1, 1, 0)

	for what, err := range map[string]error{
		"confirm": second(b.engine.Confirm(ctx, "nobody", saga.Options{})),
		"cancel":  second(b.engine.Cancel(ctx, "nobody", "")),
		"lookup":  second(b.engine.Lookup(ctx, "nobody")),
		"resume":  second(tcc.Resume(ctx, b.engine, "nobody")),
		"try":     b.engine.Try(ctx, "nobody", "01", saga.Step{Kind: "bell.ring", Input: ring{1}}),
	} {
		if !errors.Is(err, saga.ErrNotFound) {
			t.Errorf("%s of a gid that nobody knows: %v", what, err)
		}
	}
	if _, err := b.engine.Lookup(ctx, "nobody"); !errors.Is(err, saga.ErrNotFound) {
		t.Errorf("asking has made one: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestLimits(t *testing.T) {
	t.Parallel()
	b := newBench(t, dtm.Config{})
	ctx := t.Context()
	execute := func(gid string, options saga.Options, payloads ...tcc.Payload) error {
		return second(tcc.ExecuteWith(ctx, b.engine, gid, options, payloads...))
	}
	many := make([]tcc.Payload, 100)
	for i := range many {
		many[i] = ring{1}
	}
	for name, c := range map[string]struct {
		err  error
		says string
	}{
		"half a second":     {execute("a", saga.Options{Timeout: 1500 * time.Millisecond}, ring{1}), "whole seconds"},
		"negative":          {execute("a", saga.Options{Timeout: -time.Second}, ring{1}), "whole seconds"},
		"100 branches":      {execute("a", saga.Options{}, many...), "100 branches"},
		"no branches":       {execute("a", saga.Options{}), "0 branches"},
		"64 KB":             {execute("a", saga.Options{}, stock.Lock{Items: []stock.Item{{SKU: long(1 << 16), Quantity: 1}}}), "65535"},
		"semicolon":         {execute("a;b", saga.Options{}, ring{1}), "semicolon"},
		"space":             {execute("a b", saga.Options{}, ring{1}), "printable ASCII"},
		"no gid":            {execute("", saga.Options{}, ring{1}), "empty"},
		"unknown kind":      {execute("a", saga.Options{}, unknown{}), "not registered"},
		"open, half":        {b.engine.Begin(ctx, saga.Opening{GID: "a", Pattern: "tcc", Options: saga.Options{Timeout: 1}}), "whole seconds"},
		"another pattern":   {b.engine.Begin(ctx, saga.Opening{GID: "a", Pattern: "saga"}), "only tcc"},
		"branch id":         {b.engine.Try(ctx, "a", "one", saga.Step{Kind: "bell.ring", Input: ring{1}}), "two digits"},
		"kind twice":        {tcc.Register(b.engine, &bell{}), "already"},
		"external, no host": {hostless(t, b).Register(saga.NewLocal("x", func(any) ([]byte, error) { return nil, nil }, saga.Local{})), "Config.Host"},
		"signed service":    {tcc.RegisterRemote[unknown](b.engine, signed(t)), "cannot sign"},
		"other remote":      {tcc.RegisterRemote[unknown](b.engine, nowhere{}), "where"},
	} {
		if !errors.Is(c.err, saga.ErrInvalid) || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, c.err, c.says)
		}
	}
	if _, err := b.engine.Lookup(ctx, "a"); !errors.Is(err, saga.ErrNotFound) {
		t.Errorf("something was written: %v", err)
	}
	b.holds(0, 0, 0, 0, 0)
	// What is just allowed works.
	gid, most := long(128), make([]tcc.Payload, 99)
	for i := range most {
		most[i] = ring{1}
	}
	if err := execute(gid, saga.Options{Timeout: 20 * time.Second}, most...); err != nil {
		t.Error(err)
	}
	b.holds(0, 0, 99, 99, 0)
}

type unknown struct{}

func (unknown) Branch() string { return "unknown" }

type nowhere struct{}

func (nowhere) Call(context.Context, saga.Call) error { return nil }

func hostless(t *testing.T, b *bench) *dtm.Engine {
	t.Helper()
	engine, err := dtm.Open(t.Context(), b.server.URL, dtm.Config{})
	sagatest.Must(t, err)
	return engine
}

func newKeys(t *testing.T) []remote.Key {
	t.Helper()
	key, err := remote.NewKey("a", []byte("some 32 bytes that nobody guesses"))
	sagatest.Must(t, err)
	return []remote.Key{key}
}

func signed(t *testing.T) *remote.Service {
	t.Helper()
	service, err := remote.NewService("http://localhost/branches", remote.ServiceConfig{Name: "stock", Keys: newKeys(t)})
	sagatest.Must(t, err)
	return service
}

func TestBadConfigurations(t *testing.T) {
	t.Parallel()
	host, _ := newHost(t, sqltest.Open(t, "sqlite"))
	locked, err := remote.NewHost(t.Context(), sqltest.Open(t, "sqlite"), remote.HostConfig{Name: "stock", Keys: newKeys(t)})
	sagatest.Must(t, err)
	for name, c := range map[string]struct {
		url    string
		config dtm.Config
	}{
		"no URL":           {"", dtm.Config{}},
		"no scheme":        {"localhost:36789", dtm.Config{}},
		"half seconds":     {"http://localhost:1", dtm.Config{Timeout: time.Second / 2}},
		"host without URL": {"http://localhost:1", dtm.Config{Host: host}},
		"signed host":      {"http://localhost:1", dtm.Config{Host: locked, HostURL: "http://localhost:2"}},
	} {
		if _, err := dtm.Open(t.Context(), c.url, c.config); !errors.Is(err, saga.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := dtm.Open(t.Context(), "http://127.0.0.1:1/api/dtmsvr", dtm.Config{}); err == nil || !strings.Contains(err.Error(), "is the DTM server running") {
		t.Errorf("nobody there: %v", err)
	}
}

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

// A decision that comes after the deadline is to cancel, also if the server has not
// looked at its clock yet.
func TestConfirmAfterTheDeadline(t *testing.T) {
	t.Parallel()
	b := newBench(t, dtm.Config{})
	tx, err := tcc.Begin(t.Context(), b.engine, "late", saga.Options{Timeout: 2 * time.Second})
	sagatest.Must(t, err)
	sagatest.Must(t, tx.Try(t.Context(), phones(1)))
	found, err := b.engine.Lookup(t.Context(), "late")
	sagatest.Must(t, err)
	b.server.Kill()
	sagatest.Eventually(t, "the deadline passes", func() bool { return time.Now().After(found.DeadlineAt) })
	b.server.Restart()
	if outcome, err := tx.Confirm(t.Context()); !errors.Is(err, saga.ErrCancelled) {
		t.Errorf("%+v, %v", outcome, err)
	}
	b.reaches("late", saga.Cancelled)
	b.holds(0, 0, 0, 0, 0)
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

// Many callers with the same gid, and many with their own.
func TestManyCallers(t *testing.T) {
	t.Parallel()
	b := newBench(t, dtm.Config{})
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			if outcome, err := tcc.Execute(t.Context(), b.engine, "same", phones(1), ring{1}); err != nil {
				t.Errorf("same: %+v, %v", outcome, err)
			}
		})
		callers.Go(func() {
			if outcome, err := tcc.Execute(t.Context(), b.engine, fmt.Sprintf("own-%d", i), phones(1), ring{1}); err != nil {
				t.Errorf("own: %+v, %v", outcome, err)
			}
		})
	}
	callers.Wait()
	b.reaches("same", saga.Confirmed)
	for i := range 8 {
		b.reaches(fmt.Sprintf("own-%d", i), saga.Confirmed)
	}
	b.holds(0, 9, 9, 9, 0)
}
