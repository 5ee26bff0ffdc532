package local_test

import (
	"errors"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// User code that asks for gorm's prepared statements by itself, and ignores a
// deadlock, leaves nothing either: each of them is sent only after the server has
// said that the transaction is still there.
func TestIgnoredDeadlockOfPreparedStatements(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "mysql")
	things(t, db)
	runs := 0
	err := local.Run(t.Context(), db, func(tx *gorm.DB) error {
		tx = local.UserHandle(t.Context(), db, tx).Session(&gorm.Session{PrepareStmt: true})
		add := func() error { return tx.Exec("UPDATE things SET n = n + 10 WHERE id = ?", 1).Error }
		if err := add(); err != nil { // it is prepared from now on
			return err
		}
		if runs++; runs == 1 {
			_ = deadlock(t, db, tx, func(tx *gorm.DB) error { return tx.Exec("UPDATE things SET n = n + 1 WHERE id = ?", 2).Error })
			_ = add()
		}
		return nil
	})
	// Whether it was a deadlock is not known here, so it is not run again.
	if !errors.Is(err, local.ErrAborted) {
		t.Error(err)
	}
	if got := sum(t, db); got != 0 || runs != 1 {
		t.Errorf("%d runs left %d, want 1 and 0", runs, got)
	}
}
