package embedded_test

import (
	"fmt"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// ageTransaction lets a transaction have ended, and its deadline have passed, d ago.
func ageTransaction(t *testing.T, db *gorm.DB, gid string, d time.Duration) {
	t.Helper()
	sqltest.Exec(t, db, "UPDATE saga_transactions SET deadline_at = "+ago(db, d)+", finished_at = "+ago(db, d)+" WHERE gid = ?", gid)
}

// ageBarrier lets the branches of a transaction have been confirmed d ago.
func ageBarrier(t *testing.T, db *gorm.DB, gid string, d time.Duration) {
	t.Helper()
	sqltest.Exec(t, db, "UPDATE saga_barrier SET confirmed_at = "+ago(db, d)+" WHERE gid = ?", gid)
}

// ago is the SQL for the time d ago.
func ago(db *gorm.DB, d time.Duration) string {
	return map[string]string{
		"mysql":    fmt.Sprintf("UTC_TIMESTAMP(6) - INTERVAL %d SECOND", int(d.Seconds())),
		"postgres": fmt.Sprintf("clock_timestamp() - INTERVAL '%d seconds'", int(d.Seconds())),
		"sqlite":   fmt.Sprintf("strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '-%d seconds')", int(d.Seconds())),
	}[db.Name()]
}

// count returns how many rows of a table a transaction has.
func count(t *testing.T, db *gorm.DB, table, gid string) (n int) {
	t.Helper()
	sagatest.Must(t, db.Raw("SELECT COUNT(*) FROM "+table+" WHERE gid = ?", gid).Scan(&n).Error)
	return n
}
