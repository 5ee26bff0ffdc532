package local_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// A deadlock in the last statement, whose error user code ignores: nothing of it
// is left to commit, and the whole is run again.
func TestDeadlockInTheLastStatement(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "mysql")
	things(t, db)
	runs := 0
	err := local.Run(t.Context(), db, func(tx *gorm.DB) error {
		tx = local.UserHandle(t.Context(), db, tx)
		if runs++; runs > 1 {
			return tx.Exec("UPDATE things SET n = n + 10 WHERE id = 1").Error
		}
		_ = deadlock(t, db, tx, func(tx *gorm.DB) error { return tx.Exec("UPDATE things SET n = n + 1 WHERE id = 2").Error })
		return nil
	})
	if got := sum(t, db); err != nil || got != 10 || runs != 2 {
		t.Errorf("%d runs left %d, %v; want 2 and 10", runs, got, err)
	}
}

// A statement that was cut off by the end of a context may have had its effect, or
// not. Nothing more is sent, and nothing is committed.
func TestACancelledStatementIsNotIgnored(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		things(t, db)
		err := local.Run(t.Context(), db, func(tx *gorm.DB) error {
			tx = local.UserHandle(t.Context(), db, tx)
			over, cancel := context.WithCancel(t.Context())
			cancel()
			if err := tx.WithContext(over).Exec("UPDATE things SET n = n + 1 WHERE id = 1").Error; err == nil {
				t.Error("a statement ran after the end of its context")
			}
			if err := tx.WithContext(t.Context()).Exec("UPDATE things SET n = n + 1 WHERE id = 2").Error; !errors.Is(err, local.ErrAborted) {
				t.Errorf("the next statement: %v", err)
			}
			return nil
		})
		if err == nil || sum(t, db) != 0 {
			t.Errorf("%v, sum %d", err, sum(t, db))
		}
	})
}

// Every way to send a statement that ends the local transaction is refused.
func TestEveryWayToEndATransaction(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		things(t, db)
		ways := map[string]func(ctx context.Context, pool gorm.ConnPool) error{
			"exec": func(ctx context.Context, pool gorm.ConnPool) error {
				_, err := pool.ExecContext(ctx, "COMMIT")
				return err
			},
			"query": func(ctx context.Context, pool gorm.ConnPool) error {
				rows, err := pool.QueryContext(ctx, "COMMIT")
				if err == nil {
					err = rows.Close()
				}
				return err
			},
			"row": func(ctx context.Context, pool gorm.ConnPool) error {
				var n int
				return pool.QueryRowContext(ctx, "COMMIT").Scan(&n)
			},
			"prepare": func(ctx context.Context, pool gorm.ConnPool) error {
				statement, err := pool.PrepareContext(ctx, "COMMIT")
				if err == nil {
					_, err = statement.ExecContext(ctx)
				}
				return err
			},
			"commit": func(ctx context.Context, pool gorm.ConnPool) error { return pool.(gorm.TxCommitter).Commit() },
			"rollback": func(ctx context.Context, pool gorm.ConnPool) error {
				return pool.(gorm.TxCommitter).Rollback()
			},
		}
		failure := errors.New("the work fails")
		for name, way := range ways {
			err := local.Run(t.Context(), db, func(tx *gorm.DB) error {
				guest := local.UserHandle(t.Context(), db, tx)
				if err := guest.Exec("UPDATE things SET n = n + 1 WHERE id = 1").Error; err != nil {
					return err
				}
				if err := way(t.Context(), guest.Statement.ConnPool); err == nil {
					t.Errorf("%s: it was not refused", name)
				}
				return failure
			})
			if got := sum(t, db); !errors.Is(err, failure) || got != 0 {
				t.Errorf("%s: %v, and %d is left of what failed", name, err, got)
			}
		}
	})
}

// What an error of COMMIT says: only a server's own no is certain.
func TestAnswersOfCommit(t *testing.T) {
	t.Parallel()
	number := func(n uint16) error { return &mysql.MySQLError{Number: n} }
	state := func(code string) error { return &pgconn.PgError{Code: code} }
	for _, c := range []struct {
		err  error
		want local.CommitAnswer
	}{
		{number(1053), local.CommitUnknown},
		{number(1180), local.CommitUnknown},
		{number(1317), local.CommitUnknown},
		{number(1927), local.CommitUnknown},
		{number(1213), local.CommitTransient},
		{number(3101), local.CommitTransient},
		{number(1062), local.CommitRefused},
		{state("40003"), local.CommitUnknown},
		{state("08006"), local.CommitUnknown},
		{state("08007"), local.CommitUnknown},
		{state("57P01"), local.CommitUnknown},
		{state("57P02"), local.CommitUnknown},
		{state("40001"), local.CommitTransient},
		{state("23503"), local.CommitRefused},
		{sql.ErrTxDone, local.CommitRefused},
		{errors.New("commit unexpectedly resulted in rollback"), local.CommitRefused},
		{io.ErrUnexpectedEOF, local.CommitUnknown},
		{driver.ErrBadConn, local.CommitUnknown},
		{mysql.ErrInvalidConn, local.CommitUnknown},
		{context.DeadlineExceeded, local.CommitUnknown},
		{errors.New("anything else"), local.CommitUnknown},
	} {
		if got := local.CommitFailed(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}

// The connection of a local transaction that ended in a way which nobody expected
// is closed, and not given to somebody else.
func TestASpoiledConnectionIsClosed(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "mysql")
	things(t, db)
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	pool.SetMaxOpenConns(1)
	id := func(db *gorm.DB) (id int64) {
		if err := db.Raw("SELECT CONNECTION_ID()").Scan(&id).Error; err != nil {
			t.Error(err)
		}
		return id
	}
	var used int64
	err = local.Run(t.Context(), db, func(tx *gorm.DB) error {
		tx = local.UserHandle(t.Context(), db, tx)
		used = id(tx)
		return tx.Exec("CREATE TABLE more (id INT)").Error
	})
	if !errors.Is(err, local.ErrAborted) {
		t.Errorf("a transaction that DDL has ended: %v", err)
	}
	if next := id(db); next == used {
		t.Error("the connection is in use again")
	}
}

// The heartbeat has its connection when all others are taken, and takes another one
// when its own is of no use any more.
func TestReserved(t *testing.T) {
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := sqltest.Open(t, dialect)
			pool, err := db.DB()
			if err != nil {
				t.Fatal(err)
			}
			pool.SetMaxOpenConns(3)
			things(t, db)
			heart, err := local.NewReserved(db)
			if err != nil {
				t.Fatal(err)
			}
			defer heart.Close()
			beat := func() error {
				_, err := heart.Exec(t.Context(), "UPDATE things SET n = n + 1 WHERE id = 1")
				return err
			}
			if err := beat(); err != nil {
				t.Fatal(err)
			}
			var taken []*sql.Conn
			for range 2 {
				conn, err := pool.Conn(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				taken = append(taken, conn)
			}
			if err := beat(); err != nil || pool.Stats().WaitCount != 0 {
				t.Errorf("with an exhausted pool: %v, %d waits", err, pool.Stats().WaitCount)
			}
			for _, conn := range taken {
				conn.Close()
			}
			// Its server becomes read-only: the session is, and new ones are not.
			readOnly := map[string]string{"mysql": "SET SESSION TRANSACTION READ ONLY", "postgres": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"}[dialect]
			if _, err := heart.Exec(t.Context(), readOnly); err != nil {
				t.Fatal(err)
			}
			if err := beat(); err != nil {
				t.Errorf("after a failover: %v", err)
			}
			if got := sum(t, db); got != 3 {
				t.Errorf("%d beats, want 3", got)
			}
		})
	}
}
