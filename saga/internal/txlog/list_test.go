package txlog_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// In a large log, the lists of what a person has to look at, and of what is
// unfinished, read the index of the due time, and not the log.
func TestListsUseTheIndex(t *testing.T) {
	const finished, open = 100_000, 300
	insert := func(numbers, gid, state, due, attention string) string {
		return "INSERT INTO saga_transactions (gid, pattern, state, digest, reason, reason_code, reason_branch, decided_by, attention, owner, epoch, failures, created_at, deadline_at, due_at, decided_at) " +
			"SELECT " + gid + ", 'tcc', '" + state + "', '', '', '', '', '', " + attention + ", '', 1, 0, '2020-01-01', '2020-01-01', " + due + ", '2020-01-01' FROM " + numbers
	}
	for dialect, c := range map[string]struct {
		numbers func(n int) string
		explain string
		analyze string
	}{
		"mysql":    {func(n int) string { return fmt.Sprintf("(SELECT seq AS n FROM seq_1_to_%d) s", n) }, "EXPLAIN FORMAT=JSON ", "ANALYZE TABLE saga_transactions"},
		"postgres": {func(n int) string { return fmt.Sprintf("generate_series(1, %d) AS s(n)", n) }, "EXPLAIN ", "ANALYZE saga_transactions"},
	} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := sqltest.Open(t, dialect)
			log, err := txlog.New(db)
			sagatest.Must(t, err)
			rows := []string{
				insert(c.numbers(finished), "CONCAT('a-', n)", "confirmed", "NULL", "''"),
				insert(c.numbers(open), "CONCAT('b-', n)", "confirming", "'2020-01-01'", "CASE WHEN n % 10 = 0 THEN 'a conflict' ELSE '' END"),
			}
			for _, statement := range append(rows, c.analyze) {
				sagatest.Must(t, db.Exec(statement).Error)
			}
			for name, f := range map[string]struct {
				txlog.Filter
				want int
			}{
				"attention":            {txlog.Filter{Attention: true, Limit: 100}, open / 10},
				"attention, next page": {txlog.Filter{Attention: true, After: "a-500", Limit: 100}, open / 10},
				"unfinished":           {txlog.Filter{Unfinished: true, Limit: 100}, 100},
			} {
				query, arguments := log.ListQuery(f.Filter)
				var plan []map[string]any
				sagatest.Must(t, db.Raw(c.explain+query, arguments...).Scan(&plan).Error)
				if text := fmt.Sprint(plan); !strings.Contains(text, "saga_transactions_due") || strings.Contains(text, `"key": "PRIMARY"`) {
					t.Errorf("%s: %s", name, text)
				}
				found, err := log.List(t.Context(), f.Filter)
				if err != nil || f.want >= 0 && len(found) != f.want {
					t.Errorf("%s: %d, %v", name, len(found), err)
				}
			}
		})
	}
}
