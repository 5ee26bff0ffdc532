package schema

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"
)

// ErrNotMigrated is wrapped by the error of [Check] if tables are missing or a migration
// was broken off. [Migrate] completes it.
var ErrNotMigrated = errors.New("the schema is not installed completely: run schema.Migrate, or the statements of schema.Script")

// ErrNewer is wrapped by the errors of [Check] and [Migrate] if the schema in the database
// is newer than this version of the library.
var ErrNewer = errors.New("the schema is newer than this version of tccsaga: upgrade the library")

// Check returns nil if the database db has the complete schema of this version: its tables,
// columns, primary keys, check constraints and indexes. Otherwise the error says what is
// missing and what to do; for a constraint that was dropped by hand, it has the statement
// that adds it. Check changes nothing. It compares the names and columns of constraints and
// indexes, not their conditions.
func Check(ctx context.Context, db *gorm.DB) error {
	dialect, err := dialectOf(db)
	if err != nil {
		return err
	}
	version, complete, err := installed(ctx, db)
	if err != nil {
		return err
	}
	switch {
	case version > Version:
		return fmt.Errorf("schema version %d found, %d known: %w", version, Version, ErrNewer)
	case version < Version:
		return fmt.Errorf("schema version %d found, %d needed: %w", version, Version, ErrNotMigrated)
	case !complete:
		return fmt.Errorf("a migration to schema version %d was broken off: %w", version, ErrNotMigrated)
	}
	declared, err := tables(dialect)
	if err != nil {
		return err
	}
	for _, t := range declared {
		if err = checkTable(ctx, db, t); err != nil {
			return err
		}
	}
	return nil
}

// installed reads the version of the schema in the database; 0 is none.
func installed(ctx context.Context, db *gorm.DB) (version int, complete bool, err error) {
	if err = reach(ctx, db); err != nil {
		return 0, false, err
	}
	found, err := hasTable(ctx, db, "saga_schema")
	if err != nil || !found {
		return 0, false, err
	}
	var done int
	err = one(ctx, db.Statement.ConnPool, "SELECT COALESCE(MAX(version), 0), COALESCE(MIN(complete), 0) FROM saga_schema", &version, &done)
	if err != nil {
		return 0, false, fmt.Errorf("read the schema version: %w", err)
	}
	return version, done == 1, nil
}

func reach(ctx context.Context, db *gorm.DB) error {
	if _, err := db.Statement.ConnPool.ExecContext(ctx, "SELECT 1"); err != nil {
		return fmt.Errorf("the database cannot be reached: check that it runs and that the DSN is right: %w", err)
	}
	if db.Dialector.Name() != "mysql" {
		return nil
	}
	var name sql.NullString
	var autocommit int
	if err := one(ctx, db.Statement.ConnPool, "SELECT DATABASE(), @@autocommit", &name, &autocommit); err != nil {
		return fmt.Errorf("the database cannot be reached: check that it runs and that the DSN is right: %w", err)
	}
	switch {
	case !name.Valid:
		return errors.New("the DSN names no database: add /DATABASE before the parameters")
	case autocommit == 0:
		return errors.New("the connections have autocommit=0, which is not supported: remove it from the DSN or from the server's init_connect")
	}
	return nil
}

func checkTable(ctx context.Context, db *gorm.DB, t table) error {
	found, err := hasTable(ctx, db, t.name)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("table %s is missing: %w", t.name, ErrNotMigrated)
	}
	if hasColumns(ctx, db, t) == nil {
		return checkConstraints(ctx, db, t)
	}
	// The connection may have been lost: the table is wrong only if it fails again while the
	// database can be reached.
	if err := reach(ctx, db); err != nil {
		return err
	}
	if err := hasColumns(ctx, db, t); err != nil {
		return fmt.Errorf("table %s is not as this version needs it (%v): %w", t.name, err, ErrNotMigrated)
	}
	return nil
}

func hasTable(ctx context.Context, db *gorm.DB, name string) (bool, error) {
	var query string
	switch db.Dialector.Name() {
	case "mysql":
		query = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = '" + name + "'"
	case "postgres":
		query = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = CURRENT_SCHEMA() AND table_name = '" + name + "'"
	default:
		query = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = '" + name + "'"
	}
	var n int
	if err := one(ctx, db.Statement.ConnPool, query, &n); err != nil {
		return false, fmt.Errorf("look for the table %s: %w", name, err)
	}
	return n > 0, nil
}

func hasColumns(ctx context.Context, db *gorm.DB, t table) error {
	// The columns are named, because for * a PostgreSQL driver may answer from the old
	// description of a prepared statement.
	query := "SELECT " + strings.Join(t.columns, ", ") + " FROM " + t.name + " WHERE 1 = 0"
	rows, err := db.Statement.ConnPool.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	return rows.Err()
}

// one reads the only row of a query. QueryRowContext of gorm's prepared statements would
// panic when the connection is lost.
func one(ctx context.Context, pool gorm.ConnPool, query string, values ...any) error {
	rows, err := pool.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	if !rows.Next() {
		return cmp.Or(rows.Err(), sql.ErrNoRows)
	}
	if err := rows.Scan(values...); err != nil {
		return err
	}
	return rows.Close()
}
