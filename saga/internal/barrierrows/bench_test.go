package barrierrows_test

import (
	"fmt"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// The barrier of a branch that is tried and confirmed, with as many
// transactions per commit as share one.
func BenchmarkBarrier(b *testing.B) {
	for _, dialect := range sqltest.Dialects {
		b.Run(dialect, func(b *testing.B) {
			db := sqltest.Open(b, dialect)
			for _, batch := range []int{1, 64} {
				b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) { benchmarkBarrier(b, db, batch) })
			}
		})
	}
}

func benchmarkBarrier(b *testing.B, db *gorm.DB, batch int) {
	b.ReportAllocs()
	ctx, run := b.Context(), fmt.Sprintf("run-%d", batch)
	for n := 0; n < b.N; n += batch {
		err := db.Transaction(func(tx *gorm.DB) error {
			if batch == 1 {
				key := barrier.Key{GID: fmt.Sprintf("%s-%d-%d", run, b.N, n), BranchID: "01"}
				if _, err := barrier.Call(ctx, tx, barrier.Request{Key: key, Op: barrier.Try}); err != nil {
					return err
				}
				_, err := barrier.Call(ctx, tx, barrier.Request{Key: key, Op: barrier.Confirm})
				return err
			}
			keys, gids := make([]barrier.Request, batch), make([]string, batch)
			for i := range keys {
				gids[i] = fmt.Sprintf("%s-%d-%d", run, b.N, n+i)
				keys[i] = barrier.Request{Key: barrier.Key{GID: gids[i], BranchID: "01"}}
			}
			if err := barrierrows.TryBatch(ctx, tx, keys, nil); err != nil {
				return err
			}
			return barrierrows.ConfirmBatch(ctx, tx, "", []string{"01"}, gids)
		})
		sagatest.Must(b, err)
	}
}
