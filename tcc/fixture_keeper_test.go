package tcc_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// forgetful removes what is finished almost at once.
func forgetful() embedded.Config {
	config := quick
	config.CallTimeout, config.Retention = time.Second, 2*time.Second
	return config
}

// age moves a transaction into the past, beyond the retention.
func (b *bench) age(gid string) {
	b.t.Helper()
	past := map[string]string{
		"mysql":    "UTC_TIMESTAMP(6) - INTERVAL 1 DAY",
		"postgres": "clock_timestamp() - INTERVAL '1 day'",
		"sqlite":   "strftime('%Y-%m-%d %H:%M:%f', 'now', '-1 day')",
	}[b.db.Name()]
	sqltest.Exec(b.t, b.db, "UPDATE saga_transactions SET created_at = "+past+", deadline_at = "+past+
		", finished_at = CASE WHEN finished_at IS NULL THEN NULL ELSE "+past+" END WHERE gid = ?", gid)
}

// rows counts what is left of a transaction.
func (b *bench) rows(gid string) string {
	b.t.Helper()
	count := func(db *gorm.DB, table string) (n int) {
		sagatest.Must(b.t, db.Raw("SELECT COUNT(*) FROM "+table+" WHERE gid = ?", gid).Scan(&n).Error)
		return n
	}
	return fmt.Sprintf("%d transactions, %d branches, %d attempts, %d acts, %d+%d barrier rows", count(b.db, "saga_transactions"),
		count(b.db, "saga_branches"), count(b.db, "saga_attempts"), count(b.db, "saga_acts"), count(b.db, "saga_barrier"), count(b.other, "saga_barrier"))
}

const noRows = "0 transactions, 0 branches, 0 attempts, 0 acts, 0+0 barrier rows"

// keeper is a branch that keeps a row per transaction.
type keeper struct{ db *gorm.DB }

type keep struct{ N int }

func (keep) Branch() string { return "test.keep" }

func (k *keeper) Database() *gorm.DB { return k.db }
func (k *keeper) Try(ctx context.Context, tx *gorm.DB, in keep) error {
	return tx.Exec("INSERT INTO kept VALUES (?)", tcc.CallOf(ctx).GID).Error
}
func (k *keeper) Confirm(context.Context, *gorm.DB, keep) error { return nil }
func (k *keeper) Cancel(context.Context, *gorm.DB, keep) error  { return nil }
func (k *keeper) Clean(ctx context.Context, tx *gorm.DB, gids []string) error {
	return tx.Exec("DELETE FROM kept WHERE gid IN ?", gids).Error
}

// badCleaner is a keeper whose Clean can be broken.
type badCleaner struct {
	keeper
	mu     sync.Mutex
	broken func(context.Context) error
	calls  atomic.Int64
}

type keepBad struct{ N int }

func (keepBad) Branch() string { return "a.bad" } // before the others, by name

func (k *badCleaner) Try(ctx context.Context, tx *gorm.DB, in keepBad) error {
	return k.keeper.Try(ctx, tx, keep(in))
}
func (k *badCleaner) Confirm(context.Context, *gorm.DB, keepBad) error { return nil }
func (k *badCleaner) Cancel(context.Context, *gorm.DB, keepBad) error  { return nil }
func (k *badCleaner) Clean(ctx context.Context, tx *gorm.DB, gids []string) error {
	k.calls.Add(1)
	k.mu.Lock()
	broken := k.broken
	k.mu.Unlock()
	if broken != nil {
		if err := broken(ctx); err != nil {
			return err
		}
	}
	return k.keeper.Clean(ctx, tx, gids)
}

// cleanFault is a way in which a Clean fails.
type cleanFault struct {
	clean func(context.Context) error
	hangs bool // until release is closed
}

func cleanFaults(release chan struct{}) map[string]cleanFault {
	return map[string]cleanFault{
		"fails":  {clean: func(context.Context) error { return errOnPurpose }},
		"panics": {clean: func(context.Context) error { panic("on purpose") }},
		"exits":  {clean: func(context.Context) error { runtime.Goexit(); return nil }},
		"hangs":  {clean: func(context.Context) error { <-release; return errOnPurpose }, hangs: true},
		"waits":  {clean: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
	}
}
