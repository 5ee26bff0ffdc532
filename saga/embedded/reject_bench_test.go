package embedded_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// Orders of 64 callers for articles some of which are sold out, and a message with
// each: branches without a bulk interface, and a bulk one, that rejects at the first
// and at the second position of the plan. Compare the orders per second with those
// at none.
func BenchmarkRejections(b *testing.B) {
	plans := map[string][]string{"plain": {"lock", "note"}, "plain, second": {"note", "lock"}, "bulk": {"bulk", "note"}, "bulk, second": {"note", "bulk"}}
	for _, dialect := range []string{"mysql", "postgres"} {
		for _, name := range []string{"plain", "plain, second", "bulk", "bulk, second"} {
			for _, percent := range []int64{0, 10, 50} {
				b.Run(fmt.Sprintf("%s/%s/%d%%", dialect, name, percent), func(b *testing.B) {
					benchmarkRejections(b, sqltest.Open(b, dialect), percent, plans[name])
				})
			}
		}
	}
}

type order struct {
	Article int64
	Note    string
}

func benchmarkRejections(b *testing.B, db *gorm.DB, percent int64, kinds []string) {
	sagatest.Must(b, db.Exec("CREATE TABLE articles (id INT PRIMARY KEY, free INT NOT NULL, held INT NOT NULL)").Error)
	sagatest.Must(b, db.Exec("CREATE TABLE notes (gid VARCHAR(64) PRIMARY KEY, state VARCHAR(16))").Error)
	for id := range 200 {
		sagatest.Must(b, db.Exec("INSERT INTO articles VALUES (?, ?, 0)", id, map[bool]int{true: 1 << 30}[id < 100]).Error)
	}
	lock := func(ctx context.Context, tx *gorm.DB, call saga.Call) error {
		var o order
		if err := json.Unmarshal(call.Payload, &o); err != nil {
			return err
		}
		if call.Op != barrier.Try {
			return tx.Exec("UPDATE articles SET held = held - 1 WHERE id = ?", o.Article).Error
		}
		result := tx.Exec("UPDATE articles SET free = free - 1, held = held + 1 WHERE id = ? AND free > 0", o.Article)
		if result.Error == nil && result.RowsAffected == 0 {
			return saga.Reject(errors.New("sold out"))
		}
		return result.Error
	}
	locks := func(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []saga.BatchCall) ([]error, error) {
		failures := make([]error, len(calls))
		var rejection *saga.Rejection
		for i, call := range calls {
			if failures[i] = lock(ctx, tx, call.Call); failures[i] != nil && !errors.As(failures[i], &rejection) {
				return nil, failures[i]
			}
		}
		return failures, nil
	}
	note := func(ctx context.Context, tx *gorm.DB, call saga.Call) error {
		if call.Op == barrier.Try {
			return tx.Exec("INSERT INTO notes VALUES (?, 'prepared')", call.GID).Error
		}
		return tx.Exec("UPDATE notes SET state = ? WHERE gid = ?", string(call.Op), call.GID).Error
	}
	orch, err := embedded.Open(b.Context(), db, embedded.Config{Logger: slog.New(slog.DiscardHandler), Retention: embedded.Forever})
	sagatest.Must(b, err)
	asJSON := func(input any) ([]byte, error) { return json.Marshal(input) }
	for _, branch := range []spec{{Kind: "lock", Work: lock}, {Kind: "bulk", Work: lock, WorkBatch: locks}, {Kind: "note", Work: note}} {
		branch.Encode = asJSON
		sagatest.Must(b, register(orch, branch))
	}
	go orch.Run(b.Context())
	defer orch.Stop(context.WithoutCancel(b.Context()))
	var orders atomic.Int64
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := orders.Add(1)
			o := order{Article: n * 7919 % 100}
			rejected := n*7919/100%100 < percent
			if rejected {
				o.Article += 100
			}
			plan := saga.Plan{GID: fmt.Sprintf("o-%d-%d", b.N, n)}
			for _, kind := range kinds {
				plan.Steps = append(plan.Steps, saga.Step{Kind: kind, Input: o})
			}
			outcome, err := orch.Execute(b.Context(), plan)
			if rejected != (outcome.State == saga.Cancelled) || rejected != errors.Is(err, saga.ErrCancelled) {
				b.Errorf("%+v, %v", outcome, err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
}
