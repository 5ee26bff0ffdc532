package sqltest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/glebarez/sqlite"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/saga/schema"
)

// Replica is a copy of a database that lags behind. A pool of [OpenReplicated] sends it
// every SELECT that is not in a transaction and locks nothing. A proxy that splits reads
// from writes does the same.
type Replica struct {
	// Primary is the database itself, for tests that look at what is committed.
	Primary *gorm.DB

	copy  *gorm.DB
	name  string // of the database, in statements of the copy; empty if it has none
	reads atomic.Int64
}

// Reads returns how many statements the replica has answered.
func (r *Replica) Reads() int64 { return r.reads.Load() }

// tables are the tables of a replica.
var tables = []string{"saga_transactions", "saga_branches", "saga_attempts", "saga_acts", "saga_instances", "saga_kinds", "saga_cleaning", "saga_barrier", "saga_schema"}

// CatchUp copies the present rows of the database to the replica.
func (r *Replica) CatchUp(t testing.TB) {
	t.Helper()
	for _, table := range tables {
		if err := r.copy.Transaction(func(tx *gorm.DB) error {
			if err := tx.Exec("DELETE FROM " + table).Error; err != nil {
				return err
			}
			return r.fill(tx, table)
		}); err != nil {
			t.Fatalf("the replica's %s: %v", table, err)
		}
	}
}

func (r *Replica) fill(tx *gorm.DB, table string) error {
	if r.name != "" {
		return tx.Exec("INSERT INTO " + table + " SELECT * FROM " + r.name + "." + table).Error
	}
	var rows []map[string]any
	if err := r.Primary.Table(table).Find(&rows).Error; err != nil || len(rows) == 0 {
		return err
	}
	return tx.Table(table).Create(rows).Error
}

// OpenReplicated returns a migrated database of the dialect with a replica. Until CatchUp,
// the replica is empty as after the migration.
func OpenReplicated(t testing.TB, dialect string, config *gorm.Config) (*gorm.DB, *Replica) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	primary, behind := Create(t, dialect), Create(t, dialect)
	r := &Replica{Primary: Connect(t, primary, &gorm.Config{}), copy: Connect(t, behind, &gorm.Config{})}
	must(schema.Migrate(t.Context(), r.Primary))
	must(schema.Migrate(t.Context(), r.copy))
	switch dialect {
	case "mysql":
		r.name = r.Primary.Migrator().CurrentDatabase()
	case "sqlite":
		r.name = "original"
		file, _, _ := strings.Cut(primary.DSN, "?")
		pool, err := r.copy.DB()
		must(err)
		pool.SetMaxOpenConns(1) // ATTACH holds for one connection
		must(r.copy.Exec("ATTACH DATABASE ? AS original", file).Error)
	}
	r.CatchUp(t)
	names := map[string]string{"sqlite": sqlite.DriverName, "mysql": "mysql", "postgres": "pgx"}
	plain, err := sql.Open(names[dialect], primary.DSN)
	must(err)
	pool := sql.OpenDB(splittingConnector{plain.Driver(), primary.DSN, behind.DSN, r})
	must(plain.Close())
	t.Cleanup(func() { pool.Close() })
	pool.SetMaxOpenConns(16)
	pool.SetMaxIdleConns(16)
	config.Logger = logger.Discard
	var dialector gorm.Dialector = &sqlite.Dialector{Conn: pool}
	switch dialect {
	case "mysql":
		dialector = mysql.New(mysql.Config{Conn: pool})
	case "postgres":
		dialector = postgres.New(postgres.Config{Conn: pool})
	}
	db, err := gorm.Open(dialector, config)
	must(err)
	return db, r
}

type splittingConnector struct {
	driver          driver.Driver
	primary, behind string
	replica         *Replica
}

func (c splittingConnector) Driver() driver.Driver { return c.driver }

func (c splittingConnector) Connect(context.Context) (driver.Conn, error) {
	primary, err := c.driver.Open(c.primary)
	if err != nil {
		return nil, err
	}
	behind, err := c.driver.Open(c.behind)
	if err != nil {
		primary.Close()
		return nil, err
	}
	return &splittingConn{full: primary.(full), behind: behind.(full), replica: c.replica}, nil
}

// splittingConn is a connection that database/sql uses from one goroutine at a time.
type splittingConn struct {
	full
	behind  full
	replica *Replica
	inTx    bool
}

// choose returns the connection for a query.
func (c *splittingConn) choose(query string) full {
	words := strings.ToLower(strings.TrimSpace(query))
	if c.inTx || !strings.HasPrefix(words, "select") || strings.Contains(words, "for update") || strings.Contains(words, "version()") {
		return c.full
	}
	c.replica.reads.Add(1)
	return c.behind
}

func (c *splittingConn) Close() error {
	c.behind.Close()
	return c.full.Close()
}

func (c *splittingConn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	tx, err := c.full.BeginTx(ctx, options)
	c.inTx = err == nil
	return &splittingTx{tx, c}, err
}

func (c *splittingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.choose(query).QueryContext(ctx, query, args)
}

func (c *splittingConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	return c.choose(query).PrepareContext(ctx, query)
}

func (c *splittingConn) CheckNamedValue(value *driver.NamedValue) error {
	if checker, can := c.full.(driver.NamedValueChecker); can {
		return checker.CheckNamedValue(value)
	}
	return driver.ErrSkip
}

func (c *splittingConn) IsValid() bool {
	validator, can := c.full.(driver.Validator)
	return !can || validator.IsValid()
}

func (c *splittingConn) ResetSession(ctx context.Context) error {
	if resetter, can := c.full.(driver.SessionResetter); can {
		return resetter.ResetSession(ctx)
	}
	return nil
}

type splittingTx struct {
	driver.Tx
	conn *splittingConn
}

func (t *splittingTx) Commit() error {
	t.conn.inTx = false
	return t.Tx.Commit()
}

func (t *splittingTx) Rollback() error {
	t.conn.inTx = false
	return t.Tx.Rollback()
}
