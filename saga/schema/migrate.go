package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"
	"gorm.io/gorm"
)

// Migrate creates the tables in the database db, or upgrades them. It can run
// any number of times, also from several processes at once: a lock in the
// database lets one work and the others wait, until ctx ends.
//
// MySQL, MariaDB and PostgreSQL commit each statement of a migration on its
// own. If one is broken off half-way, [Check] says so, and Migrate run again
// completes it.
func Migrate(ctx context.Context, db *gorm.DB) error {
	dialect, err := dialectOf(db)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	err = Check(ctx, db)
	if err == nil || errors.Is(err, ErrNewer) {
		return err
	}
	err = db.WithContext(ctx).Connection(func(db *gorm.DB) error {
		conn := db.Statement.ConnPool
		return locked(ctx, conn, dialect, func() (err error) {
			// Another process may have done it while this one waited.
			if err = Check(ctx, db); err == nil || errors.Is(err, ErrNewer) {
				return err
			}
			if err = bringUp(ctx, db, dialect); err != nil {
				return err
			}
			return Check(ctx, db)
		})
	})
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// bringUp runs the upgrades that the database lacks, and then the whole schema,
// which adds the tables that are missing.
func bringUp(ctx context.Context, db *gorm.DB, dialect string) error {
	version, complete, err := installed(ctx, db)
	if err != nil {
		return err
	}
	if version > 1 && !complete {
		version-- // the upgrade to it may have been broken off
	}
	if version > 0 {
		if err = upgrade(ctx, db, dialect, version); err != nil {
			return err
		}
	}
	statements, err := Statements(dialect)
	if err != nil {
		return err
	}
	return run(ctx, db, statements)
}

func upgrade(ctx context.Context, db *gorm.DB, dialect string, version int) error {
	script, err := Upgrade(dialect, version)
	if err != nil {
		return err
	}
	return run(ctx, db, split(script))
}

func run(ctx context.Context, db *gorm.DB, statements []string) error {
	for _, statement := range statements {
		if _, err := db.Statement.ConnPool.ExecContext(ctx, statement); err != nil && !isThere(err) {
			return fmt.Errorf("%w, in the statement:\n%s", err, statement)
		}
	}
	return nil
}

// isThere says whether err is of a column that was added before, by an upgrade
// that was broken off: MySQL's 1060, and SQLite's words. A table gets its columns
// in one statement on MySQL, and all at once on SQLite.
func isThere(err error) bool {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number == 1060
	}
	return strings.Contains(err.Error(), "duplicate column name")
}

// advisoryLock names the lock that lets one migration run at a time. The
// number is for PostgreSQL, whose advisory locks have no names.
const (
	advisoryLock       = "tccsaga_migrate"
	advisoryLockNumber = 7_229_017_431
)

// locked runs work on conn while no other process migrates.
func locked(ctx context.Context, conn gorm.ConnPool, dialect string, work func() error) error {
	// Whatever happened to ctx, the connection goes back to the pool clean.
	after := context.WithoutCancel(ctx)
	switch dialect {
	case "mysql":
		if err := lockMySQL(ctx, conn); err != nil {
			return err
		}
		defer func() { _, _ = conn.ExecContext(after, "DO RELEASE_LOCK('"+advisoryLock+"')") }()
		return work()
	case "postgres":
		if _, err := conn.ExecContext(ctx, fmt.Sprintf("SELECT pg_advisory_lock(%d)", advisoryLockNumber)); err != nil {
			return fmt.Errorf("waiting for another migration: %w", err)
		}
		defer func() {
			_, _ = conn.ExecContext(after, fmt.Sprintf("SELECT pg_advisory_unlock(%d)", advisoryLockNumber))
		}()
		return work()
	default:
		// SQLite's write lock is the lock; wait for it as long as ctx allows,
		// whatever busy timeout the DSN has set.
		var before int
		if err := one(ctx, conn, "PRAGMA busy_timeout", &before); err != nil {
			return err
		}
		if _, err := conn.ExecContext(ctx, "PRAGMA busy_timeout = 30000"); err != nil {
			return err
		}
		defer func() { _, _ = conn.ExecContext(after, fmt.Sprintf("PRAGMA busy_timeout = %d", before)) }()
		return immediately(ctx, conn, work)
	}
}

func lockMySQL(ctx context.Context, conn gorm.ConnPool) error {
	for {
		var got sql.NullInt64
		// In steps of a second, so that the end of ctx is seen between them.
		if err := one(ctx, conn, "SELECT GET_LOCK('"+advisoryLock+"', 1)", &got); err != nil {
			return fmt.Errorf("waiting for another migration: %w", err)
		}
		if got.Int64 == 1 {
			return nil
		}
	}
}

func immediately(ctx context.Context, conn gorm.ConnPool, work func() error) error {
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("waiting for another migration: %w", err)
	}
	after := context.WithoutCancel(ctx)
	if err := work(); err != nil {
		_, _ = conn.ExecContext(after, "ROLLBACK")
		return err
	}
	_, err := conn.ExecContext(after, "COMMIT")
	return err
}
