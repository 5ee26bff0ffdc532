package txlog_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// The look for due transactions does not pass those that wait: its cost is the same
// beside none and beside hundreds of thousands.
func TestLookingForDueWorkBesideManyThatWait(t *testing.T) {
	t.Parallel()
	waiting := 300_000
	if testing.Short() {
		waiting = 30_000
	}
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := sqltest.Open(t, dialect)
			log, err := txlog.New(db)
			sagatest.Must(t, err)
			b := bench{t, db, log}
			sagatest.Must(t, log.Renew(t.Context(), txlog.Instance{ID: "other"}, time.Hour))
			series, hour := fmt.Sprintf("seq_1_to_%d", waiting), "UTC_TIMESTAMP(6) + INTERVAL 1 HOUR"
			if dialect == "postgres" {
				series, hour = fmt.Sprintf("generate_series(1, %d) seq", waiting), "clock_timestamp() + INTERVAL '1 hour'"
			}
			fill := "INSERT INTO saga_transactions (gid, pattern, state, digest, reason, decided_by, attention, owner, epoch, failures, created_at, deadline_at, due_at) " +
				"SELECT CONCAT('waits-', seq), 'tcc', 'trying', '', '', '', '', '', 1, 0, " + hour + ", " + hour + ", " + hour + " FROM " + series
			sagatest.Must(t, db.Exec(fill).Error)
			for _, analyzed := range []bool{false, true} {
				if analyzed {
					sagatest.Must(t, db.Exec(map[string]string{"mysql": "ANALYZE TABLE saga_transactions", "postgres": "ANALYZE saga_transactions"}[dialect]).Error)
				}
				if passed := b.looked(dialect); passed > 100 {
					t.Errorf("analyzed %t: looking for due work passed %d rows or pages of %d", analyzed, passed, waiting)
				}
			}
			b.claimsOne()
		})
	}
}

// looked makes the look, and counts what it passed: pages in PostgreSQL, rows in
// MariaDB.
func (b bench) looked(dialect string) (passed int) {
	b.Helper()
	query := b.log.CandidatesQuery()
	if dialect == "postgres" {
		var lines []string
		sagatest.Must(b, b.db.Raw("EXPLAIN (ANALYZE, BUFFERS) "+inline(query, "0::bigint", "0::bigint", "''", "'me'", "1000")).Scan(&lines).Error)
		plan := strings.Join(lines, "\n")
		if !strings.Contains(plan, "Index Cond: ((due_at >=") || strings.Contains(plan, "Seq Scan on saga_transactions") {
			b.Errorf("the plan has no index condition on both sides:\n%s", plan)
		}
		for _, line := range lines {
			if strings.HasPrefix(line, "Planning:") {
				break
			}
			if _, counts, found := strings.Cut(line, "Buffers: shared "); found {
				for _, count := range strings.Fields(counts) {
					var n int
					if _, err := fmt.Sscanf(count, "hit=%d", &n); err == nil {
						passed = max(passed, n)
					} else if _, err := fmt.Sscanf(count, "read=%d", &n); err == nil {
						passed = max(passed, n)
					}
				}
			}
		}
		return passed
	}
	err := b.db.Connection(func(tx *gorm.DB) error {
		if err := tx.Exec("FLUSH STATUS").Error; err != nil {
			return err
		}
		var rows []map[string]any
		if err := tx.Raw(inline(query, "0", "0", "''", "'me'", "1000")).Scan(&rows).Error; err != nil {
			return err
		}
		var counters []struct {
			Name  string `gorm:"column:Variable_name"`
			Value int    `gorm:"column:Value"`
		}
		if err := tx.Raw("SHOW SESSION STATUS LIKE 'Handler_read%'").Scan(&counters).Error; err != nil {
			return err
		}
		for _, c := range counters {
			passed += c.Value
		}
		return nil
	})
	sagatest.Must(b, err)
	return passed
}

// inline puts values in the place of parameters.
func inline(query string, values ...string) string {
	for i, value := range values {
		if place := fmt.Sprintf("$%d", i+1); strings.Contains(query, place) {
			query = strings.ReplaceAll(query, place, value)
		} else {
			query = strings.Replace(query, "?", value, 1)
		}
	}
	return query
}

// claimsOne checks that what becomes due beside them is found.
func (b bench) claimsOne() {
	b.Helper()
	start := txlog.Start{GID: "due", State: txlog.Trying, Deadline: time.Hour}
	sagatest.Must(b, b.db.Transaction(func(tx *gorm.DB) error { return b.log.Insert(b.Context(), tx, start) }))
	claims, err := b.log.Claim(b.Context(), txlog.Claim{Instance: "me", Page: 1000, Limit: 10, Bytes: 1 << 20, Due: time.Hour,
		Busy: func(string) bool { return false }, Knows: func(string) bool { return true }})
	if err != nil || len(claims.Claimed) != 1 || claims.Claimed[0].GID != "due" {
		b.Errorf("claimed %d: %v", len(claims.Claimed), err)
	}
}
