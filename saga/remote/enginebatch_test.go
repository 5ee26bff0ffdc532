package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// hang and panicking are payloads of branches of the theatre that do what their names say.
type (
	hang      struct{}
	panicking struct{}
)

func (hang) Branch() string      { return "hangs" }
func (panicking) Branch() string { return "panics" }

// wireTap records the batches that a theatre gets.
type wireTap struct {
	mu      sync.Mutex
	headers []http.Header
	bodies  [][]byte
	path    string
}

func (th *theatre) tapped() *wireTap {
	tap := &wireTap{}
	th.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if strings.HasSuffix(r.URL.Path, "/"+wire.Calls) {
			tap.mu.Lock()
			tap.headers, tap.bodies, tap.path = append(tap.headers, r.Header.Clone()), append(tap.bodies, body), r.URL.RequestURI()
			tap.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
	return tap
}

// largest returns how many calls the largest batch has.
func (tap *wireTap) largest(t *testing.T) (most int) {
	t.Helper()
	tap.mu.Lock()
	defer tap.mu.Unlock()
	for _, body := range tap.bodies {
		calls, err := wire.DecodeBatch(body)
		sagatest.Must(t, err)
		most = max(most, len(calls))
	}
	return most
}

// resend sends the n-th batch again, with a changed body.
func (tap *wireTap) resend(t *testing.T, th *theatre, n int, change func(body string) string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, th.server.URL+tap.path, strings.NewReader(change(string(tap.bodies[n]))))
	sagatest.Must(t, err)
	for name, values := range tap.headers[n] {
		if strings.HasPrefix(name, "Tccsaga-") {
			r.Header[name] = values
		}
	}
	return send(t, r)
}

// engineOf returns an engine with its log in a database like that of the theatre.
func engineOf(t *testing.T, th *theatre, service *remote.Service) *embedded.Engine {
	t.Helper()
	engine := sagatest.Open(t, sqltest.Open(t, th.db.Name()), embedded.Config{CallTimeout: time.Minute, Timeout: time.Minute, Retention: embedded.Forever})
	sagatest.Must(t, errors.Join(tcc.RegisterRemote[seats](engine, service), tcc.RegisterRemote[hang](engine, service), tcc.RegisterRemote[panicking](engine, service)))
	sagatest.Run(t, engine)
	return engine
}

// Of 100 transactions whose Trys travel as one request, one sleeps, one panics and one is
// rejected. The others are confirmed while the first one sleeps, and each has its own outcome.
func TestABatchOfTransactions(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		th := newTheatre(t, db, remote.HostConfig{Keys: keys("a"), CallTimeout: time.Minute})
		service := newService(t, th.url(), remote.ServiceConfig{Keys: keys("a"), Timeout: time.Minute})
		awake := make(chan struct{})
		sleep := func(ctx context.Context, c saga.Call) (any, error) {
			if c.Op == barrier.Try {
				<-awake
			}
			return nil, ctx.Err()
		}
		sleeping := saga.NewLocal("hangs", nothingEncodes, saga.Local{Work: func(ctx context.Context, _ *gorm.DB, c saga.Call) error {
			_, err := sleep(ctx, c)
			return err
		}})
		if db.Name() == "sqlite" { // its local transactions wait for each other
			sleeping = saga.NewExternal("hangs", nothingEncodes, saga.External{Try: sleep, Confirm: sleep, Cancel: sleep})
		}
		sagatest.Must(t, th.host.Register(sleeping))
		sagatest.Must(t, th.host.Register(saga.NewLocal("panics", nothingEncodes, saga.Local{Work: func(_ context.Context, _ *gorm.DB, c saga.Call) error {
			if c.Op == barrier.Try {
				panic("on purpose")
			}
			return nil
		}})))
		engine, tap := engineOf(t, th, service), th.tapped()
		const n, sleeps, panics, rejects = 100, 10, 20, 30
		payloads := map[int]tcc.Payload{sleeps: hang{}, panics: panicking{}, rejects: seats{Row: 1, Number: 1000}}
		service.Gather(n)
		type outcome struct {
			i   int
			err error
		}
		told := make(chan outcome, n)
		for i := range n {
			payload := payloads[i]
			if payload == nil {
				payload = seats{Row: 1, Number: 1}
			}
			go func() {
				_, err := tcc.Execute(t.Context(), engine, sagatest.GID(), payload)
				told <- outcome{i, err}
			}()
		}
		for range n - 1 {
			one := <-told
			switch wanted := one.i == panics || one.i == rejects; {
			case one.i == sleeps:
				t.Error("the transaction that sleeps is told an outcome")
			case wanted && (!errors.Is(one.err, saga.ErrCancelled) || isRejection(one.err) != (one.i == rejects)):
				t.Errorf("transaction %d: %v", one.i, one.err)
			case !wanted && one.err != nil:
				t.Errorf("transaction %d: %v", one.i, one.err)
			}
		}
		th.holds(3, 0, 97)
		close(awake)
		if one := <-told; one.i != sleeps || one.err != nil {
			t.Errorf("transaction %d: %v", one.i, one.err)
		}
		if got := tap.largest(t); got != n {
			t.Errorf("the largest batch has %d calls, want %d", got, n)
		}
	})
}

// The batches of transactions that have ended are recorded, and sent again from the last one to
// the first, in part, in another order and changed. They have no effect, although there is room
// for what was rejected.
func TestRecordedBatchesOfAnEngine(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		th := newTheatre(t, db, remote.HostConfig{Keys: keys("a")})
		service := newService(t, th.url(), remote.ServiceConfig{Keys: keys("a")})
		engine, tap := engineOf(t, th, service), th.tapped()
		const n = 20
		service.Gather(n)
		gids := make([]string, n)
		var all sync.WaitGroup
		for i := range n {
			gids[i] = sagatest.GID()
			payload := seats{Row: 1, Number: 1}
			if i%4 == 0 {
				payload.Number = 1000
			}
			all.Go(func() { _, _ = tcc.Execute(t.Context(), engine, gids[i], payload) })
		}
		all.Wait()
		for i, gid := range gids {
			state := saga.Confirmed
			if i%4 == 0 {
				state = saga.Cancelled
			}
			sagatest.Reach(t, engine, gid, state)
		}
		th.disturbed(nil)
		th.holds(85, 0, 15)
		sqltest.Exec(t, th.db, "UPDATE things SET unused = unused + 100000")
		if got := tap.largest(t); got != n {
			t.Errorf("the largest batch has %d calls, want %d", got, n)
		}
		same := func(body string) string { return body }
		for i := range tap.bodies {
			last := len(tap.bodies) - 1 - i
			if status, body := tap.resend(t, th, last, same); status != http.StatusOK || strings.Contains(body, ` 500 `) {
				t.Errorf("batch %d again: %d %s", last, status, body)
			}
			for name, change := range changes(t, string(tap.bodies[last])) {
				if status, body := tap.resend(t, th, last, change); status != http.StatusUnauthorized {
					t.Errorf("batch %d, %s: %d %s", last, name, status, body)
				}
			}
		}
		th.holds(100085, 0, 15)
	})
}

// changes are changes of the body of a batch.
func changes(t *testing.T, body string) map[string]func(string) string {
	t.Helper()
	calls, err := wire.DecodeBatch([]byte(body))
	sagatest.Must(t, err)
	encoded := func(calls []saga.Call) func(string) string {
		return func(string) string {
			text, err := wire.EncodeBatch(calls)
			sagatest.Must(t, err)
			return string(text)
		}
	}
	reversed, changed := slices.Clone(calls), slices.Clone(calls)
	slices.Reverse(reversed)
	changed[0].Payload = []byte(`{"Row":1,"Number":7}`)
	undone := slices.Clone(calls)
	undone[0].Op = barrier.Cancel
	if calls[0].Op == barrier.Cancel {
		undone[0].Op = barrier.Confirm
	}
	return map[string]func(string) string{
		"in part":               encoded(calls[:len(calls)-1]),
		"in another order":      encoded(reversed),
		"with another payload":  encoded(changed),
		"with another call":     encoded(undone),
		"with one call twice":   encoded(append(slices.Clone(calls), calls[0])),
		"without its last byte": func(body string) string { return body[:len(body)-1] },
		"with a further one":    func(body string) string { return fmt.Sprint(body, " ") },
	}
}
