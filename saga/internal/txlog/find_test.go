package txlog_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// fill writes n transactions that began one second after each other, from 2026-01-01. Every
// tenth is unfinished: of these, every second needs attention and the third one is paused.
func fill(t *testing.T, db *gorm.DB, n int) {
	t.Helper()
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(i int) string { return begin.Add(time.Duration(i) * time.Second).Format("2006-01-02 15:04:05.000") }
	for first := 0; first < n; first += 1000 {
		var rows, branches, attempts, labels []string
		for i := first; i < min(n, first+1000); i++ {
			gid, state, due, finished, attention, paused, failures := fmt.Sprintf("order-%06d", i), "confirmed", "NULL", "'"+at(i)+"'", "", "NULL", 0
			if i%10 == 0 {
				state, due, finished = []string{"trying", "confirming", "cancelling"}[i/10%3], "'"+at(i)+"'", "NULL"
				if i%20 == 0 {
					attention, failures = "branch 01 has failed 10 times", 10
					attempts = append(attempts, fmt.Sprintf("('%s', '01', 'confirm', 1, 'Broker 100%% unreachable %d', 'i', '%s')", gid, i, at(i)))
				}
				if i == 20 {
					paused = "'" + at(i) + "'"
				}
			}
			rows = append(rows, fmt.Sprintf("('%s', 'tcc', '%s', '', 'caller', '%s', 'instance-%d', %d, '%s', '%s', %s, %s, %s)",
				gid, state, attention, i%2, failures, at(i), at(i), due, finished, paused))
			branches = append(branches, fmt.Sprintf("('%s', '01', 'kind-%d', '{}')", gid, i%3))
			for _, name := range []string{"customer", "payer"} {
				labels = append(labels, fmt.Sprintf("('%s', '%s', 'c%d', '%s')", gid, name, i%7, at(i)))
			}
		}
		for _, insert := range []struct {
			into string
			rows []string
		}{
			{"saga_transactions (gid, pattern, state, digest, decided_by, attention, owner, failures, created_at, deadline_at, due_at, finished_at, paused_at)", rows},
			{"saga_branches (gid, branch_id, kind, payload)", branches},
			{"saga_attempts (gid, branch_id, operation, attempt, error, instance, failed_at)", attempts},
			{"saga_labels (gid, name, value, created_at)", labels},
		} {
			if len(insert.rows) > 0 {
				sqltest.Exec(t, db, "INSERT INTO "+insert.into+" VALUES "+strings.Join(insert.rows, ", "))
			}
		}
	}
}

// all reads every page of a search. It returns the gids and the number of pages.
func all(t *testing.T, log *txlog.Log, s txlog.Search) (gids []string, pages int) {
	t.Helper()
	for {
		found, err := log.Find(t.Context(), s)
		sagatest.Must(t, err)
		pages++
		for _, r := range found.Records {
			gids = append(gids, r.GID)
		}
		if len(found.Records) > s.Limit {
			t.Fatalf("%d records of at most %d", len(found.Records), s.Limit)
		}
		if (found.Next == txlog.Place{}) {
			return gids, pages
		}
		s.After = found.Next
	}
}

// Each condition selects what it says, in order, over any number of pages.
func TestFind(t *testing.T) {
	const n = 600
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		fill(t, db, n)
		log, err := txlog.New(db)
		sagatest.Must(t, err)
		for name, c := range map[string]struct {
			search txlog.Search
			match  func(i int) bool
		}{
			"all":           {txlog.Search{}, func(int) bool { return true }},
			"states":        {txlog.Search{States: []string{"trying", "cancelling"}}, func(i int) bool { return i%10 == 0 && i/10%3 != 1 }},
			"confirmed":     {txlog.Search{States: []string{"confirmed"}}, func(i int) bool { return i%10 != 0 }},
			"pattern":       {txlog.Search{Pattern: "saga"}, func(int) bool { return false }},
			"prefix":        {txlog.Search{Prefix: "order-0001"}, func(i int) bool { return i/100 == 1 }},
			"longest":       {txlog.Search{Prefix: "order-000123"}, func(i int) bool { return i == 123 }},
			"no prefix":     {txlog.Search{Prefix: "Order-"}, func(int) bool { return false }},
			"unfinished":    {txlog.Search{Unfinished: true}, func(i int) bool { return i%10 == 0 }},
			"attention":     {txlog.Search{Unfinished: true, Attention: true}, func(i int) bool { return i%20 == 0 }},
			"paused":        {txlog.Search{Unfinished: true, Paused: true}, func(i int) bool { return i == 20 }},
			"kind":          {txlog.Search{Kind: "kind-2"}, func(i int) bool { return i%3 == 2 }},
			"owner":         {txlog.Search{Owner: "instance-1"}, func(i int) bool { return i%2 == 1 }},
			"label":         {txlog.Search{Label: "customer", Value: "c3"}, func(i int) bool { return i%7 == 3 }},
			"any label":     {txlog.Search{Value: "c3"}, func(i int) bool { return i%7 == 3 }},
			"another label": {txlog.Search{Label: "order", Value: "c3"}, func(i int) bool { return false }},
			"label, prefix": {txlog.Search{Value: "c3", Prefix: "order-0002", Unfinished: true}, func(i int) bool { return i%7 == 3 && i/100 == 2 && i%10 == 0 }},
			"text":          {txlog.Search{Text: "broker 100% UN"}, func(i int) bool { return i%20 == 0 }},
			"text, literal": {txlog.Search{Text: "broker 1_0"}, func(int) bool { return false }},
			"text, reason":  {txlog.Search{Text: "failed 10 times"}, func(i int) bool { return i%20 == 0 }},
			"after":         {txlog.Search{CreatedAfter: begin.Add(400 * time.Second)}, func(i int) bool { return i > 400 }},
			"between":       {txlog.Search{CreatedAfter: begin.Add(400 * time.Second), CreatedBefore: begin.Add(403 * time.Second)}, func(i int) bool { return i == 401 || i == 402 }},
			"prefix, after": {txlog.Search{Prefix: "order-", CreatedAfter: begin.Add(400 * time.Second)}, func(i int) bool { return i > 400 }},
			"label, after":  {txlog.Search{Value: "c3", CreatedAfter: begin.Add(400 * time.Second)}, func(i int) bool { return i > 400 && i%7 == 3 }},
			"two":           {txlog.Search{Kind: "kind-0", Unfinished: true}, func(i int) bool { return i%30 == 0 }},
		} {
			for _, oldestFirst := range []bool{false, true} {
				var want []string
				for i := range n {
					if c.match(i) {
						want = append(want, fmt.Sprintf("order-%06d", i))
					}
				}
				if !oldestFirst {
					slices.Reverse(want)
				}
				s := c.search
				s.OldestFirst, s.Limit = oldestFirst, 7
				if got, _ := all(t, log, s); !slices.Equal(got, want) {
					t.Errorf("%s, oldest first %t: %d found, %d wanted: %v", name, oldestFirst, len(got), len(want), got)
				}
				if got, more, err := log.Count(t.Context(), s, 100); err != nil || got != min(100, len(want)) || more != (len(want) > 100) {
					t.Errorf("%s: counted %d, more %t, of %d, %v", name, got, more, len(want), err)
				}
			}
		}
	})
}

// A search for few of many looks at a window at a time, and says where to continue.
func TestFindLooksAtAWindow(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		windows := 1
		if db.Name() == "sqlite" {
			windows = 2
		}
		n := windows*txlog.Window + 500
		fill(t, db, n)
		log, err := txlog.New(db)
		sagatest.Must(t, err)
		for name, s := range map[string]txlog.Search{
			"newest":        {Kind: "none", Limit: 10},
			"oldest":        {Kind: "none", Limit: 10, OldestFirst: true},
			"prefix":        {Prefix: "order-", Kind: "none", Limit: 10},
			"prefix, count": {Prefix: "order-", States: []string{"confirming"}, Limit: 1000},
		} {
			first, err := log.Find(t.Context(), s)
			sagatest.Must(t, err)
			if (first.Next == txlog.Place{}) {
				t.Errorf("%s: no next", name)
			}
			if gids, pages := all(t, log, s); pages != windows+1 || s.Kind == "none" && len(gids) != 0 || s.Kind == "" && len(gids) != n/30 {
				t.Errorf("%s: %d transactions on %d pages", name, len(gids), pages)
			}
			if got, more, err := log.Count(t.Context(), s, 1000); err != nil || !more || got > txlog.Window/30+1 {
				t.Errorf("%s: counted %d, more %t, %v", name, got, more, err)
			}
		}
		if groups, err := log.Unfinished(t.Context()); err != nil || len(groups) < 3 {
			t.Errorf("%v, %v", groups, err)
		}
	})
}

// The searches of a large log read along an index.
func TestFindUsesAnIndex(t *testing.T) {
	explain := map[string]string{"mysql": "EXPLAIN FORMAT=JSON ", "postgres": "EXPLAIN ", "sqlite": "EXPLAIN QUERY PLAN "}
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		fill(t, db, 20_000)
		dialect := db.Name()
		sqltest.Exec(t, db, map[string]string{"mysql": "ANALYZE TABLE saga_transactions, saga_labels, saga_branches, saga_attempts", "postgres": "ANALYZE", "sqlite": "ANALYZE"}[dialect])
		log, err := txlog.New(db)
		sagatest.Must(t, err)
		planOf := func(query txlog.Statement) string {
			var plan []map[string]any
			sagatest.Must(t, db.Raw(explain[dialect]+query.SQL, query.Arguments...).Scan(&plan).Error)
			return fmt.Sprint(plan)
		}
		after := txlog.Place{Micros: time.Date(2026, 1, 1, 3, 0, 0, 0, time.UTC).UnixMicro(), GID: "order-010800"}
		end := txlog.Place{Micros: after.Micros - 100_000_000, GID: "order-010700"}
		for name, c := range map[string]struct {
			search txlog.Search
			index  string
			end    txlog.Place
		}{
			"newest":           {txlog.Search{Limit: 50}, "saga_transactions_created", txlog.Place{}},
			"newest, next":     {txlog.Search{Limit: 50, After: after}, "saga_transactions_created", txlog.Place{}},
			"oldest, next":     {txlog.Search{Limit: 50, After: after, OldestFirst: true}, "saga_transactions_created", txlog.Place{}},
			"window":           {txlog.Search{Limit: 50, After: after, Owner: "nobody"}, "saga_transactions_created", end},
			"unfinished":       {txlog.Search{Limit: 50, Unfinished: true}, "saga_transactions_finished", txlog.Place{}},
			"unfinished, next": {txlog.Search{Limit: 50, Unfinished: true, After: after}, "saga_transactions_finished", txlog.Place{}},
			"attention":        {txlog.Search{Limit: 50, Unfinished: true, Attention: true}, "saga_transactions_finished", txlog.Place{}},
			"label":            {txlog.Search{Limit: 50, Value: "c3"}, "saga_labels_value", txlog.Place{}},
			"label, next":      {txlog.Search{Limit: 50, Label: "customer", Value: "c3", After: after}, "saga_labels_value", txlog.Place{}},
		} {
			for _, query := range log.FindQueries(c.search, c.end) {
				text := planOf(query)
				if !strings.Contains(text, c.index) || strings.Contains(text, "filesort") && !strings.Contains(text, "saga_labels") || strings.Contains(text, "Seq Scan on saga_transactions") || strings.Contains(text, "TEMP B-TREE") {
					t.Errorf("%s: %s\n%s", name, query.SQL, text)
				}
			}
		}
		if text := planOf(log.UnfinishedQuery()); !strings.Contains(text, "saga_transactions_finished") || strings.Contains(text, "Sort Key: saga_transactions.created_at") {
			t.Errorf("unfinished: %s", text)
		}
		// The branches and attempts are those of the transactions of the window.
		for _, search := range []txlog.Search{{Kind: "none"}, {Text: "none"}} {
			search.Limit = 50
			queries := append(log.FindQueries(search, end), log.CountQuery(search, txlog.Place{Micros: end.Micros - 5_000_000_000, GID: "order-000100"}))
			for _, query := range queries {
				if text := planOf(query); strings.Contains(text, "Seq Scan") || strings.Contains(text, "semi") {
					t.Errorf("%s\n%s", query.SQL, text)
				}
			}
		}
	})
}

// The acts on one transaction or kind are read along the primary key, however many others there are.
func TestActsUseAnIndex(t *testing.T) {
	explain := map[string]string{"mysql": "EXPLAIN FORMAT=JSON ", "postgres": "EXPLAIN ", "sqlite": "EXPLAIN QUERY PLAN "}
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for first := 0; first < 5_000; first += 1000 {
			var rows []string
			for i := first; i < first+1000; i++ {
				rows = append(rows, fmt.Sprintf("('order-%d', '', 1, 'retry', 'ann', 'a test', '2026-01-01 00:00:00.000')", i))
			}
			sqltest.Exec(t, db, "INSERT INTO saga_acts (gid, kind, number, act, who, why, acted_at) VALUES "+strings.Join(rows, ", "))
		}
		dialect := db.Name()
		sqltest.Exec(t, db, map[string]string{"mysql": "ANALYZE TABLE saga_acts", "postgres": "ANALYZE", "sqlite": "ANALYZE"}[dialect])
		log, err := txlog.New(db)
		sagatest.Must(t, err)
		for _, s := range []txlog.ActSearch{{GID: "order-7", Limit: 20}, {Kind: "none", Limit: 20, Who: "ann"}, {GID: "order-7", Limit: 20, After: txlog.ActPlace{Micros: 1, GID: "order-7", Number: 7}}} {
			query := log.ActsQuery(s)
			var plan []map[string]any
			sagatest.Must(t, db.Raw(explain[dialect]+query.SQL, query.Arguments...).Scan(&plan).Error)
			text := fmt.Sprint(plan)
			key := map[string]string{"mysql": "PRIMARY", "postgres": "saga_acts_pkey", "sqlite": "sqlite_autoindex_saga_acts_1"}[dialect]
			if !strings.Contains(text, key) || strings.Contains(text, "filesort") || strings.Contains(text, "Sort") || strings.Contains(text, "TEMP B-TREE") || strings.Contains(text, "Seq Scan") {
				t.Errorf("%s\n%s", query.SQL, text)
			}
		}
	})
}
