package sqltx_test

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc/internal/sqltx"
)

// serving counts the goroutines that package database/sql has begun: for pools, and
// to wait for the end of transactions and of rows. The test is not parallel, as
// others have such goroutines too.
func serving() int {
	stacks := make([]byte, 1<<22)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return strings.Count(string(stacks), "created by database/sql.")
}

func TestNothingIsLeftAfterTheContext(t *testing.T) {
	db := sqltest.Open(t, "sqlite")
	var tx *gorm.DB
	within := func(calls int) {
		ctx, end := context.WithCancel(t.Context())
		defer end()
		for range calls {
			watched := tx.Session(&gorm.Session{NewDB: true, Context: ctx})
			watched.Statement.ConnPool = &pool{ConnPool: tx.Statement.ConnPool, TxCommitter: tx.Statement.ConnPool.(gorm.TxCommitter)}
			through, err := sqltx.Of(watched)
			sagatest.Must(t, err)
			var n int
			sagatest.Must(t, through.QueryRow("SELECT 1").Scan(&n))
			rows, err := through.Query("SELECT 1")
			sagatest.Must(t, err)
			rows.Next() // and it is never closed
		}
	}
	tx = db.Begin()
	sagatest.Must(t, tx.Error)
	defer tx.Rollback()
	before := serving()
	within(100)
	sagatest.Eventually(t, fmt.Sprintf("no more goroutines than the %d before", before), func() bool { return serving() <= before })
}

// BenchmarkStatement compares one statement on a connection of the driver with one
// through a pool, for which a *sql.Tx is made each time.
func BenchmarkStatement(b *testing.B) {
	for _, dialect := range sqltest.Dialects {
		w := newWorld(b, dialect, false)
		watched := w.tx.Session(&gorm.Session{NewDB: true, Context: b.Context()})
		watched.Statement.ConnPool = w.pool
		one := func(b *testing.B, tx *sql.Tx) {
			var n int
			sagatest.Must(b, tx.QueryRow("SELECT 1").Scan(&n))
		}
		b.Run(dialect+"/driver", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				one(b, w.direct)
			}
		})
		b.Run(dialect+"/through", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				one(b, w.through)
			}
		})
		b.Run(dialect+"/made", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ctx, end := context.WithCancel(b.Context())
				tx, err := sqltx.Of(watched.WithContext(ctx))
				sagatest.Must(b, err)
				one(b, tx)
				end()
			}
		})
	}
}
