package local_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

type rejected struct{ error }

func (rejected) Rejected() bool  { return true }
func (r rejected) Unwrap() error { return r.error }

func TestTransient(t *testing.T) {
	t.Parallel()
	deadlock := &mysql.MySQLError{Number: 1213}
	cases := []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("no"), false},
		{deadlock, true},
		{fmt.Errorf("in a branch: %w", deadlock), true},
		{rejected{deadlock}, false},
		{&mysql.MySQLError{Number: 1205}, true},
		{&mysql.MySQLError{Number: 1062}, false},
		{&pgconn.PgError{Code: "40001"}, true},
		{&pgconn.PgError{Code: "40P01"}, true},
		{&pgconn.PgError{Code: "23505"}, false},
		{errors.New("database is locked (5) (SQLITE_BUSY)"), true},
		{&mysql.MySQLError{Number: 1290}, true},
		{&pgconn.PgError{Code: "25006"}, true},
		// Not answers; whose connection was lost, only the Tx can say.
		{driver.ErrBadConn, false},
		{mysql.ErrInvalidConn, false},
		{io.ErrUnexpectedEOF, false},
		{&net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, false},
		{context.DeadlineExceeded, false},
		{context.Canceled, false},
	}
	for _, c := range cases {
		if got := local.Transient(c.err); got != c.want {
			t.Errorf("Transient(%v) is %t", c.err, got)
		}
	}
}

// A transient fault runs the work again, a bounded number of times; what a failed
// run has written is gone.
func TestRunAgain(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		insert := func(tx *gorm.DB) error {
			return tx.Exec("INSERT INTO saga_inbox (consumer, message_id, handled_at) VALUES ('c', 'm', '2026-01-01 00:00:00')").Error
		}
		runs := 0
		err := local.Run(t.Context(), db, func(tx *gorm.DB) error {
			if runs++; runs < 4 {
				return errors.Join(insert(tx), deadlockOf(db))
			}
			return insert(tx)
		})
		if err != nil || runs != 4 {
			t.Fatalf("%d runs: %v", runs, err)
		}
		if err := local.Run(t.Context(), db, insert); !local.Duplicate(err) {
			t.Errorf("a duplicate: %v", err)
		}
		runs = 0
		err = local.Run(t.Context(), db, func(*gorm.DB) error { runs++; return deadlockOf(db) })
		if !local.Transient(err) || runs < 5 || runs > 20 {
			t.Errorf("%d runs: %v", runs, err)
		}
	})
}

// deadlockOf is a transient fault as the server of db words it.
func deadlockOf(db *gorm.DB) error {
	switch db.Dialector.Name() {
	case "mysql":
		return &mysql.MySQLError{Number: 1213}
	case "postgres":
		return &pgconn.PgError{Code: "40P01"}
	default:
		return errors.New("database is locked (5) (SQLITE_BUSY)")
	}
}

func TestRunWithAContextThatEnds(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		ctx, cancel := context.WithCancel(t.Context())
		err := local.Run(ctx, db, func(tx *gorm.DB) error {
			err := tx.Exec("INSERT INTO saga_inbox (consumer, message_id, handled_at) VALUES ('c', 'm', '2026-01-01 00:00:00')").Error
			cancel()
			return err
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		if err := local.Run(ctx, db, func(*gorm.DB) error { t.Error("it ran"); return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		var n int64
		if err := db.Raw("SELECT COUNT(*) FROM saga_inbox").Scan(&n).Error; err != nil || n != 0 {
			t.Errorf("%d rows, %v", n, err)
		}
	})
}
