package txlog_test

import (
	"fmt"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// Writing transactions of two branches that are decided with their first
// commit, and their end; as many at once as share a commit.
func BenchmarkInsertAndFinish(b *testing.B) {
	eachSize(b, func(b *testing.B, db *gorm.DB, log *txlog.Log, batch int) {
		for n := 0; n < b.N; n += batch {
			starts, gids := starts(b, n, batch, time.Minute)
			err := db.Transaction(func(tx *gorm.DB) error {
				if err := log.Insert(b.Context(), tx, starts...); err != nil {
					return err
				}
				return log.FinishAll(b.Context(), tx, 1, gids)
			})
			sagatest.Must(b, err)
		}
	})
}

// Claiming due transactions and reading their branches.
func BenchmarkClaim(b *testing.B) {
	eachSize(b, func(b *testing.B, db *gorm.DB, log *txlog.Log, batch int) {
		b.StopTimer()
		for n := 0; n < b.N; n += 500 {
			starts, _ := starts(b, n, 500, 0)
			sagatest.Must(b, db.Transaction(func(tx *gorm.DB) error { return log.Insert(b.Context(), tx, starts...) }))
		}
		b.StartTimer()
		for n := 0; n < b.N; n += batch {
			claims, err := log.Claim(b.Context(), txlog.Claim{Instance: "me", Page: 2 * batch, Limit: batch, Bytes: 1 << 20, Due: time.Hour,
				Busy: func(string) bool { return false }, Knows: func(string) bool { return true }})
			if err != nil || len(claims.Claimed) != batch {
				b.Fatalf("claimed %d: %v", len(claims.Claimed), err)
			}
		}
	})
}

func eachSize(b *testing.B, benchmark func(b *testing.B, db *gorm.DB, log *txlog.Log, batch int)) {
	for _, dialect := range sqltest.Dialects {
		for _, batch := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/batch=%d", dialect, batch), func(b *testing.B) {
				db := sqltest.Open(b, dialect)
				log, err := txlog.New(db)
				sagatest.Must(b, err)
				b.ReportAllocs()
				b.ResetTimer()
				benchmark(b, db, log, batch)
			})
		}
	}
}

func starts(b *testing.B, from, n int, due time.Duration) (starts []txlog.Start, gids []string) {
	for i := range n {
		gid := fmt.Sprintf("order-%d-%d", b.N, from+i)
		gids = append(gids, gid)
		starts = append(starts, txlog.Start{GID: gid, Pattern: "tcc", State: txlog.Confirming, Digest: "d", DecidedBy: "caller", Owner: "nobody", Deadline: time.Minute, Due: due,
			Branches: []txlog.Branch{{ID: "01", Kind: "stock.lock", Payload: `{"items":[{"sku":"phone","quantity":1}]}`}, {ID: "02", Kind: "message.publish", Payload: `{"subject":"orders.placed","data":"x"}`}}})
	}
	return starts, gids
}
