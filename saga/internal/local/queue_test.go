package local_test

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// Whoever comes first writes first to a SQLite file.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := sqltest.Open(t, "sqlite")
		var order, want []int
		var writers sync.WaitGroup
		first := make(chan struct{})
		for i := range 20 {
			writers.Go(func() {
				err := local.Run(t.Context(), db, func(*gorm.DB) error {
					if i == 0 {
						<-first
					}
					order = append(order, i)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
			want = append(want, i)
		}
		close(first)
		writers.Wait()
		if !slices.Equal(order, want) {
			t.Errorf("they came as %v, and wrote as %v", want, order)
		}
	})
}

// A local transaction inside another one fails: the database is locked. SQLite's
// own wait for the lock is off, because it sleeps outside of the simulated time.
func TestTurnsWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "test.db")
		db := sqltest.Connect(t, sqltest.Database{Dialect: "sqlite", DSN: file + "?_txlock=immediate&_pragma=busy_timeout(0)"}, &gorm.Config{})
		nothing := func(*gorm.DB) error { return nil }
		err := local.Run(t.Context(), db, func(*gorm.DB) error { return local.Run(t.Context(), db, nothing) })
		if err == nil || !strings.Contains(err.Error(), "database is locked") {
			t.Error(err)
		}
		if err := local.Run(t.Context(), db, nothing); err != nil {
			t.Error(err)
		}
	})
}
