package remote_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

func TestMixedPlan(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		th := newTheatre(t, db, remote.HostConfig{Keys: keys("a")})
		a := newAgency(t, newService(t, th.url(), remote.ServiceConfig{Keys: keys("a")}))
		ctx := t.Context()

		gid := sagatest.GID()
		outcome, err := tcc.Execute(ctx, a.orch, gid, seats{Row: 1, Number: 2}, meal{2}, cab{2}, seats{Row: 1, Number: 1})
		if err != nil || outcome.State != saga.Confirmed {
			t.Fatalf("%+v, %v", outcome, err)
		}
		th.holds(97, 0, 3)
		books(t, a.db, 98, 0, 2)
		books(t, a.cabs, 98, 0, 2)
		found, err := a.orch.Lookup(ctx, gid)
		sagatest.Must(t, err)
		if len(found.Branches) != 4 || found.Branches[0].Barrier == nil || found.Branches[3].Barrier == nil || found.Branches[1].Barrier == nil || found.Branches[2].Barrier == nil {
			t.Errorf("branches %+v", found.Branches)
		}
		rows, err := th.host.Barrier(ctx, gid)
		sagatest.Must(t, err)
		if len(rows) != 2 || rows[0].State != barrier.StateConfirmed || rows[1].State != barrier.StateConfirmed {
			t.Errorf("barrier there: %+v", rows)
		}

		// The theatre says no, with a reason; the meal was not even tried.
		outcome, err = tcc.Execute(ctx, a.orch, sagatest.GID(), cab{1}, seats{Row: 1, Number: 1}, seats{Row: 1, Number: 98}, meal{1})
		var rejection *saga.Rejection
		if !errors.Is(err, saga.ErrCancelled) || !errors.As(err, &rejection) || !strings.Contains(outcome.Reason, "row 1 is short") {
			t.Errorf("%+v, %v", outcome, err)
		}
		// The agency says no, after the theatre has reserved.
		outcome, err = tcc.Execute(ctx, a.orch, sagatest.GID(), seats{Row: 1, Number: 1}, cab{1}, meal{99})
		if !errors.Is(err, saga.ErrCancelled) || outcome.State != saga.Cancelled {
			t.Errorf("%+v, %v", outcome, err)
		}
		th.holds(97, 0, 3)
		books(t, a.db, 98, 0, 2)
		books(t, a.cabs, 98, 0, 2)

		// Open transactions too.
		tx, err := tcc.Begin(ctx, a.orch, sagatest.GID())
		sagatest.Must(t, err)
		sagatest.Must(t, tx.Try(ctx, seats{Row: 1, Number: 5}))
		sagatest.Must(t, tx.Try(ctx, meal{5}))
		th.holds(92, 5, 3)
		if outcome, err := tx.Confirm(ctx); err != nil || outcome.State != saga.Confirmed {
			t.Errorf("%+v, %v", outcome, err)
		}
		tx, err = tcc.Begin(ctx, a.orch, sagatest.GID())
		sagatest.Must(t, err)
		sagatest.Must(t, tx.Try(ctx, seats{Row: 1, Number: 5}))
		if outcome, err := tx.Cancel(ctx, "no time"); err != nil || outcome.State != saga.Cancelled {
			t.Errorf("%+v, %v", outcome, err)
		}
		th.holds(92, 0, 8)
		books(t, a.db, 93, 0, 7)
	})
}

// Replies are lost: the call was made, and the connection ends.
func TestLostReplies(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		th := newTheatre(t, db, remote.HostConfig{})
		a := newAgency(t, newService(t, th.url(), remote.ServiceConfig{}))
		used := 0
		for _, c := range []struct {
			op        barrier.Op
			lost      int64 // replies of it, of one transaction
			confirmed bool
		}{
			{barrier.Try, 1, true}, {barrier.Try, 2, true}, {barrier.Try, 3, false},
			{barrier.Confirm, 1, true}, {barrier.Confirm, 5, true},
		} {
			var lost atomic.Int64
			th.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if barrier.Op(r.URL.Query().Get("op")) == c.op && lost.Add(1) <= c.lost {
					next.ServeHTTP(httptest.NewRecorder(), r)
					panic(http.ErrAbortHandler)
				}
				next.ServeHTTP(w, r)
			})
			gid := sagatest.GID()
			_, err := tcc.Execute(t.Context(), a.orch, gid, seats{Row: 1, Number: 1}, meal{1})
			if c.confirmed {
				used++
				if err != nil {
					t.Errorf("%s, %d lost: %v", c.op, c.lost, err)
				}
				a.reaches(gid, saga.Confirmed)
			} else {
				if !errors.Is(err, saga.ErrCancelled) {
					t.Errorf("%s, %d lost: %v", c.op, c.lost, err)
				}
				a.reaches(gid, saga.Cancelled)
			}
			th.holds(100-used, 0, used)
			books(t, a.db, 100-used, 0, used)
		}
	})
}

// A Try is held up on its way until its Cancel has come and gone.
func TestCancelOvertakesTry(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		th := newTheatre(t, db, remote.HostConfig{})
		cancelled, late := make(chan struct{}), make(chan int, 10)
		th.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			switch barrier.Op(r.URL.Query().Get("op")) {
			case barrier.Try:
				// The request that is held up does not end with its caller.
				kept := r.Clone(context.WithoutCancel(r.Context()))
				body := new(strings.Builder)
				buffer := make([]byte, 100)
				for n, err := kept.Body.Read(buffer); ; n, err = kept.Body.Read(buffer) {
					if body.Write(buffer[:n]); err != nil {
						break
					}
				}
				go func() {
					<-cancelled
					again, err := http.NewRequest(http.MethodPost, r.URL.String(), strings.NewReader(body.String()))
					if err != nil {
						panic(err)
					}
					again.RequestURI = r.RequestURI
					reply := httptest.NewRecorder()
					next.ServeHTTP(reply, again)
					late <- reply.Code
				}()
				<-r.Context().Done()
				panic(http.ErrAbortHandler)
			case barrier.Cancel:
				next.ServeHTTP(w, r)
				close(cancelled)
			}
		})
		a := newAgency(t, newService(t, th.url(), remote.ServiceConfig{Timeout: 300 * time.Millisecond}))
		gid := sagatest.GID()
		_, err := tcc.Execute(t.Context(), a.orch, gid, seats{Row: 1, Number: 1})
		if !errors.Is(err, saga.ErrCancelled) {
			t.Fatalf("%v", err)
		}
		for range 3 {
			if status := <-late; status != http.StatusConflict {
				t.Errorf("the late Try: %d", status)
			}
		}
		th.holds(100, 0, 0)
		rows, err := th.host.Barrier(t.Context(), gid)
		sagatest.Must(t, err)
		if len(rows) != 1 || rows[0].State != barrier.StateSuspended || rows[0].TurnedAway != 3 {
			t.Errorf("barrier %+v", rows)
		}
	})
}

// A service is down, and comes back.
func TestServiceDown(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{})
	a := newAgency(t, newService(t, th.url(), remote.ServiceConfig{}))
	tx, err := tcc.Begin(t.Context(), a.orch, sagatest.GID())
	sagatest.Must(t, err)
	sagatest.Must(t, tx.Try(t.Context(), seats{Row: 1, Number: 1}))

	th.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		http.Error(w, "no healthy upstream", http.StatusServiceUnavailable)
	})
	outcome, err := tx.Confirm(t.Context())
	if err != nil || outcome.State != saga.Confirming {
		t.Fatalf("%+v, %v", outcome, err)
	}
	_, err = tcc.Execute(t.Context(), a.orch, "down", seats{Row: 1, Number: 1}, meal{1})
	if !errors.Is(err, saga.ErrCancelled) {
		t.Errorf("%v", err)
	}
	th.disturbed(nil)
	a.reaches(tx.GID(), saga.Confirmed)
	a.reaches("down", saga.Cancelled)
	th.holds(99, 0, 1)
	books(t, a.db, 100, 0, 0)
}

// A contradiction at the other end is one here: a person has to look.
func TestConflictRaisesAttention(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{})
	a := newAgency(t, newService(t, th.url(), remote.ServiceConfig{}))
	tx, err := tcc.Begin(t.Context(), a.orch, sagatest.GID())
	sagatest.Must(t, err)
	sagatest.Must(t, tx.Try(t.Context(), seats{Row: 1, Number: 1}))
	sqltest.Exec(t, th.db, "UPDATE saga_barrier SET state = 'cancelled' WHERE gid = ?", tx.GID())
	if _, err := tx.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	sagatest.Eventually(t, "attention", func() bool {
		found, err := a.orch.Lookup(t.Context(), tx.GID())
		return err == nil && found.State == saga.Confirming && strings.Contains(found.Attention, "contradict")
	})
}

func TestOnlyRegisteredHostsAreCalled(t *testing.T) {
	t.Parallel()
	var strayed atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strayed.Add(1) }))
	t.Cleanup(elsewhere.Close)
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{})
	th.disturbed(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	call := saga.Call{GID: "g", BranchID: "01", Kind: "seats.reserve", Op: barrier.Try, Payload: []byte(two)}
	if err := newService(t, th.url(), remote.ServiceConfig{}).Call(t.Context(), call); err == nil || !strings.Contains(err.Error(), "redirect") {
		t.Errorf("a redirect: %v", err)
	}
	th.disturbed(nil)

	where := th.url()
	host := strings.TrimPrefix(th.server.URL, "http://")
	service := newService(t, "", remote.ServiceConfig{Hosts: []string{host}, Resolve: func(context.Context) (string, error) {
		if where == "" {
			return "", errors.New("the registry is down")
		}
		return where, nil
	}})
	sagatest.Must(t, service.Call(t.Context(), call))
	for address, says := range map[string]string{elsewhere.URL: "not among the Hosts", "": "the registry is down", "gopher://x": "http://"} {
		where = address
		if err := service.Call(t.Context(), call); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("the resolver says %q: %v", address, err)
		}
	}
	if n := strayed.Load(); n != 0 {
		t.Errorf("%d calls went elsewhere", n)
	}
	th.holds(98, 2, 0)
}

func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{})
	var dialled atomic.Int64
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled.Add(1)
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	a := newAgency(t, newService(t, th.url(), remote.ServiceConfig{Client: &http.Client{Transport: transport}}))
	for range 20 {
		if _, err := tcc.Execute(t.Context(), a.orch, sagatest.GID(), seats{Row: 1, Number: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if n := dialled.Load(); n != 1 {
		t.Errorf("%d connections for 40 calls, one after the other", n)
	}
}

// TLS in both directions is a matter of the user's server and client.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, sqltest.Open(t, "sqlite"), remote.HostConfig{})
	server := httptest.NewUnstartedServer(th.host)
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	server.StartTLS()
	t.Cleanup(server.Close)
	call := saga.Call{GID: "g", BranchID: "01", Kind: "seats.reserve", Op: barrier.Try, Payload: []byte(two)}
	without := server.Client()
	if err := newService(t, server.URL, remote.ServiceConfig{Client: without}).Call(t.Context(), call); err == nil {
		t.Error("a client without a certificate was let in")
	}
	with := &http.Client{Transport: without.Transport.(*http.Transport).Clone()}
	with.Transport.(*http.Transport).TLSClientConfig.Certificates = server.TLS.Certificates
	sagatest.Must(t, newService(t, server.URL, remote.ServiceConfig{Client: with}).Call(t.Context(), call))
	th.holds(98, 2, 0)
}
