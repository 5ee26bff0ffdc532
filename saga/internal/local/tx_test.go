package local_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// things makes a table with the rows 1 and 2, both 0.
func things(t *testing.T, db *gorm.DB) {
	t.Helper()
	for _, statement := range []string{
		"CREATE TABLE things (id INT PRIMARY KEY, n INT NOT NULL)",
		"INSERT INTO things (id, n) VALUES (1, 0), (2, 0)",
	} {
		if err := db.Exec(statement).Error; err != nil {
			t.Fatal(err)
		}
	}
}

func sum(t *testing.T, db *gorm.DB) (n int) {
	t.Helper()
	if err := db.Raw("SELECT COALESCE(SUM(n), 0) FROM things").Scan(&n).Error; err != nil {
		t.Fatal(err)
	}
	return n
}

// deadlock lets the local transaction that has tx lose a deadlock in statement,
// which needs row 2, and then returns: the other one has done more work, so that
// MySQL does not choose it.
func deadlock(t *testing.T, db, tx *gorm.DB, statement func(tx *gorm.DB) error) error {
	t.Helper()
	if err := tx.Exec("UPDATE things SET n = n + 1 WHERE id = 1").Error; err != nil {
		return err
	}
	other := db.Begin()
	for i := range 20 {
		if err := other.Exec("INSERT INTO things (id, n) VALUES (?, 0)", 100+i).Error; err != nil {
			t.Error(err)
		}
	}
	if err := other.Exec("UPDATE things SET n = n WHERE id = 2").Error; err != nil {
		t.Error(err)
	}
	met := make(chan error, 1)
	go func() { met <- other.Exec("UPDATE things SET n = n WHERE id = 1").Error }()
	err := statement(tx)
	if err := <-met; err != nil {
		t.Logf("the other one: %v", err)
	}
	other.Rollback()
	return err
}

// After a deadlock whose error user code ignores, MySQL has rolled everything
// back, and what follows would commit by itself. Nothing more is sent, and the
// whole transaction is run again.
func TestIgnoredDeadlock(t *testing.T) {
	t.Parallel()
	statements := map[string]func(tx *gorm.DB) error{
		"write": func(tx *gorm.DB) error { return tx.Exec("UPDATE things SET n = n + 1 WHERE id = 2").Error },
		"locking read": func(tx *gorm.DB) error {
			var n int
			return tx.Raw("SELECT n FROM things WHERE id >= 2 ORDER BY id FOR UPDATE").Scan(&n).Error
		},
		"rows that nobody reads": func(tx *gorm.DB) error {
			rows, err := tx.Raw("SELECT n FROM things WHERE id >= 2 ORDER BY id FOR UPDATE").Rows()
			if err == nil {
				err = rows.Close()
			}
			return err
		},
	}
	for name, statement := range statements {
		for _, prepare := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/prepare=%t", name, prepare), func(t *testing.T) {
				t.Parallel()
				database := sqltest.Create(t, "mysql")
				db := sqltest.Connect(t, database, &gorm.Config{PrepareStmt: prepare})
				things(t, db)
				runs := 0
				err := local.Run(t.Context(), db, func(tx *gorm.DB) error {
					tx = local.UserHandle(t.Context(), db, tx)
					if runs++; runs == 1 {
						_ = deadlock(t, db, tx, statement)
					}
					_ = tx.Exec("UPDATE things SET n = n + 10 WHERE id = 1").Error
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				if got := sum(t, db); got != 10 || runs != 2 {
					t.Errorf("%d runs left %d, want 2 and 10", runs, got)
				}
			})
		}
	}
}

// Statements that end a local transaction are refused, and those that do so
// implicitly are noticed before anything more is sent.
func TestUserCodeCannotEndTheTransaction(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		things(t, db)
		for _, text := range []string{"COMMIT", "commit;", " /* now */ ROLLBACK", "BEGIN", "START TRANSACTION", "-- x\nCOMMIT WORK", "ROLLBACK; SELECT 1", "SET autocommit=1", "END"} {
			err := local.Run(t.Context(), db, func(tx *gorm.DB) error {
				return local.UserHandle(t.Context(), db, tx).Exec(text).Error
			})
			if err == nil || !strings.Contains(err.Error(), "belongs to the framework") {
				t.Errorf("%q: %v", text, err)
			}
		}
		err := local.Run(t.Context(), db, func(tx *gorm.DB) error {
			tx = local.UserHandle(t.Context(), db, tx)
			if err := tx.Commit().Error; err == nil {
				t.Error("Commit did not refuse")
			}
			tx.Error = nil
			return tx.Transaction(func(tx *gorm.DB) error { // a savepoint
				return tx.Exec("UPDATE things SET n = n + 1 WHERE id = 1 /* commit */").Error
			})
		})
		if err != nil || sum(t, db) != 1 {
			t.Errorf("%v, sum %d", err, sum(t, db))
		}
	})
}

func TestImplicitCommitIsNoticed(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "mysql")
	things(t, db)
	err := local.Run(t.Context(), db, func(tx *gorm.DB) error {
		tx = local.UserHandle(t.Context(), db, tx)
		if err := tx.Exec("CREATE TABLE more (id INT)").Error; err != nil {
			return err
		}
		return tx.Exec("UPDATE things SET n = n + 1 WHERE id = 1").Error
	})
	if !errors.Is(err, local.ErrAborted) || sum(t, db) != 0 {
		t.Errorf("%v, sum %d", err, sum(t, db))
	}
}

func TestSQLiteThatRollsBackByItself(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	things(t, db)
	err := local.Run(t.Context(), db, func(tx *gorm.DB) error {
		tx = local.UserHandle(t.Context(), db, tx)
		_ = tx.Exec("INSERT OR ROLLBACK INTO things (id, n) VALUES (1, 5)").Error
		_ = tx.Exec("UPDATE things SET n = n + 1 WHERE id = 1").Error
		return nil
	})
	if !errors.Is(err, local.ErrAborted) || sum(t, db) != 0 {
		t.Errorf("%v, sum %d", err, sum(t, db))
	}
	err = local.Run(t.Context(), db, func(tx *gorm.DB) error {
		tx = local.UserHandle(t.Context(), db, tx)
		_ = tx.Exec("INSERT INTO things (id, n) VALUES (1, 5)").Error // fails by itself only
		return tx.Exec("UPDATE things SET n = n + 1 WHERE id = 1").Error
	})
	if err != nil || sum(t, db) != 1 {
		t.Errorf("%v, sum %d", err, sum(t, db))
	}
}

// A network error of the user's own is not the database's; a connection of the
// database that is really lost is.
func TestWhoseConnectionWasLost(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		things(t, db)
		for _, foreign := range []error{io.EOF, io.ErrUnexpectedEOF, driver.ErrBadConn, mysql.ErrInvalidConn,
			&net.OpError{Op: "dial", Err: errors.New("connection refused")}} {
			runs := 0
			err := local.Run(t.Context(), db, func(*gorm.DB) error { runs++; return foreign })
			if runs != 1 || !errors.Is(err, foreign) {
				t.Errorf("%v: %d runs, %v", foreign, runs, err)
			}
		}
		kill := map[string]string{"mysql": "KILL ?", "postgres": "SELECT pg_terminate_backend(?)"}[db.Dialector.Name()]
		if kill == "" {
			return
		}
		self := map[string]string{"mysql": "SELECT CONNECTION_ID()", "postgres": "SELECT pg_backend_pid()"}[db.Dialector.Name()]
		runs := 0
		err := local.Run(t.Context(), db, func(tx *gorm.DB) error {
			tx = local.UserHandle(t.Context(), db, tx)
			if runs++; runs == 1 {
				var id int64
				if err := tx.Raw(self).Scan(&id).Error; err != nil {
					return err
				}
				if err := db.Exec(kill, id).Error; err != nil {
					t.Error(err)
				}
			}
			return tx.Exec("UPDATE things SET n = n + 1 WHERE id = 1").Error
		})
		if err != nil || runs != 2 || sum(t, db) != 1 {
			t.Errorf("%d runs, %v, sum %d", runs, err, sum(t, db))
		}
	})
}

// What the database refuses at COMMIT is refused, and not unknown, however gorm
// translates its errors.
func TestRefusedCommit(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"postgres", "sqlite"} {
		for _, translate := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/translate=%t", dialect, translate), func(t *testing.T) {
				t.Parallel()
				db := sqltest.Connect(t, sqltest.Create(t, dialect), &gorm.Config{TranslateError: translate})
				for _, statement := range []string{
					"CREATE TABLE parents (id INT PRIMARY KEY)",
					"CREATE TABLE children (id INT, parent INT REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)",
				} {
					if err := db.Exec(statement).Error; err != nil {
						t.Fatal(err)
					}
				}
				err := db.Connection(func(db *gorm.DB) error { return nil })
				if dialect == "sqlite" {
					pool, _ := db.DB()
					pool.SetMaxOpenConns(1)
					err = db.Exec("PRAGMA foreign_keys = ON").Error
				}
				if err != nil {
					t.Fatal(err)
				}
				runs := 0
				err = local.Run(t.Context(), db, func(tx *gorm.DB) error {
					runs++
					return local.UserHandle(t.Context(), db, tx).Exec("INSERT INTO children VALUES (1, 1)").Error
				})
				if !errors.Is(err, local.ErrCommitRefused) || runs != 1 {
					t.Errorf("%d runs: %v", runs, err)
				}
				// The connection is in no transaction that somebody else would inherit.
				if err := local.Run(t.Context(), db, func(tx *gorm.DB) error {
					return local.UserHandle(t.Context(), db, tx).Exec("INSERT INTO parents VALUES (1)").Error
				}); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// At most a share of a limited pool is in use, so that the user's own queries
// find a connection.
func TestShareOfThePool(t *testing.T) {
	t.Parallel()
	for most, want := range map[int]int{0: 0, 1: 1, 2: 1, 3: 1, 4: 2, 8: 5, 10: 6, 16: 11, 100: 74} {
		if got := local.Share(most); got != want {
			t.Errorf("Share(%d) is %d, want %d", most, got, want)
		}
	}
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := sqltest.Open(t, dialect)
			pool, err := db.DB()
			if err != nil {
				t.Fatal(err)
			}
			pool.SetMaxOpenConns(10)
			shared, err := local.NewShared(db)
			if err != nil {
				t.Fatal(err)
			}
			defer shared.Close()
			held := make(chan struct{})
			hold := func(*gorm.DB) error { <-held; return nil }
			var all sync.WaitGroup
			for i := range 20 {
				all.Go(func() {
					run := func(work func(*gorm.DB) error) error { return local.Run(t.Context(), db, work) }
					if i%2 == 0 {
						run = func(work func(*gorm.DB) error) error { return shared.Run(t.Context(), work) }
					}
					if err := run(hold); err != nil {
						t.Error(err)
					}
				})
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			for range 50 { // while they hold what they can get
				var one int
				if err := db.WithContext(ctx).Raw("SELECT 1").Scan(&one).Error; err != nil {
					t.Fatalf("a query of the user's own: %v", err)
				}
			}
			if in := pool.Stats().InUse; in > local.Share(10) {
				t.Errorf("%d connections are in use", in)
			}
			close(held)
			all.Wait()
		})
	}
}

// The sessions that are kept for shared local transactions count as part of the share.
func TestShareCountsWhatIsKept(t *testing.T) {
	t.Parallel()
	for size := 1; size <= 100; size++ {
		if slots, kept := local.Slots(size); slots < 1 || slots+kept > size {
			t.Errorf("of a share of %d, %d are given and %d are kept", size, slots, kept)
		} else if shared := local.Kept(size); shared > kept || shared < min(kept, 2) {
			t.Errorf("of a share of %d, %d are kept, and %d of them for shared commits", size, kept, shared)
		}
	}
}
