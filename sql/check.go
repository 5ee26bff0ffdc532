package sql

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"
)

// ErrNotMigrated is wrapped by [Check] when tables are missing or a migration
// was broken off; [Migrate] mends it.
var ErrNotMigrated = errors.New("the schema is not installed completely: run sql.Migrate, or the statements of sql.Script")

// ErrNewer is wrapped by [Check] and [Migrate] when the database holds a newer
// schema than this version of the library knows: upgrade the library.
var ErrNewer = errors.New("the schema is newer than this version of tccsaga: upgrade the library")

// Check says whether the database db holds the complete schema of this
// version: it returns nil, or an error that says what is missing and what to
// do. It changes nothing.
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
		if err := checkTable(ctx, db, t); err != nil {
			return err
		}
	}
	return nil
}

// installed reads which version the database holds; 0 is none.
func installed(ctx context.Context, db *gorm.DB) (version int, complete bool, err error) {
	pool := db.Statement.ConnPool
	if _, err := pool.ExecContext(ctx, "SELECT 1"); err != nil {
		return 0, false, fmt.Errorf("the database cannot be reached: check that it runs and that the DSN is right: %w", err)
	}
	if !db.WithContext(ctx).Migrator().HasTable("saga_schema") {
		return 0, false, nil
	}
	row := pool.QueryRowContext(ctx, "SELECT COALESCE(MAX(version), 0), COALESCE(MIN(complete), 0) FROM saga_schema")
	var done int
	if err := row.Scan(&version, &done); err != nil {
		return 0, false, fmt.Errorf("reading the schema version: %w", err)
	}
	return version, done == 1, nil
}

func checkTable(ctx context.Context, db *gorm.DB, t table) error {
	if !db.WithContext(ctx).Migrator().HasTable(t.name) {
		return fmt.Errorf("table %s is missing: %w", t.name, ErrNotMigrated)
	}
	// Naming the columns, rather than asking for all, also keeps PostgreSQL
	// drivers from answering out of a prepared statement's old description.
	query := "SELECT " + strings.Join(t.columns, ", ") + " FROM " + t.name + " WHERE 1 = 0"
	rows, err := db.Statement.ConnPool.QueryContext(ctx, query)
	if err != nil {
		return fmt.Errorf("table %s is not as this version needs it (%v): %w", t.name, err, ErrNotMigrated)
	}
	defer rows.Close()
	return rows.Err()
}
