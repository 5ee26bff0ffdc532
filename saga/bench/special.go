package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/tcc"
)

// fillLog writes finished transactions of two branches as the log holds them,
// with MariaDB's sequence tables.
func fillLog(db *Database, n int) error {
	const chunk = 250_000
	for from := 1; from <= n; from += chunk {
		sequence := fmt.Sprintf("seq_%d_to_%d", from, min(n, from+chunk-1))
		const gid, ago = "CONCAT('old-', LPAD(seq, 8, '0'))", "UTC_TIMESTAMP(6) - INTERVAL 1 HOUR"
		for _, fill := range []string{
			"INSERT INTO saga_transactions (gid, pattern, state, digest, reason, decided_by, attention, owner, epoch, failures, created_at, deadline_at, decided_at, finished_at) SELECT " +
				gid + ", 'tcc', 'confirmed', SHA2(seq, 256), '', 'caller', '', '', 1, 0, " + ago + ", " + ago + ", " + ago + ", " + ago + " FROM " + sequence,
			"INSERT INTO saga_branches (gid, branch_id, kind, payload) SELECT " + gid + `, b, k, p FROM ` + sequence +
				` JOIN (SELECT '01' b, 'stock.lock' k, '{"items":[{"sku":"sku-001","quantity":1}]}' p UNION SELECT '02', 'bench.sent', '{"Text":"o-1234567"}') x`,
			"INSERT INTO saga_barrier (gid, branch_id, state, tried_at, confirmed_at, turned_away) SELECT " + gid + ", b, 'confirmed', " + ago + ", " + ago +
				", 0 FROM " + sequence + " JOIN (SELECT '01' b UNION SELECT '02') x",
		} {
			if err := db.Exec(fill).Error; err != nil {
				return fmt.Errorf("filling the log: %w", err)
			}
		}
	}
	return nil
}

// reserve leaves transactions open, or decides them.
func (e *Embedded) reserve(ctx context.Context, n int, decide bool) error {
	const callers = 32
	errs := make(chan error, callers)
	var reserving sync.WaitGroup
	for i := range callers {
		reserving.Go(func() {
			for k := i; k < n; k += callers {
				o := Order{ID: fmt.Sprintf("open-%d", k), SKU: spread(int64(k))}
				tx, err := tcc.BeginWith(ctx, e.orch, o.ID, saga.Options{Timeout: time.Hour})
				for _, p := range e.plan(o) {
					if err == nil {
						err = tx.Try(ctx, p)
					}
				}
				if err == nil && decide {
					_, err = tx.Confirm(ctx)
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	reserving.Wait()
	close(errs)
	return <-errs
}

// recovery measures how many transactions per second are brought to their end
// that a killed process has left decided, while callers place new orders.
func (s *Suite) recovery(ctx context.Context) error {
	db, err := openDatabase(ctx, "mysql")
	if err != nil {
		return err
	}
	if err := leave(db, s.Left); err != nil {
		return err
	}
	e, err := newEmbedded(ctx, "tccsaga", db)
	if err != nil {
		return err
	}
	placing, stop := context.WithCancel(ctx)
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for placing.Err() == nil {
				n := orders.Add(1)
				if err := e.Place(ctx, Order{ID: fmt.Sprintf("o-%d", n), SKU: spread(n)}); err != nil {
					fmt.Fprintln(os.Stderr, "while recovering:", err)
					return
				}
			}
		})
	}
	var peak uint64
	for left := int64(1); left > 0; {
		// Rarely, because the question itself costs the database something.
		time.Sleep(500 * time.Millisecond)
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		peak = max(peak, stats.HeapInuse)
		if err := db.Raw("SELECT COUNT(*) FROM (SELECT 1 FROM saga_transactions WHERE due_at IS NOT NULL AND gid LIKE 'left-%' LIMIT 1) x").Scan(&left).Error; err != nil {
			stop()
			return err
		}
	}
	stop()
	callers.Wait()
	var took, placed float64
	err = db.Raw(`WITH recovered AS (SELECT MIN(finished_at) began, MAX(finished_at) ended FROM saga_transactions WHERE gid LIKE 'left-%')
		SELECT TIMESTAMPDIFF(MICROSECOND, began, ended) / 1e6,
			(SELECT COUNT(*) FROM saga_transactions WHERE gid LIKE 'o-%' AND finished_at BETWEEN began AND ended) FROM recovered`).Row().Scan(&took, &placed)
	if err != nil {
		return err
	}
	placed /= took
	s.recovered = append(s.recovered, float64(s.Left)/took)
	s.peakMemory = append(s.peakMemory, float64(peak)/(1<<20))
	s.placed = append(s.placed, placed)
	var unsold int64
	err = db.Raw("SELECT SUM(locked) FROM saga_stock").Scan(&unsold).Error
	if err == nil && unsold != 0 {
		err = fmt.Errorf("%d pieces are still locked", unsold)
	}
	if !s.Short {
		fmt.Fprintf(os.Stderr, "recovery: %.0f/s, while %.0f/s new ones were placed; %.0f MiB of heap\n", float64(s.Left)/took, placed, float64(peak)/(1<<20))
	}
	return errors.Join(err, e.Close())
}

// leave writes transactions as a process leaves them that dies after the
// decisions, before any Confirm.
func leave(db *Database, n int) error {
	const gid = "CONCAT('left-', LPAD(seq, 7, '0'))"
	sku := fmt.Sprintf("CONCAT('sku-', LPAD(seq MOD %d, 3, '0'))", articles)
	sequence := fmt.Sprintf("seq_1_to_%d", n)
	for _, statement := range []string{
		"INSERT INTO saga_transactions (gid, pattern, state, digest, reason, decided_by, attention, owner, epoch, failures, created_at, deadline_at, due_at, decided_at) SELECT " +
			gid + ", 'tcc', 'confirming', SHA2(seq, 256), '', 'caller', '', 'dead', 1, 0, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) - INTERVAL seq MICROSECOND, UTC_TIMESTAMP(6) FROM " + sequence,
		"INSERT INTO saga_branches (gid, branch_id, kind, payload) SELECT " + gid + `, '01', 'stock.lock', CONCAT('{"items":[{"sku":"', ` + sku + `, '","quantity":1}]}') FROM ` + sequence,
		"INSERT INTO saga_branches (gid, branch_id, kind, payload) SELECT " + gid + `, '02', 'bench.sent', CONCAT('{"Text":"', seq, '"}') FROM ` + sequence,
		"INSERT INTO saga_barrier (gid, branch_id, state, tried_at, turned_away) SELECT " + gid + ", b, 'tried', UTC_TIMESTAMP(6), 0 FROM " + sequence + " JOIN (SELECT '01' b UNION SELECT '02') x",
		"INSERT INTO saga_outbox (gid, branch_id, state, subject, headers, data, prepared_at, stream, sequence) SELECT " + gid + ", '02', 'prepared', 'orders.placed', '{}', seq, UTC_TIMESTAMP(6), '', 0 FROM " + sequence,
		fmt.Sprintf("UPDATE saga_stock JOIN (SELECT %s s, COUNT(*) n FROM %s GROUP BY s) x ON sku = s SET available = available - n, locked = locked + n", sku, sequence),
	} {
		if err := db.Exec(statement).Error; err != nil {
			return fmt.Errorf("leaving transactions: %w", err)
		}
	}
	return nil
}
