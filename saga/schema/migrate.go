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

// Migrate creates the tables in the database db, or upgrades them. It may run any number of
// times, also in several processes at once: a lock in the database lets one work, and the
// others wait until ctx ends.
//
// On MySQL, MariaDB and PostgreSQL each statement of a migration commits alone. If a
// migration is broken off, [Check] returns an error, and another Migrate completes it.
func Migrate(ctx context.Context, db *gorm.DB) error {
	if err := migrate(ctx, db); err != nil {
		return fmt.Errorf("schema: migrate: %w", err)
	}
	return nil
}

func migrate(ctx context.Context, db *gorm.DB) error {
	dialect, err := dialectOf(db)
	if err != nil {
		return err
	}
	err = Check(ctx, db)
	if err == nil || errors.Is(err, ErrNewer) {
		return err
	}
	return db.WithContext(ctx).Connection(func(db *gorm.DB) error {
		conn := db.Statement.ConnPool
		return locked(ctx, conn, dialect, func() error {
			// Another process may have migrated while this one waited.
			if err := Check(ctx, db); err == nil || errors.Is(err, ErrNewer) {
				return err
			}
			if err := bringUp(ctx, db, dialect); err != nil {
				return err
			}
			return Check(ctx, db)
		})
	})
}

// bringUp runs the upgrades that the database lacks, and then the whole schema, which adds
// missing tables.
func bringUp(ctx context.Context, db *gorm.DB, dialect string) error {
	version, complete, err := installed(ctx, db)
	if err != nil {
		return err
	}
	if version > 1 && !complete {
		version-- // the upgrade to it may have broken off
	}
	if version > 0 {
		text, upgradeErr := upgrade(dialect, version)
		if upgradeErr != nil {
			return upgradeErr
		}
		if upgradeErr = run(ctx, db, split(text)); upgradeErr != nil {
			return upgradeErr
		}
	}
	text, err := script(dialect)
	if err != nil {
		return err
	}
	return run(ctx, db, split(text))
}

func run(ctx context.Context, db *gorm.DB, statements []string) error {
	for _, statement := range statements {
		if _, err := db.Statement.ConnPool.ExecContext(ctx, statement); err != nil && !isThere(err) {
			return fmt.Errorf("%w, in the statement:\n%s", err, statement)
		}
	}
	return nil
}

// isThere reports whether err says that a column or an index exists, because an earlier upgrade
// broke off: MySQL's 1060 and 1061, and SQLite's text. A table gets all its columns and indexes
// in one statement on MySQL, and its columns in one local transaction on SQLite.
func isThere(err error) bool {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number == 1060 || e.Number == 1061
	}
	return strings.Contains(err.Error(), "duplicate column name")
}

// advisoryLock is the name of the lock that lets one migration run at a time. On PostgreSQL
// such a lock has a number.
const (
	advisoryLock       = "tccsaga_migrate"
	advisoryLockNumber = 7_229_017_431
)

// locked runs work on conn while no other process migrates.
func locked(ctx context.Context, conn gorm.ConnPool, dialect string, work func() error) error {
	// Also if ctx has ended, the connection returns to the pool without the lock.
	after := context.WithoutCancel(ctx)
	switch dialect {
	case "mysql":
		if err := lockMySQL(ctx, conn); err != nil {
			return err
		}
		defer conn.ExecContext(after, "DO RELEASE_LOCK('"+advisoryLock+"')")
		return work()
	case "postgres":
		if _, err := conn.ExecContext(ctx, fmt.Sprintf("SELECT pg_advisory_lock(%d)", advisoryLockNumber)); err != nil {
			return fmt.Errorf("wait for another migration: %w", err)
		}
		defer conn.ExecContext(after, fmt.Sprintf("SELECT pg_advisory_unlock(%d)", advisoryLockNumber))
		return work()
	default:
		// SQLite's write lock is the lock. The busy timeout of the DSN may be too short
		// for it.
		var before int
		if err := one(ctx, conn, "PRAGMA busy_timeout", &before); err != nil {
			return err
		}
		if _, err := conn.ExecContext(ctx, "PRAGMA busy_timeout = 30000"); err != nil {
			return err
		}
		defer conn.ExecContext(after, fmt.Sprintf("PRAGMA busy_timeout = %d", before))
		return immediately(ctx, conn, work)
	}
}

func lockMySQL(ctx context.Context, conn gorm.ConnPool) error {
	for {
		var got sql.NullInt64
		// In steps of a second, so that the end of ctx is seen in between.
		if err := one(ctx, conn, "SELECT GET_LOCK('"+advisoryLock+"', 1)", &got); err != nil {
			return fmt.Errorf("wait for another migration: %w", err)
		}
		if got.Int64 == 1 {
			return nil
		}
	}
}

func immediately(ctx context.Context, conn gorm.ConnPool, work func() error) error {
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("wait for another migration: %w", err)
	}
	after := context.WithoutCancel(ctx)
	if err := work(); err != nil {
		conn.ExecContext(after, "ROLLBACK")
		return err
	}
	_, err := conn.ExecContext(after, "COMMIT")
	return err
}
