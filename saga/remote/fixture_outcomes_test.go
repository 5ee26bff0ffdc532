package remote_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/participant"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// inDoubt is a theatre that asks, and an engine whose calls may not reach it.
type inDoubt struct {
	t       *testing.T
	engine  *embedded.Engine
	logDB   *gorm.DB
	theatre *theatre
	service *remote.Service  // the theatre, as the engine calls it
	asks    *httptest.Server // the Outcomes of the engine
	address atomic.Value     // of the theatre, as the engine knows it
	before  atomic.Pointer[func(w http.ResponseWriter, r *http.Request, next http.Handler)]
	told    atomic.Int64 // questions that were answered
}

// newInDoubt returns a theatre in hostDB and an engine with its log in logDB. Both ends of
// both ways have the same keys.
func newInDoubt(t *testing.T, logDB, hostDB *gorm.DB, keys ...remote.Key) *inDoubt {
	t.Helper()
	return newInDoubtWith(t, logDB, hostDB, remote.HostConfig{}, keys...)
}

func newInDoubtWith(t *testing.T, logDB, hostDB *gorm.DB, config remote.HostConfig, keys ...remote.Key) *inDoubt {
	t.Helper()
	d := &inDoubt{t: t, logDB: logDB}
	d.asks = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		outcomes, err := remote.NewOutcomes(d.engine, remote.OutcomesConfig{Name: "agency", Keys: keys, AllowUnsigned: len(keys) == 0, Logger: slog.New(slog.DiscardHandler)})
		sagatest.Must(t, err)
		if before := d.before.Load(); before != nil {
			(*before)(w, r, outcomes)
			return
		}
		outcomes.ServeHTTP(w, r)
		d.told.Add(1)
	}))
	t.Cleanup(d.asks.Close)
	config.Keys, config.Outcomes, config.AskAfter = keys, []participant.Outcomes{d.asked(keys...)}, time.Hour
	d.theatre = newTheatre(t, hostDB, config)
	d.open(keys...)
	return d
}

// asked returns the engine, as a host asks it.
func (d *inDoubt) asked(keys ...remote.Key) *remote.Engine {
	d.t.Helper()
	engine, err := remote.NewEngine(d.asks.URL+"/outcomes", remote.EngineConfig{Name: "agency", Keys: keys})
	sagatest.Must(d.t, err)
	return engine
}

// open opens an engine on the log, which reaches the theatre.
func (d *inDoubt) open(keys ...remote.Key) {
	d.t.Helper()
	d.reachable(true)
	d.engine = sagatest.Open(d.t, d.logDB, quick)
	service, err := remote.NewService("", remote.ServiceConfig{Name: "theatre", Keys: keys, Hosts: []string{d.theatre.server.Listener.Addr().String(), closedPort(d.t)},
		Resolve: func(context.Context) (string, error) { return "http://" + d.address.Load().(string) + "/branches", nil }})
	sagatest.Must(d.t, err)
	d.service = service
	sagatest.Must(d.t, tcc.RegisterRemote[seats](d.engine, service))
	sagatest.Must(d.t, tcc.RegisterRemote[card](d.engine, service))
	sagatest.Run(d.t, d.engine)
}

// reachable says whether calls of the engine reach the theatre. If not, they go to a port
// that nobody listens on.
func (d *inDoubt) reachable(is bool) {
	address := closedPort(d.t)
	if is {
		address = d.theatre.server.Listener.Addr().String()
	}
	d.address.Store(address)
}

// closedPort returns an address of this machine on which nobody listens: that of the protocol
// discard, which no machine of a test has.
func closedPort(t *testing.T) string {
	t.Helper()
	const address = "127.0.0.1:9"
	if connection, err := net.Dial("tcp", address); err == nil {
		connection.Close()
		t.Fatal("something listens on the port of discard")
	}
	return address
}

// tried returns an open transaction with a seat that is tried. From then on, the engine does
// not reach the theatre.
func (d *inDoubt) tried() *tcc.Transaction {
	d.t.Helper()
	tx, err := tcc.Begin(d.t.Context(), d.engine, sagatest.GID())
	sagatest.Must(d.t, err)
	sagatest.Must(d.t, tx.Try(d.t.Context(), seats{Row: 1, Number: 2}))
	d.reachable(false)
	d.theatre.holds(98, 2, 0)
	if got := inputsIn(d.t, d.theatre.db); got != 1 {
		d.t.Fatalf("%d branches are in doubt, want 1", got)
	}
	return tx
}

// ask lets a host ask for all that it has in doubt, as if the time had come.
func (d *inDoubt) ask(host *remote.Host) (ended int, err error) {
	d.t.Helper()
	makeDue(d.t, d.theatre.db)
	return host.AskOutcomes(d.t.Context())
}

// ends lets the theatre ask, and expects that it ends its branch.
func (d *inDoubt) ends(unused, held, used int) {
	d.t.Helper()
	if ended, err := d.ask(d.theatre.host); ended != 1 || err != nil {
		d.t.Errorf("ended %d, %v", ended, err)
	}
	d.theatre.holds(unused, held, used)
	if got := inputsIn(d.t, d.theatre.db); got != 0 {
		d.t.Errorf("%d inputs are left", got)
	}
}

// waits lets the theatre ask, and expects that the branch stays in doubt.
func (d *inDoubt) waits() error {
	d.t.Helper()
	ended, err := d.ask(d.theatre.host)
	if ended != 0 {
		d.t.Errorf("ended %d", ended)
	}
	d.theatre.holds(98, 2, 0)
	if got := inputsIn(d.t, d.theatre.db); got != 1 {
		d.t.Errorf("%d inputs are left, want 1", got)
	}
	return err
}

func makeDue(t *testing.T, db *gorm.DB) {
	t.Helper()
	sqltest.Exec(t, db, "UPDATE saga_inputs SET ask_at = tried_at")
}

func inputsIn(t *testing.T, db *gorm.DB) (n int) {
	t.Helper()
	sagatest.Must(t, db.Raw("SELECT COUNT(*) FROM saga_inputs").Scan(&n).Error)
	return n
}

// listenAt serves at an address that was in use before.
func listenAt(t *testing.T, address string, handler http.Handler) *httptest.Server {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	sagatest.Must(t, err)
	server := httptest.NewUnstartedServer(handler)
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// registerSeats registers the branch of the theatre with another host.
func registerSeats(host *remote.Host) error {
	return tcc.Register(host, &reserving[seats]{read: func(p seats) (int, int) { return p.Row, p.Number }})
}

var errOnPurpose = errors.New("on purpose")
