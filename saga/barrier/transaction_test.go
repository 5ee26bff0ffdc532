package barrier_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

func things(t *testing.T, db *gorm.DB) {
	t.Helper()
	for _, statement := range []string{"CREATE TABLE things (id INT PRIMARY KEY, n INT NOT NULL)", "INSERT INTO things (id, n) VALUES (1, 0), (2, 0)"} {
		sagatest.Must(t, db.Exec(statement).Error)
	}
}

func sum(t *testing.T, db *gorm.DB) (n int) {
	t.Helper()
	sagatest.Must(t, db.Raw("SELECT COALESCE(SUM(n), 0) FROM things").Scan(&n).Error)
	return n
}

func add(tx *gorm.DB, id, n int) error {
	return tx.Exec("UPDATE things SET n = n + ? WHERE id = ?", n, id).Error
}

func TestTransactionCommitsOrLeavesNothing(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		things(t, db)
		if err := barrier.Transaction(t.Context(), db, func(tx *gorm.DB) error { return add(tx, 1, 1) }); err != nil {
			t.Error(err)
		}
		no := errors.New("no")
		err := barrier.Transaction(t.Context(), db, func(tx *gorm.DB) error { return errors.Join(add(tx, 1, 10), no) })
		if !errors.Is(err, no) || errors.Is(err, barrier.ErrDatabase) {
			t.Errorf("an error of work: %v", err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = barrier.Transaction(t.Context(), db, func(tx *gorm.DB) error {
				if err := add(tx, 1, 10); err != nil {
					t.Error(err)
				}
				runtime.Goexit()
				return nil
			})
		}()
		<-ended
		if got := sum(t, db); got != 1 {
			t.Errorf("the sum is %d, want 1", got)
		}
	})
}

// Work that keeps a deadlock to itself is run again on MySQL, where the server has
// rolled back what came before; PostgreSQL refuses the COMMIT, and says so.
func TestTransactionWithIgnoredDeadlock(t *testing.T) {
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := sqltest.Open(t, dialect)
			things(t, db)
			runs := 0
			err := barrier.Transaction(t.Context(), db, func(tx *gorm.DB) error {
				if err := add(tx, 1, 1); err != nil {
					return err
				}
				if runs++; runs == 1 {
					loseDeadlock(t, db, tx)
				}
				_ = add(tx, 1, 10)
				return nil
			})
			if got := sum(t, db); err != nil || runs != 2 || got != 11 {
				t.Errorf("%d runs left %d, %v; want 2, 11 and no error", runs, got, err)
			}
		})
	}
}

// Transactions keeps its connections, at the isolation level that it promises, and
// gives none with it back to the pool.
func TestTransactionsKeepConnections(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		things(t, db)
		runner, err := barrier.NewTransactions(db, 2)
		sagatest.Must(t, err)
		for range 3 {
			err := runner.Run(t.Context(), func(tx *gorm.DB) error {
				if err := add(tx, 1, 1); err != nil || db.Name() != "mysql" {
					return err
				}
				var level string
				err := tx.Raw("SELECT @@SESSION.tx_isolation").Scan(&level).Error
				if level != "READ-COMMITTED" {
					t.Errorf("the isolation level is %s, %v", level, err)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
		pool, err := db.DB()
		sagatest.Must(t, err)
		if kept := pool.Stats().InUse; db.Name() == "mysql" && kept != 1 || db.Name() != "mysql" && kept != 0 {
			t.Errorf("%d connections are kept", kept)
		}
		runner.Close()
		if kept := pool.Stats().InUse; kept != 0 || sum(t, db) != 3 {
			t.Errorf("%d connections are kept after Close, the sum is %d", kept, sum(t, db))
		}
		for range 4 {
			var level string
			if db.Name() == "mysql" && db.Raw("SELECT @@SESSION.tx_isolation").Scan(&level).Error == nil && level == "READ-COMMITTED" {
				t.Error("a connection of the pool has another isolation level")
			}
		}
	})
}

// loseDeadlock lets tx, which has locked row 1, lose a deadlock over row 2: the
// other one has done more work, or waits longer.
func loseDeadlock(t *testing.T, db, tx *gorm.DB) {
	t.Helper()
	other := db.Begin()
	defer other.Rollback()
	if db.Name() == "postgres" { // who finds the deadlock loses it
		if err := other.Exec("SET LOCAL deadlock_timeout = '1h'").Error; err != nil {
			t.Error(err)
		}
	}
	for i := range 20 {
		if err := other.Exec("INSERT INTO things (id, n) VALUES (?, 0)", 100+i).Error; err != nil {
			t.Error(err)
		}
	}
	if err := add(other, 2, 0); err != nil {
		t.Error(err)
	}
	met := make(chan error, 1)
	go func() { met <- add(other, 1, 0) }()
	if err := add(tx, 2, 1); err == nil {
		t.Error("there was no deadlock")
	}
	<-met
}

// A database that goes away is not the fault of the work.
func TestTransactionOfLostDatabase(t *testing.T) {
	t.Parallel()
	db, loss := sqltest.OpenLossy(t)
	things(t, db)
	loss.Arm(1, true)
	err := barrier.Transaction(t.Context(), db, func(tx *gorm.DB) error { return add(tx, 1, 1) })
	if !errors.Is(err, barrier.ErrDatabase) || sum(t, db) != 1 {
		t.Errorf("COMMIT without an answer: %v", err)
	}
	pool, err := db.DB()
	sagatest.Must(t, err)
	pool.Close()
	err = barrier.Transaction(t.Context(), db, func(tx *gorm.DB) error { return nil })
	if !errors.Is(err, barrier.ErrDatabase) {
		t.Errorf("no connection: %v", err)
	}
}

// A server that ends every connection during work, and work that hides it.
func TestTransactionOfLostConnections(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "postgres")
	things(t, db)
	hidden := errors.New("could not store it")
	err := barrier.Transaction(t.Context(), db, func(tx *gorm.DB) error {
		_ = tx.Exec("SELECT pg_terminate_backend(pg_backend_pid())").Error
		_ = add(tx, 1, 1)
		return hidden
	})
	if !errors.Is(err, barrier.ErrDatabase) || !errors.Is(err, hidden) {
		t.Errorf("lost connections: %v", err)
	}
}

// A COMMIT that is refused for what work has done is work's fault.
func TestTransactionWhoseCommitIsRefused(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "postgres")
	things(t, db)
	sagatest.Must(t, db.Exec("CREATE TABLE parts (thing INT REFERENCES things (id) DEFERRABLE INITIALLY DEFERRED)").Error)
	for name, work := range map[string]func(tx *gorm.DB) error{
		"deferred constraint": func(tx *gorm.DB) error { return tx.Exec("INSERT INTO parts VALUES (99)").Error },
		"ignored error":       func(tx *gorm.DB) error { _ = tx.Exec("no SQL").Error; return nil },
	} {
		err := barrier.Transaction(t.Context(), db, work)
		if !errors.Is(err, barrier.ErrNotCommitted) || errors.Is(err, barrier.ErrDatabase) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A service that keeps a record of what it has done writes it in the same local
// transaction as its work.
func ExampleTransaction() {
	ctx := context.Background()
	db, err := gorm.Open(sqlite.Open(":memory:"))
	if err != nil {
		panic(err)
	}
	if err := db.Exec("CREATE TABLE seen (id TEXT PRIMARY KEY)").Error; err != nil {
		panic(err)
	}
	err = barrier.Transaction(ctx, db, func(tx *gorm.DB) error {
		// and the work, with tx
		return tx.Exec("INSERT INTO seen VALUES ('m-1')").Error
	})
	fmt.Println(err, errors.Is(err, barrier.ErrDatabase))
	// Output: <nil> false
}
