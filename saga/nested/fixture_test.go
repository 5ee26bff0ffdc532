package nested_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/nested"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// Payloads. A room and a meal are reserved in the hotel's database. A stay is a nested
// transaction with both. A tour is a nested transaction with a stay and a meal. A ticket is a
// branch beside a stay, in the database of its parent.
type (
	room   struct{ N int }
	meal   struct{ N int }
	ticket struct{ N int }
	stay   struct{ Rooms, Meals int }
	tour   struct{ N int }
)

func (room) Branch() string   { return "room" }
func (meal) Branch() string   { return "meal" }
func (ticket) Branch() string { return "ticket" }
func (stay) Branch() string   { return "stay" }
func (tour) Branch() string   { return "tour" }

// things is the table of the branches. Each kind has a row with 10 things.
const things = "CREATE TABLE things (kind VARCHAR(16) PRIMARY KEY, free INT NOT NULL, held INT NOT NULL, used INT NOT NULL)"

// reserving is a branch that reserves things.
type reserving[P tcc.Payload] struct {
	read func(P) int

	mu   sync.Mutex
	hook func(ctx context.Context, op barrier.Op) error // nil for none
}

// on calls hook in each call of the branch, before its work.
func (r *reserving[P]) on(hook func(ctx context.Context, op barrier.Op) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hook = hook
}

func (r *reserving[P]) move(ctx context.Context, tx *gorm.DB, op barrier.Op, from, to string, in P) error {
	r.mu.Lock()
	hook := r.hook
	r.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, op); err != nil {
			return err
		}
	}
	n := r.read(in)
	moved := tx.Exec(fmt.Sprintf("UPDATE things SET %[1]s = %[1]s - ?, %[2]s = %[2]s + ? WHERE kind = ? AND %[1]s >= ?", from, to), n, n, in.Branch(), n)
	if moved.Error == nil && moved.RowsAffected == 0 {
		return tcc.RejectCode(in.Branch()+".short", fmt.Errorf("%s: %d are not %s", in.Branch(), n, from))
	}
	return moved.Error
}

func (r *reserving[P]) Try(ctx context.Context, tx *gorm.DB, in P) error {
	return r.move(ctx, tx, barrier.Try, "free", "held", in)
}

func (r *reserving[P]) Confirm(ctx context.Context, tx *gorm.DB, in P) error {
	return r.move(ctx, tx, barrier.Confirm, "held", "used", in)
}

func (r *reserving[P]) Cancel(ctx context.Context, tx *gorm.DB, in P) error {
	return r.move(ctx, tx, barrier.Cancel, "held", "free", in)
}

// site is an engine with all kinds of branches, in one database.
type site struct {
	t       *testing.T
	db      *gorm.DB
	engine  *embedded.Engine
	rooms   *reserving[room]
	meals   *reserving[meal]
	tickets *reserving[ticket]
}

// quick has a short lease, so that another instance soon takes over.
var quick = embedded.Config{Lease: 400 * time.Millisecond, CallTimeout: 5 * time.Second, Retention: embedded.Forever}

func newSite(t *testing.T, db *gorm.DB, config embedded.Config) *site {
	t.Helper()
	fill(t, db)
	return openSite(t, db, config)
}

// fill creates the table of things, with 10 of each kind.
func fill(t *testing.T, db *gorm.DB) {
	t.Helper()
	sqltest.Exec(t, db, things)
	for _, kind := range []string{"room", "meal", "ticket"} {
		sqltest.Exec(t, db, "INSERT INTO things VALUES (?, 10, 0, 0)", kind)
	}
}

// openSite opens one more engine on a database with things.
func openSite(t *testing.T, db *gorm.DB, config embedded.Config) *site {
	t.Helper()
	s := &site{
		t: t, db: db, engine: sagatest.Open(t, db, config),
		rooms:   &reserving[room]{read: func(in room) int { return in.N }},
		meals:   &reserving[meal]{read: func(in meal) int { return in.N }},
		tickets: &reserving[ticket]{read: func(in ticket) int { return in.N }},
	}
	sagatest.Must(t, tcc.Register(s.engine, s.rooms))
	sagatest.Must(t, tcc.Register(s.engine, s.meals))
	sagatest.Must(t, tcc.Register(s.engine, s.tickets))
	sagatest.Run(t, s.engine)
	return s
}

// nests registers the nested kinds of branches, whose transactions this site has.
func (s *site) nests(engine saga.Registrar) *site {
	s.t.Helper()
	sagatest.Must(s.t, nested.Register(engine, nested.Branch[stay]{Child: s.engine, Plan: planStay}))
	sagatest.Must(s.t, nested.Register(engine, nested.Branch[tour]{Child: s.engine, Plan: planTour}))
	return s
}

var errNoRooms = errors.New("a stay needs a room")

func planStay(_ context.Context, in stay) ([]tcc.Payload, error) {
	if in.Rooms == 0 {
		return nil, tcc.RejectCode("stay.empty", errNoRooms)
	}
	return []tcc.Payload{room{in.Rooms}, meal{in.Meals}}, nil
}

func planTour(_ context.Context, in tour) ([]tcc.Payload, error) {
	return []tcc.Payload{stay{in.N, in.N}, meal(in)}, nil
}

// has checks the things of a kind.
func (s *site) has(kind string, free, held, used int) {
	s.t.Helper()
	var row struct{ Free, Held, Used int }
	sagatest.Must(s.t, s.db.Raw("SELECT free, held, used FROM things WHERE kind = ?", kind).Scan(&row).Error)
	if row.Free != free || row.Held != held || row.Used != used {
		s.t.Errorf("%s: free %d, held %d, used %d; want %d, %d, %d", kind, row.Free, row.Held, row.Used, free, held, used)
	}
}

// reaches waits until a transaction is in the state.
func (s *site) reaches(gid string, state saga.State) *saga.Transaction {
	s.t.Helper()
	return sagatest.Reach(s.t, s.engine, gid, state)
}

// look returns a transaction.
func (s *site) look(gid string) *saga.Transaction {
	s.t.Helper()
	found, err := s.engine.Lookup(s.t.Context(), gid)
	sagatest.Must(s.t, err)
	return found
}

// caught is the shape of a branch, as it was registered.
type caught struct{ saga.Branch }

func (c *caught) Register(b saga.Branch) error { c.Branch = b; return nil }

// stays returns the calls of the nested branch "stay", as an engine makes them.
func (s *site) stays() func(op barrier.Op, caller, gid string) error {
	s.t.Helper()
	var c caught
	sagatest.Must(s.t, nested.Register(&c, nested.Branch[stay]{Child: s.engine, Plan: planStay, Timeout: time.Hour}))
	return func(op barrier.Op, caller, gid string) error {
		call := saga.Call{GID: gid, BranchID: "01", Kind: "stay", Op: op, Caller: caller, Payload: []byte(`{"Rooms":2,"Meals":3}`)}
		return c.Shape().(saga.Remote).Call(s.t.Context(), call)
	}
}

// want compares an error with the one that it has to match; nil for none.
func want(t *testing.T, what string, got, match error) {
	t.Helper()
	if !errors.Is(got, match) || match == nil && got != nil {
		t.Errorf("%s: %v, want %v", what, got, match)
	}
}

// each runs a test with a site on every database, whose nested transactions are in the same
// engine.
func each(t *testing.T, config embedded.Config, test func(t *testing.T, s *site)) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		s := newSite(t, db, config)
		test(t, s.nests(s.engine))
	})
}
