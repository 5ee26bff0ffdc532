package remote_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/remote"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// seats, meal and cab are payloads of branches that reserve things: seats in another
// service, meals in the engine's own database, cabs in a database next to it.
type (
	seats struct{ Row, Number int }
	meal  struct{ Number int }
	cab   struct{ Number int }
)

func (seats) Branch() string { return "seats.reserve" }
func (meal) Branch() string  { return "meal.reserve" }
func (cab) Branch() string   { return "cab.reserve" }

// reserving is the branch, in the table things.
type reserving[P tcc.Payload] struct {
	db   *gorm.DB // nil for the engine's own
	read func(P) (id, number int)
	fail func(op barrier.Op) error // nil for never
}

func (r *reserving[P]) Database() *gorm.DB { return r.db }

func (r *reserving[P]) Try(_ context.Context, tx *gorm.DB, in P) error {
	id, n := r.read(in)
	done := tx.Exec("UPDATE things SET unused = unused - ?, held = held + ? WHERE id = ? AND unused >= ?", n, n, id, n)
	if done.Error == nil && done.RowsAffected == 0 {
		return tcc.Reject(fmt.Errorf("row %d is short: FAILURE is ONGOING", id))
	}
	return r.after(barrier.Try, done.Error)
}

func (r *reserving[P]) Confirm(_ context.Context, tx *gorm.DB, in P) error {
	id, n := r.read(in)
	return r.after(barrier.Confirm, tx.Exec("UPDATE things SET held = held - ?, used = used + ? WHERE id = ?", n, n, id).Error)
}

func (r *reserving[P]) Cancel(_ context.Context, tx *gorm.DB, in P) error {
	id, n := r.read(in)
	return r.after(barrier.Cancel, tx.Exec("UPDATE things SET held = held - ?, unused = unused + ? WHERE id = ?", n, n, id).Error)
}

func (r *reserving[P]) after(op barrier.Op, err error) error {
	if err == nil && r.fail != nil {
		return r.fail(op)
	}
	return err
}

func newTable(t *testing.T, db *gorm.DB) *gorm.DB {
	t.Helper()
	sqltest.Exec(t, db, "CREATE TABLE things (id INT PRIMARY KEY, unused INT NOT NULL, held INT NOT NULL, used INT NOT NULL)")
	sqltest.Exec(t, db, "INSERT INTO things VALUES (0, 100, 0, 0), (1, 100, 0, 0)")
	return db
}

// theatre is a service that hosts seats, behind a network that can be disturbed.
type theatre struct {
	t      *testing.T
	db     *gorm.DB
	seats  *reserving[seats]
	host   *remote.Host
	server *httptest.Server

	mu      sync.Mutex
	disturb func(w http.ResponseWriter, r *http.Request, next http.Handler)
}

func newTheatre(t *testing.T, db *gorm.DB, config remote.HostConfig) *theatre {
	t.Helper()
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	config.Name, config.AllowUnsigned = "theatre", len(config.Keys) == 0
	host, err := remote.NewHost(t.Context(), newTable(t, db), config)
	sagatest.Must(t, err)
	th := &theatre{t: t, db: db, host: host, seats: &reserving[seats]{read: func(p seats) (int, int) { return p.Row, p.Number }}}
	sagatest.Must(t, tcc.Register(host, th.seats))
	mux := http.NewServeMux()
	mux.Handle("/branches/", host)
	th.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		th.mu.Lock()
		disturb := th.disturb
		th.mu.Unlock()
		if disturb != nil {
			disturb(w, r, mux)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	th.server.Start()
	t.Cleanup(th.server.Close)
	return th
}

func (th *theatre) disturbed(by func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	th.mu.Lock()
	defer th.mu.Unlock()
	th.disturb = by
}

func (th *theatre) url() string { return th.server.URL + "/branches" }

// holds checks what the theatre has of row 1.
func (th *theatre) holds(unused, held, used int) {
	th.t.Helper()
	books(th.t, th.db, unused, held, used)
}

func books(t *testing.T, db *gorm.DB, unused, held, used int) {
	t.Helper()
	var row struct{ Unused, Held, Used int }
	sagatest.Must(t, db.Raw("SELECT unused, held, used FROM things WHERE id = 1").Scan(&row).Error)
	if row.Unused != unused || row.Held != held || row.Used != used {
		t.Errorf("unused %d, held %d, used %d; want %d, %d, %d", row.Unused, row.Held, row.Used, unused, held, used)
	}
}

// quick has a short lease, so that another instance soon takes over.
var quick = embedded.Config{Lease: 400 * time.Millisecond, CallTimeout: 5 * time.Second, Retention: embedded.Forever}

// agency is a service that sells seats of the theatre with meals and cabs of its
// own.
type agency struct {
	t        *testing.T
	db, cabs *gorm.DB
	orch     *embedded.Engine
}

func newAgency(t *testing.T, service *remote.Service) *agency {
	t.Helper()
	a := &agency{t: t, db: newTable(t, sqltest.Open(t, "sqlite")), cabs: newTable(t, sqltest.Open(t, "sqlite"))}
	a.orch = sagatest.Open(t, a.db, quick)
	sagatest.Must(t, tcc.RegisterRemote[seats](a.orch, service))
	sagatest.Must(t, tcc.Register(a.orch, &reserving[meal]{read: func(p meal) (int, int) { return 1, p.Number }}))
	sagatest.Must(t, tcc.Register(a.orch, &reserving[cab]{db: a.cabs, read: func(p cab) (int, int) { return 1, p.Number }}))
	sagatest.Run(t, a.orch)
	return a
}

// newService returns the theatre at url.
func newService(t *testing.T, url string, config remote.ServiceConfig) *remote.Service {
	t.Helper()
	config.Name = "theatre"
	service, err := remote.NewService(url, config)
	sagatest.Must(t, err)
	return service
}

func (a *agency) reaches(gid string, state saga.State) *saga.Transaction {
	a.t.Helper()
	return sagatest.Reach(a.t, a.orch, gid, state)
}
