package simulation

import (
	"database/sql"
	"database/sql/driver"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/tccsaga/tccsaga/saga/schema"
)

// database is a SQLite file that all processes share.
type database struct {
	name   string
	driver driver.Driver
	dsn    string
	direct *sql.DB       // of the test itself: past the gate, without faults
	offset time.Duration // of its clock

	replica    *replica
	replicated bool // reads outside of local transactions go to the replica

	io sync.Mutex // held while SQLite is called

	mu     sync.Mutex
	schema map[string]*answered // by statement: the check of the schema, which never changes, takes long
	writer *conn                // the one that is in a local transaction; SQLite allows one
}

// free says whether no connection is in a local transaction.
func (d *database) free() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writer == nil
}

// known returns the rows of a statement about the schema; nil if it is new.
func (d *database) known(statement string) *answered {
	d.mu.Lock()
	defer d.mu.Unlock()
	if rows := d.schema[statement]; rows != nil {
		return &answered{rows.columns, rows.rows}
	}
	return nil
}

// keep keeps the rows of a statement about the schema.
func (d *database) keep(statement string, rows *answered) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.schema[statement] = &answered{rows.columns, rows.rows}
}

// pass hands the write lock from one connection to another; nil is none.
func (d *database) pass(from, to *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.writer == from {
		d.writer = to
	}
}

func openDatabase(t *testing.T, name string) *database {
	t.Helper()
	// The gate lets one connection write at a time, so SQLite needs no locks of its own.
	file := filepath.Join(t.TempDir(), name+".db")
	dsn := "file:" + file + "?nolock=1&_txlock=immediate&_pragma=journal_mode(MEMORY)&_pragma=synchronous(OFF)"
	direct, err := sql.Open(sqlite.DriverName, dsn)
	must(t, err)
	direct.SetMaxOpenConns(1)
	t.Cleanup(func() { direct.Close() })
	db, err := gorm.Open(&sqlite.Dialector{Conn: direct}, &gorm.Config{Logger: logger.Discard})
	must(t, err)
	must(t, schema.Migrate(t.Context(), db))
	for _, statement := range []string{
		`CREATE TABLE effects (number INTEGER PRIMARY KEY AUTOINCREMENT, gid TEXT, branch TEXT, op TEXT)`,
		`CREATE TABLE remarks (n INTEGER)`,
		`CREATE TABLE own (gid TEXT PRIMARY KEY)`,
		`CREATE TABLE transitions (number INTEGER PRIMARY KEY AUTOINCREMENT, gid TEXT, state TEXT, epoch INTEGER, old_state TEXT, old_epoch INTEGER)`,
		`CREATE TRIGGER begun AFTER INSERT ON saga_transactions BEGIN
			INSERT INTO transitions (gid, state, epoch, old_state, old_epoch) VALUES (new.gid, new.state, new.epoch, '', 0); END`,
		`CREATE TRIGGER moved AFTER UPDATE ON saga_transactions WHEN new.state <> old.state OR new.epoch <> old.epoch BEGIN
			INSERT INTO transitions (gid, state, epoch, old_state, old_epoch) VALUES (new.gid, new.state, new.epoch, old.state, old.epoch); END`,
	} {
		_, err := direct.Exec(statement)
		must(t, err)
	}
	return &database{name: name, driver: direct.Driver(), dsn: dsn, direct: direct, schema: map[string]*answered{}, replica: newReplica(t, direct.Driver(), file)}
}

// empty brings the database back to what it was when it was opened.
func (d *database) empty(t *testing.T) {
	t.Helper()
	d.pass(d.writer, nil)
	for _, table := range []string{"saga_transactions", "saga_branches", "saga_attempts", "saga_instances", "saga_kinds", "saga_acts", "saga_results", "saga_inputs", "saga_labels",
		"saga_barrier", "effects", "own", "transitions", "sqlite_sequence"} {
		_, err := d.direct.Exec("DELETE FROM " + table)
		must(t, err)
	}
	_, err := d.direct.Exec("UPDATE saga_cleaning SET after_gid = '', next_at = '2000-01-01 00:00:00.000'")
	must(t, err)
	d.replicated = false
	d.replicate()
}

// now is the time of the database's clock, as an SQL literal.
func (d *database) now() string {
	return time.Now().Add(d.offset).UTC().Format("'2006-01-02 15:04:05.000'")
}

// query reads past the gate.
func (d *database) query(text string, each func(*sql.Rows) error) {
	rows, err := d.direct.Query(text)
	if err != nil {
		panic(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			panic(err)
		}
	}
	if err := rows.Err(); err != nil {
		panic(err)
	}
}
