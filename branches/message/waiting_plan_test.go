package message_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// In a large log, the messages of unfinished transactions are found along the index of what is
// unfinished, and neither the transactions nor the outbox are read as a whole.
func TestOutboxUsesTheIndexes(t *testing.T) {
	const finished, unfinished = 50_000, 3000
	for dialect, c := range map[string]struct {
		numbers, explain, analyze, at, never string
	}{
		"mysql": {"(SELECT seq AS n FROM seq_1_to_%d) s", "EXPLAIN FORMAT=JSON ", "ANALYZE TABLE saga_transactions, saga_outbox",
			"TIMESTAMP'2020-01-01 00:00:00' + INTERVAL n SECOND", "saga_transactions_created"},
		"postgres": {"generate_series(1, %d) AS s(n)", "EXPLAIN ", "ANALYZE", "TIMESTAMPTZ '2020-01-01' + n * INTERVAL '1 second'", "Seq Scan"},
	} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := sqltest.Open(t, dialect)
			insert := func(n int, gid, state, ended string) {
				from := " FROM " + fmt.Sprintf(c.numbers, n)
				sqltest.Exec(t, db, "INSERT INTO saga_transactions (gid, pattern, state, digest, decided_by, owner, created_at, deadline_at, finished_at) SELECT CONCAT('"+gid+
					"', n), 'tcc', '"+state+"', '', '', '', "+c.at+", "+c.at+", "+ended+from)
				sqltest.Exec(t, db, "INSERT INTO saga_outbox (gid, branch_id, state, subject, headers, data, prepared_at) SELECT CONCAT('"+gid+
					"', n), '01', 'prepared', 's', '{}', 'x', "+c.at+from)
			}
			insert(finished, "f", "confirmed", c.at)
			insert(unfinished, "u", "confirming", "NULL")
			for _, analyzed := range []bool{false, true} {
				if analyzed {
					sqltest.Exec(t, db, c.analyze)
				}
				for _, begin := range []int64{0, 1_577_837_000_000_000} {
					query, arguments := outboxIn(t, db).PreparedQuery(begin)
					var plan []map[string]any
					sagatest.Must(t, db.Raw(c.explain+query, arguments...).Scan(&plan).Error)
					if text := fmt.Sprint(plan); !strings.Contains(text, "saga_transactions_finished") || strings.Contains(text, c.never) || strings.Contains(text, "filesort") {
						t.Errorf("%v, from %d: %s", analyzed, begin, text)
					}
				}
			}
		})
	}
}
