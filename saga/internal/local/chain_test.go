package local_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// chained returns a Shared on a new database of MariaDB, with the table of things. It has
// committed once, so that its next local transaction is already begun.
func chained(t *testing.T, prepare bool) (*gorm.DB, *local.Shared) {
	t.Helper()
	db := sqltest.Connect(t, sqltest.Create(t, "mysql"), &gorm.Config{PrepareStmt: prepare})
	things(t, db)
	kept, err := local.NewKept(db, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kept.Close)
	if err := kept.Run(t.Context(), func(tx *gorm.DB) error { return tx.Exec("UPDATE things SET n = 0 WHERE id = 1").Error }); err != nil {
		t.Fatal(err)
	}
	return db, kept
}

// counts returns how often the connection of tx was asked to begin, and to commit.
func counts(t *testing.T, tx *gorm.DB) (begun, committed int) {
	t.Helper()
	var rows []struct {
		VariableName string `gorm:"column:Variable_name"`
		Value        int
	}
	if err := tx.Raw("SHOW SESSION STATUS WHERE Variable_name IN ('Com_begin', 'Com_commit')").Scan(&rows).Error; err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		switch r.VariableName {
		case "Com_begin":
			begun = r.Value
		case "Com_commit":
			committed = r.Value
		}
	}
	return begun, committed
}

// A local transaction that follows a committed one needs no statement to begin; one that
// follows a failed one does.
func TestTransactionsFollowEachOther(t *testing.T) {
	t.Parallel()
	db, kept := chained(t, false)
	failure := errors.New("on purpose")
	run := func(result error) (begun, committed int) {
		t.Helper()
		err := kept.Run(t.Context(), func(tx *gorm.DB) error {
			begun, committed = counts(t, tx)
			return errors.Join(tx.Exec("UPDATE things SET n = n + 1 WHERE id = 1").Error, result)
		})
		if !errors.Is(err, result) {
			t.Error(err)
		}
		return begun, committed
	}
	run(nil)
	if begun, committed := run(failure); begun != 1 || committed != 2 {
		t.Errorf("begun %d times before two commits, committed %d times", begun, committed)
	}
	if begun, _ := run(nil); begun != 2 {
		t.Errorf("after a failure, begun %d times, want twice", begun)
	}
	if got := sum(t, db); got != 2 {
		t.Errorf("the sum is %d, want 2: what failed is rolled back, the others are committed", got)
	}
}

// The transaction that waits on a kept connection holds no lock and no snapshot.
func TestAWaitingTransactionHoldsNothing(t *testing.T) {
	t.Parallel()
	db, kept := chained(t, false)
	other := db.WithContext(t.Context())
	if err := other.Exec("SET SESSION lock_wait_timeout = 5").Error; err != nil {
		t.Fatal(err)
	}
	if err := other.Exec("ALTER TABLE things ADD COLUMN more INT").Error; err != nil {
		t.Errorf("a change of the table waits: %v", err)
	}
	if err := other.Exec("UPDATE things SET n = 7 WHERE id = 1").Error; err != nil {
		t.Error(err)
	}
	var n int
	var level string
	err := kept.Run(t.Context(), func(tx *gorm.DB) error {
		if begun, _ := counts(t, tx); begun != 1 {
			t.Errorf("begun %d times, want once", begun)
		}
		return errors.Join(tx.Raw("SELECT n FROM things WHERE id = 1").Scan(&n).Error, tx.Raw("SELECT @@tx_isolation").Scan(&level).Error)
	})
	if err != nil || n != 7 || level != "READ-COMMITTED" {
		t.Errorf("read %d at %s, %v", n, level, err)
	}
}

// Of the statements of one local transaction, none is committed without the others, although
// user code ignores a deadlock, and the next transaction begins with the COMMIT.
func TestIgnoredDeadlockInAChain(t *testing.T) {
	t.Parallel()
	for _, prepare := range []bool{false, true} {
		t.Run(fmt.Sprintf("prepare=%t", prepare), func(t *testing.T) {
			t.Parallel()
			db, kept := chained(t, prepare)
			runs := 0
			err := kept.Run(t.Context(), func(tx *gorm.DB) error {
				tx = local.UserHandle(t.Context(), db, tx)
				if runs++; runs == 1 {
					_ = deadlock(t, db, tx, func(tx *gorm.DB) error { return tx.Exec("UPDATE things SET n = n + 1 WHERE id = 2").Error })
				}
				_ = tx.Exec("UPDATE things SET n = n + 10 WHERE id = 1").Error
				return nil
			})
			if got := sum(t, db); err != nil || got != 10 {
				t.Errorf("%d runs left %d: %v", runs, got, err)
			}
		})
	}
}

// A statement that commits implicitly ends the local transaction, and with it the chain.
func TestImplicitCommitInAChain(t *testing.T) {
	t.Parallel()
	db, kept := chained(t, false)
	err := kept.Run(t.Context(), func(tx *gorm.DB) error {
		tx = local.UserHandle(t.Context(), db, tx)
		if err := tx.Exec("CREATE TABLE more (id INT)").Error; err != nil {
			return err
		}
		return tx.Exec("UPDATE things SET n = n + 1 WHERE id = 1").Error
	})
	if !errors.Is(err, local.ErrAborted) || sum(t, db) != 0 {
		t.Errorf("%v, sum %d", err, sum(t, db))
	}
	if err := kept.Run(t.Context(), func(tx *gorm.DB) error { return tx.Exec("UPDATE things SET n = n + 1 WHERE id = 1").Error }); err != nil || sum(t, db) != 1 {
		t.Errorf("%v, sum %d", err, sum(t, db))
	}
}

// User code may prepare statements: then the local transaction runs once more, on a connection
// of the pool, and the caches of gorm have only statements that they can use later.
func TestPreparedStatementsInAChain(t *testing.T) {
	t.Parallel()
	add := "UPDATE things SET n = n + ? WHERE id = 1"
	for name, statement := range map[string]func(tx *gorm.DB) error{
		"by gorm": func(tx *gorm.DB) error {
			return tx.Session(&gorm.Session{PrepareStmt: true}).Exec(add, 1).Error
		},
		"by hand": func(tx *gorm.DB) error {
			prepared, err := tx.Statement.ConnPool.PrepareContext(t.Context(), add)
			if err != nil {
				return err
			}
			defer prepared.Close()
			_, err = prepared.ExecContext(t.Context(), 1)
			return err
		},
		"by a pool": func(tx *gorm.DB) error {
			pool, err := tx.DB()
			if err != nil {
				return err
			}
			prepared, err := pool.PrepareContext(t.Context(), add)
			if err != nil {
				return err
			}
			defer prepared.Close()
			_, err = tx.Statement.ConnPool.(gorm.Tx).StmtContext(t.Context(), prepared).ExecContext(t.Context(), 1)
			return err
		},
		"its error ignored": func(tx *gorm.DB) error {
			_ = tx.Session(&gorm.Session{PrepareStmt: true}).Exec(add, 1).Error
			return nil
		},
		"its error rejected": func(tx *gorm.DB) error {
			if tx.Session(&gorm.Session{PrepareStmt: true}).Exec(add, 1).Error != nil {
				return rejection{}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, kept := chained(t, false)
			for n := 1; n <= 3; n++ {
				err := kept.Run(t.Context(), func(tx *gorm.DB) error { return statement(local.UserHandle(t.Context(), db, tx)) })
				if got := sum(t, db); err != nil || got != n {
					t.Fatalf("run %d: the sum is %d, %v", n, got, err)
				}
			}
			// Outside a local transaction, and in one of the user's own.
			prepared := db.Session(&gorm.Session{PrepareStmt: true})
			err := errors.Join(prepared.Exec(add, 1).Error, prepared.Transaction(func(tx *gorm.DB) error { return tx.Exec(add, 1).Error }))
			if got := sum(t, db); err != nil || got != 5 {
				t.Errorf("the sum is %d, %v", got, err)
			}
		})
	}
}

// rejection is an error that says no for good.
type rejection struct{}

func (rejection) Error() string  { return "no" }
func (rejection) Rejected() bool { return true }

// A connection that is lost while its next transaction waits is replaced.
func TestALostChain(t *testing.T) {
	t.Parallel()
	db, kept := chained(t, false)
	kill := func(tx *gorm.DB) {
		t.Helper()
		if err := db.Exec("KILL ?", idOf(t, tx)).Error; err != nil {
			t.Fatal(err)
		}
	}
	runs := 0
	err := kept.Run(t.Context(), func(tx *gorm.DB) error {
		if runs++; runs == 1 {
			kill(tx)
		}
		return tx.Exec("UPDATE things SET n = n + 1 WHERE id = 1").Error
	})
	if err != nil || runs != 2 || sum(t, db) != 1 {
		t.Errorf("%d runs, %v, sum %d", runs, err, sum(t, db))
	}
	// Killed at its end: the answer to the COMMIT is lost.
	err = kept.Run(t.Context(), func(tx *gorm.DB) error {
		if err := tx.Exec("UPDATE things SET n = n + 1 WHERE id = 1").Error; err != nil {
			return err
		}
		kill(tx)
		return nil
	})
	if !errors.Is(err, local.ErrCommitUnknown) {
		t.Error(err)
	}
	if err := kept.Run(t.Context(), func(tx *gorm.DB) error { return tx.Exec("UPDATE things SET n = 5 WHERE id = 1").Error }); err != nil || sum(t, db) != 5 {
		t.Errorf("%v, sum %d", err, sum(t, db))
	}
}

// Abort ends a local transaction of a chain while a statement waits.
func TestAbortInAChain(t *testing.T) {
	t.Parallel()
	db, kept := chained(t, false)
	reason := errors.New("given up")
	other := db.Begin()
	if err := other.Exec("UPDATE things SET n = n WHERE id = 2").Error; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := kept.Run(ctx, func(tx *gorm.DB) error {
		if err := tx.Exec("UPDATE things SET n = n + 1 WHERE id = 1").Error; err != nil {
			return err
		}
		go func() {
			cancel()
			local.TxOf(tx).Abort(reason)
		}()
		return tx.WithContext(ctx).Exec("UPDATE things SET n = n + 1 WHERE id = 2").Error
	})
	other.Rollback()
	if err == nil || sum(t, db) != 0 {
		t.Errorf("%v, sum %d", err, sum(t, db))
	}
	if err := kept.Run(t.Context(), func(tx *gorm.DB) error { return tx.Exec("UPDATE things SET n = n + 1 WHERE id = 1").Error }); err != nil || sum(t, db) != 1 {
		t.Errorf("%v, sum %d", err, sum(t, db))
	}
}

// Rows that user code leaves open do not hold up the COMMIT.
func TestOpenRowsInAChain(t *testing.T) {
	t.Parallel()
	db, kept := chained(t, false)
	for range 3 {
		err := kept.Run(t.Context(), func(tx *gorm.DB) error {
			tx = local.UserHandle(t.Context(), db, tx)
			if err := tx.Exec("UPDATE things SET n = n + 1 WHERE id = 1").Error; err != nil {
				return err
			}
			rows, err := tx.Raw("SELECT id FROM things").Rows() //nolint:sqlclosecheck,rowserrcheck // it is the point of the test
			if err == nil {
				rows.Next()
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if got := sum(t, db); got != 3 {
		t.Errorf("the sum is %d", got)
	}
}

// A Shared that is spare sets up no more connections than it keeps. The others are those of the
// pool, and go back to it.
func TestSpareConnections(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "mysql")
	things(t, db)
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	pool.SetMaxOpenConns(40)
	pool.SetMaxIdleConns(20)
	spare, err := local.NewSpare(db, 2)
	if err != nil {
		t.Fatal(err)
	}
	const callers = 10
	for range 3 {
		var here, all sync.WaitGroup
		here.Add(callers)
		for range callers {
			all.Go(func() {
				err := spare.Run(t.Context(), func(tx *gorm.DB) error {
					here.Done()
					here.Wait() // all at once
					return tx.Exec("SELECT 1").Error
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if open := pool.Stats().OpenConnections; open > callers+1 {
			t.Errorf("%d connections are open", open)
		}
		if in := pool.Stats().InUse; in > 2 {
			t.Errorf("%d connections are kept", in)
		}
	}
	spare.Close()
	if in := pool.Stats().InUse; in != 0 {
		t.Errorf("%d connections are in use after Close", in)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := spare.Run(ctx, func(tx *gorm.DB) error { return tx.Exec("SELECT 1").Error }); err != nil || pool.Stats().InUse != 0 {
		t.Errorf("after Close: %v, %d in use", err, pool.Stats().InUse)
	}
}

// Of a driver around that of MySQL, every local transaction is begun: it may count on that.
func TestNoChainOfADriverAroundIt(t *testing.T) {
	t.Parallel()
	db, _ := sqltest.OpenReplicated(t, "mysql", &gorm.Config{})
	kept, err := local.NewKept(db, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kept.Close)
	for n := 1; n <= 3; n++ {
		err := kept.Run(t.Context(), func(tx *gorm.DB) error {
			if begun, _ := counts(t, tx); begun != n {
				t.Errorf("local transaction %d: begun %d times", n, begun)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// idOf returns the id of the connection of a local transaction.
func idOf(t *testing.T, tx *gorm.DB) (id int64) {
	t.Helper()
	if err := tx.Raw("SELECT CONNECTION_ID()").Scan(&id).Error; err != nil {
		t.Fatal(err)
	}
	return id
}

// Whatever the moment at which contexts end, the connection that is kept afterwards is good.
func TestEndedContextsInAChain(t *testing.T) {
	t.Parallel()
	db, kept := chained(t, false)
	for i := range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		err := kept.Run(ctx, func(tx *gorm.DB) error {
			return tx.WithContext(ctx).Exec("UPDATE things SET n = n + 1 WHERE id = 1").Error
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("run %d: %v", i, err)
		}
		runs := 0
		if err := kept.Run(t.Context(), func(tx *gorm.DB) error { runs++; return tx.Exec("UPDATE things SET n = 0 WHERE id = 1").Error }); err != nil || runs != 1 {
			t.Fatalf("after run %d: %d runs, %v", i, runs, err)
		}
	}
	if got := sum(t, db); got != 0 {
		t.Errorf("the sum is %d", got)
	}
}

// After Abort, another goroutine may still roll back. So the connection is closed, and the next
// local transaction has another one.
func TestAnAbortedConnectionIsClosed(t *testing.T) {
	t.Parallel()
	_, kept := chained(t, false)
	reason := errors.New("given up")
	var first, second int64
	err := kept.Run(t.Context(), func(tx *gorm.DB) error {
		first = idOf(t, tx)
		local.TxOf(tx).Abort(reason)
		return reason
	})
	if !errors.Is(err, reason) {
		t.Error(err)
	}
	if err := kept.Run(t.Context(), func(tx *gorm.DB) error { second = idOf(t, tx); return nil }); err != nil || first == second {
		t.Errorf("connections %d and %d: %v", first, second, err)
	}
}

// A branch that rejects because its connection was lost does not mean it: it runs again.
func TestARejectionBecauseOfALostConnection(t *testing.T) {
	t.Parallel()
	db, kept := chained(t, false)
	var id int64
	if err := kept.Run(t.Context(), func(tx *gorm.DB) error { id = idOf(t, tx); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := db.Exec("KILL ?", id).Error; err != nil {
		t.Fatal(err)
	}
	runs := 0
	err := kept.Run(t.Context(), func(tx *gorm.DB) error {
		runs++
		if tx.Exec("UPDATE things SET n = n + 1 WHERE id = 1").Error != nil {
			return rejection{}
		}
		return nil
	})
	if err != nil || runs != 2 || sum(t, db) != 1 {
		t.Errorf("%d runs, %v, sum %d", runs, err, sum(t, db))
	}
}
