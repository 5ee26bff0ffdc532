package tcc_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// What cleaning costs those who execute meanwhile: compare the two with
// benchstat. The log holds more old transactions than are removed in the time.
func BenchmarkExecuteWhileCleaning(b *testing.B) {
	for _, dialect := range sqltest.Dialects {
		for _, cleaning := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/cleaning=%t", dialect, cleaning), func(b *testing.B) {
				benchmarkExecute(b, sqltest.Open(b, dialect), cleaning)
			})
		}
	}
}

func benchmarkExecute(b *testing.B, db *gorm.DB, cleaning bool) {
	fill(b, db, 50_000)
	config := embedded.Config{Retention: embedded.Forever, Logger: slog.New(slog.DiscardHandler)}
	if cleaning {
		config.Retention = time.Hour
	}
	orch := sagatest.Open(b, db, config)
	sagatest.Must(b, db.Exec("CREATE TABLE accounts (id INT PRIMARY KEY, credit INT NOT NULL, held INT NOT NULL, spent INT NOT NULL)").Error)
	for id := range 100 {
		sagatest.Must(b, db.Exec("INSERT INTO accounts VALUES (?, 1000000000, 0, 0)", id).Error)
	}
	sagatest.Must(b, tcc.Register(orch, &credit[hold]{db: db, read: func(p hold) (int, int) { return p.Account, p.Cents }}))
	running, stop := context.WithCancel(b.Context())
	ended := make(chan error)
	go func() { ended <- orch.Run(running) }()
	var executions atomic.Int64
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			account := int(executions.Add(1) % 100)
			if _, err := tcc.Execute(b.Context(), orch, sagatest.GID(), hold{account, 1}); err != nil {
				b.Error(err)
			}
		}
	})
	b.StopTimer()
	stop()
	sagatest.Must(b, <-ended)
	var left int64
	sagatest.Must(b, db.Raw("SELECT COUNT(*) FROM saga_transactions").Scan(&left).Error)
	b.ReportMetric(float64(50_000-left+executions.Load())/b.Elapsed().Seconds(), "removed/s")
}

// fill writes old, finished transactions as the log holds them.
func fill(b *testing.B, db *gorm.DB, n int) {
	b.Helper()
	past := "'2020-01-01 00:00:00.000'"
	const batch = 500
	for from := 0; from < n; from += batch {
		var transactions, branches, rows []string
		for i := from; i < from+batch; i++ {
			transactions = append(transactions, fmt.Sprintf("('old-%06d', 'tcc', 'confirmed', '', '', 'caller', '', '', 1, 0, %s, %s, NULL, %s, %s, NULL)", i, past, past, past, past))
			branches = append(branches, fmt.Sprintf(`('old-%06d', '01', 'credit.hold', '{"Account":1,"Cents":1}')`, i))
			rows = append(rows, fmt.Sprintf("('old-%06d', '01', 'confirmed', %s, %s, NULL, 0, NULL)", i, past, past))
		}
		for into, values := range map[string][]string{
			"saga_transactions (gid, pattern, state, digest, reason, decided_by, attention, owner, epoch, failures, created_at, deadline_at, due_at, decided_at, finished_at, paused_at)": transactions,
			"saga_branches (gid, branch_id, kind, payload)":                                                           branches,
			"saga_barrier (gid, branch_id, state, tried_at, confirmed_at, cancelled_at, turned_away, turned_away_at)": rows,
		} {
			sqltest.Exec(b, db, "INSERT INTO "+into+" VALUES "+strings.Join(values, ", "))
		}
	}
}
