package xa_test

import (
	"context"
	"net/url"
	"os"
	"strings"
	"testing"

	mysqldriver "github.com/go-sql-driver/mysql"
	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/saga/xa"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// add adds to a number.
type add struct{ ID, N int }

func (add) Branch() string { return "number.add" }

// adder is the branch of add.
type adder struct {
	before, after func(ctx context.Context, tx *gorm.DB, in add) error
}

func (a adder) Work(ctx context.Context, tx *gorm.DB, in add) error {
	if a.before != nil {
		if err := a.before(ctx, tx, in); err != nil {
			return err
		}
	}
	if err := tx.Exec("UPDATE numbers SET n = n + ? WHERE id = ?", in.N, in.ID).Error; err != nil {
		return err
	}
	if a.after != nil {
		return a.after(ctx, tx, in)
	}
	return nil
}

// servers are the dialects of the servers that can prepare transactions.
var servers = []string{"mysql", "postgres"}

// each runs a test on each of them.
func each(t *testing.T, test func(t *testing.T, db *gorm.DB)) {
	t.Helper()
	for _, dialect := range servers {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			test(t, numbers(t, sqltest.Open(t, dialect)))
		})
	}
}

// addressOf returns the address of the database of a test.
func addressOf(t testing.TB, db *gorm.DB) sqltest.Database {
	t.Helper()
	name := db.Migrator().CurrentDatabase()
	if db.Name() == "mysql" {
		config, err := mysqldriver.ParseDSN(os.Getenv("TCCSAGA_TEST_MYSQL"))
		sagatest.Must(t, err)
		config.DBName = name
		return sqltest.Database{Dialect: "mysql", DSN: config.FormatDSN()}
	}
	location, err := url.Parse(os.Getenv("TCCSAGA_TEST_POSTGRES"))
	sagatest.Must(t, err)
	location.Path = "/" + name
	return sqltest.Database{Dialect: "postgres", DSN: location.String()}
}

// numbers makes the table of add. At the end it rolls back what a test has left prepared, which
// would keep the database from being dropped.
func numbers(t testing.TB, db *gorm.DB) *gorm.DB {
	t.Helper()
	sqltest.Exec(t, db, "CREATE TABLE numbers (id INT PRIMARY KEY, n INT NOT NULL)")
	sqltest.Exec(t, db, "INSERT INTO numbers VALUES (1, 0), (2, 0), (3, 0)")
	begin := beginOf(t, db)
	t.Cleanup(func() {
		for _, p := range recovered(t, db) {
			if strings.HasPrefix(p.GID, begin) {
				t.Logf("rolling %s back: %v", p.XID, db.Exec(xa.RollbackStatement(db, p)).Error)
			}
		}
	})
	return db
}

// recovered is like XA RECOVER. It also works when the test has ended.
func recovered(t testing.TB, db *gorm.DB) []xa.Prepared {
	t.Helper()
	all, err := xa.Recovered(context.WithoutCancel(t.Context()), db)
	sagatest.Must(t, err)
	return all
}

// prepared returns the prepared branches of a transaction.
func prepared(t testing.TB, db *gorm.DB, gid string) (found []xa.Prepared) {
	t.Helper()
	for _, p := range recovered(t, db) {
		if p.GID == gid {
			found = append(found, p)
		}
	}
	return found
}

// beginOf is how the gids of the test of a database begin.
func beginOf(t testing.TB, db *gorm.DB) string {
	t.Helper()
	return strings.TrimPrefix(db.Migrator().CurrentDatabase(), "tccsaga_")[:12]
}

// gidOf returns a new gid of the test of a database.
func gidOf(t testing.TB, db *gorm.DB) string {
	t.Helper()
	return beginOf(t, db) + "-" + uuid.NewString()
}

func open(t testing.TB, db *gorm.DB) *xa.Database {
	t.Helper()
	d, err := xa.Open(t.Context(), db)
	sagatest.Must(t, err)
	t.Cleanup(d.Close)
	return d
}

// number reads a number, with a connection of its own.
func number(t testing.TB, db *gorm.DB, id int) (n int) {
	t.Helper()
	sagatest.Must(t, db.Raw("SELECT n FROM numbers WHERE id = ?", id).Scan(&n).Error)
	return n
}

// engine returns an engine with the branch, which runs.
func engine(t testing.TB, log *gorm.DB, db *xa.Database, b xa.Branch[add]) *embedded.Engine {
	t.Helper()
	e := sagatest.Open(t, log, embedded.Config{})
	sagatest.Must(t, xa.Register(e, db, b))
	sagatest.Run(t, e)
	return e
}

// state returns the state of the barrier row of a branch; empty if there is none.
func state(t testing.TB, db *gorm.DB, gid string) barrier.State {
	t.Helper()
	rows, err := barrier.Look(t.Context(), db, gid)
	sagatest.Must(t, err)
	if len(rows) == 0 {
		return ""
	}
	return rows[0].State
}

// caller makes calls of a branch, without an engine.
type caller struct {
	t       testing.TB
	gid     string
	in      add
	log     string
	encode  saga.Encoder
	service saga.Remote
}

// Register makes caller a [saga.Registrar].
func (c *caller) Register(b saga.Branch) error {
	c.encode, c.service = b.Encoder(), b.Shape().(saga.Remote)
	return nil
}

func newCaller(t testing.TB, db *xa.Database, b xa.Branch[add], gid string) *caller {
	t.Helper()
	c := &caller{t: t, gid: gid, in: add{1, 5}, log: "log"}
	sagatest.Must(t, xa.Register(c, db, b))
	return c
}

func (c *caller) call(ctx context.Context, op barrier.Op) error {
	payload, err := c.encode(c.in)
	sagatest.Must(c.t, err)
	return c.service.Call(ctx, saga.Call{GID: c.gid, BranchID: "01", Kind: "number.add", Op: op, Caller: c.log, Attempt: 1, Payload: payload})
}

func (c *caller) must(op barrier.Op) {
	c.t.Helper()
	if err := c.call(c.t.Context(), op); err != nil {
		c.t.Fatalf("%s: %v", op, err)
	}
}
