package message_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

func outboxIn(t testing.TB, db *gorm.DB) *message.Outbox {
	t.Helper()
	o, err := message.NewOutbox(db)
	sagatest.Must(t, err)
	return o
}

// listed returns all messages that a filter selects, in pages of one size.
func listed(t testing.TB, o *message.Outbox, f message.OutboxFilter, limit int) (all []message.OutboxMessage) {
	t.Helper()
	for f.Limit = limit; ; {
		page, err := o.List(t.Context(), f)
		sagatest.Must(t, err)
		if len(page.Messages) > limit {
			t.Fatalf("%d messages, the limit is %d", len(page.Messages), limit)
		}
		all = append(all, page.Messages...)
		if page.Next == "" {
			return all
		}
		if page.Next == f.After {
			t.Fatalf("the page goes on with itself: %s", page.Next)
		}
		f.After = page.Next
	}
}

func described(all []message.OutboxMessage) (texts []string) {
	for _, m := range all {
		_, last, _ := strings.Cut(m.Subject, ".")
		texts = append(texts, last+" "+string(m.State))
	}
	slices.Sort(texts)
	return texts
}

// While the broker is down, the outbox shows the messages that wait, why, and for how long. It
// shows no others.
func TestOutboxInAnOutage(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		ctx := t.Context()
		broker := newBroker(t)
		b := newBenchOn(t, db, db, connectTo(t, broker.server.ClientURL()))
		o := outboxIn(t, db)
		if stats, err := o.Stats(ctx); err != nil || stats.Waiting.N != 0 || stats.Lag != 0 || len(stats.Streams) != 0 || stats.Now.IsZero() {
			t.Errorf("%+v, %v", stats, err)
		}
		b.execute(b.publish("published", "0"))
		if _, err := tcc.Execute(ctx, b.orch, sagatest.GID(), b.publish("cancelled", "0"), phones(11)); !errors.Is(err, saga.ErrCancelled) {
			t.Fatal(err)
		}
		broker.stop()
		open, err := tcc.Begin(ctx, b.orch, sagatest.GID())
		sagatest.Must(t, err)
		sagatest.Must(t, open.Try(ctx, b.publish("open", "12345")))
		keyed := b.publish("keyed", "6")
		keyed.Key, keyed.Headers = "k", map[string][]string{"X-Tag": {"one"}}
		gid := sagatest.GID()
		outcome, err := tcc.Execute(ctx, b.orch, gid, phones(1), keyed)
		if err != nil || outcome.State != saga.Confirming {
			t.Fatalf("%+v, %v", outcome, err)
		}
		later := b.publish("later", "7")
		later.After = 240 * time.Hour
		b.execute(later)
		b.publishIn(b.publisher, b.publish("direct", "1"), b.publish("direct", "2"))

		failing := func() bool {
			stats, err := o.Stats(ctx)
			sagatest.Must(t, err)
			return stats.Failing.N >= 2 // the second one of PublishIn waits for the first one
		}
		sagatest.Eventually(t, "failed attempts", failing)
		stats, err := o.Stats(ctx)
		sagatest.Must(t, err)
		if stats.Waiting != (saga.Count{N: 5}) || stats.Due != (saga.Count{N: 3}) || stats.Failing != (saga.Count{N: 2}) || stats.Lag <= 0 ||
			stats.Oldest.IsZero() || stats.Now.Sub(stats.Oldest) != stats.Lag || len(stats.Streams) != 1 || stats.More {
			t.Errorf("%+v", stats)
		}
		if s := stats.Streams[0]; s.Stream != b.name || s.OutboxCounts != stats.OutboxCounts {
			t.Errorf("%+v", s)
		}

		for state, want := range map[message.OutboxState][]string{
			"":                      {"direct due", "direct failing", "keyed failing", "later delayed", "open undecided"},
			message.OutboxUndecided: {"open undecided"},
			message.OutboxDelayed:   {"later delayed"},
			message.OutboxDue:       {"direct due", "direct failing", "keyed failing"},
			message.OutboxFailing:   {"direct failing", "keyed failing"},
		} {
			for _, limit := range []int{1, 2, 3, 50} {
				if got := described(listed(t, o, message.OutboxFilter{State: state}, limit)); !slices.Equal(got, want) {
					t.Errorf("%q by %d: %v, want %v", state, limit, got, want)
				}
				if got := described(listed(t, o, message.OutboxFilter{State: state, Stream: b.name}, limit)); !slices.Equal(got, want) {
					t.Errorf("%q of the stream by %d: %v, want %v", state, limit, got, want)
				}
			}
			if got := listed(t, o, message.OutboxFilter{State: state, Stream: "other"}, 2); len(got) != 0 {
				t.Errorf("%+v", got)
			}
		}
		all := listed(t, o, message.OutboxFilter{}, 50)
		for _, m := range all {
			_, last, _ := strings.Cut(m.Subject, ".")
			var waits bool
			switch last {
			case "open":
				waits = m.GID == open.GID() && m.BranchID == "01" && m.Bytes == 5 && m.Headers == 2 && m.DueAt.IsZero() && m.Failures == 0 && m.Error == ""
			case "keyed":
				waits = m.GID == gid && m.BranchID == "02" && m.ID == b.id(gid, "02") && m.Key == "k" && m.Headers > 10 && m.Failures > 0 && m.Error != "" && !m.DueAt.IsZero()
			case "later":
				waits = m.GID != "" && m.DueAt.Sub(stats.Now) > 239*time.Hour && m.NextAt.IsZero()
			case "direct":
				waits = m.GID == "" && m.BranchID == "" && (m.After == "") == (m.State == message.OutboxFailing) && (m.Error != "") == (m.State == message.OutboxFailing) && !m.DueAt.After(stats.Now)
			}
			if !waits || m.Stream != b.name || m.ID == "" || strings.Contains(fmt.Sprint(m), "X-Tag") {
				t.Errorf("%+v", m)
			}
		}

		_, err = open.Confirm(ctx)
		sagatest.Must(t, err)
		broker.start()
		sagatest.Eventually(t, "all but the delayed one are published", func() bool {
			return slices.Equal(described(listed(t, o, message.OutboxFilter{}, 50)), []string{"later delayed"})
		})
		if stats, err = o.Stats(ctx); err != nil || stats.Waiting.N != 1 || stats.Due.N != 0 || stats.Lag != 0 || !stats.Oldest.IsZero() {
			t.Errorf("%+v, %v", stats, err)
		}
	})
}

// A filter that is not valid is refused.
func TestOutboxRefusals(t *testing.T) {
	t.Parallel()
	o := outboxIn(t, sqltest.Open(t, "sqlite"))
	for says, f := range map[string]message.OutboxFilter{
		"the state is": {State: "published"}, "between 0 and 1,000": {Limit: 1001}, "the limit is -1": {Limit: -1}, "the end of a page": {After: "?"}, "the text \"e30x": {After: "e30x"},
	} {
		if _, err := o.List(t.Context(), f); !errors.Is(err, message.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	for _, db := range []*gorm.DB{nil, {}} {
		if _, err := message.NewOutbox(db); !errors.Is(err, message.ErrInvalid) {
			t.Errorf("%v", err)
		}
	}
}

// In an outbox with many messages, a call looks at a bounded number of them, and the next page
// goes on behind these.
func TestLargeOutbox(t *testing.T) {
	const others, transactions = 20_500, 10_500
	series := map[string]func(n int) string{
		"mysql":    func(n int) string { return fmt.Sprintf("(SELECT seq AS n FROM seq_1_to_%d) s", n) },
		"postgres": func(n int) string { return fmt.Sprintf("generate_series(1, %d) AS s(n)", n) },
		"sqlite": func(n int) string {
			return fmt.Sprintf("(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < %d) SELECT n FROM s) s", n)
		},
	}
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		ctx := t.Context()
		numbers, past := series[db.Name()], "'2020-01-01 00:00:00.000'"
		text := func(prefix string) string { return "'" + prefix + "' || n" }
		if db.Name() == "mysql" {
			text = func(prefix string) string { return "CONCAT('" + prefix + "', n)" }
		}
		insert := func(n int, table, columns, values string) {
			sqltest.Exec(t, db, "INSERT INTO "+table+" ("+columns+") SELECT "+values+" FROM "+numbers(n))
		}
		const row = "message_id, gid, branch_id, destination, subject, headers, data, due_at, failures"
		// Only the last ones fail.
		insert(others, "saga_outbox_delayed", row, text("m")+", '', '', 'big', 's', '{}', 'x', "+past+", CASE WHEN n > 20300 THEN 1 ELSE 0 END")
		insert(150, "saga_outbox_delayed", row, text("s")+", '', '', "+text("stream")+", 's', '{}', 'x', "+past+", 0")
		const record = "gid, pattern, state, digest, reason, reason_code, reason_branch, decided_by, attention, owner, epoch, failures, created_at, deadline_at, due_at, decided_at"
		insert(transactions, "saga_transactions", record, text("g")+", 'tcc', 'confirming', '', '', '', '', '', '', '', 1, 0, "+past+", "+past+", "+past+", "+past)
		insert(transactions, "saga_outbox", "gid, branch_id, state, subject, headers, data, prepared_at, destination, message_id", text("g")+
			", '01', CASE WHEN n % 100 = 0 THEN 'prepared' ELSE 'published' END, 's', '{}', 'x', "+past+", 'big', "+text("p"))
		if db.Name() != "sqlite" { // the log's own statistics
			sqltest.Exec(t, db, map[string]string{"mysql": "ANALYZE TABLE saga_outbox", "postgres": "ANALYZE"}[db.Name()])
		}

		o := outboxIn(t, db)
		stats, err := o.Stats(ctx)
		sagatest.Must(t, err)
		if !stats.Waiting.More || !stats.Due.More || !stats.Failing.More || !stats.More || len(stats.Streams) != 100 || stats.Lag < 24*time.Hour {
			t.Errorf("%+v, %d streams", stats.OutboxCounts, len(stats.Streams))
		}
		if s := stats.Streams[0]; s.Stream != "big" || s.Waiting.N < 1000 || s.Waiting.N > 1000+transactions/100 || !s.Waiting.More || !s.Failing.More || s.Failing.N != 0 {
			t.Errorf("%+v", s)
		}
		if s := stats.Streams[1]; s.Waiting != (saga.Count{N: 1}) || s.Due != (saga.Count{N: 1}) || s.Failing != (saga.Count{}) {
			t.Errorf("%+v", s)
		}

		// The messages of transactions come first.
		page, err := o.List(ctx, message.OutboxFilter{Limit: 1000})
		sagatest.Must(t, err)
		if n := len(page.Messages); n < 90 || n > transactions/100 || page.Next == "" || page.Messages[0].GID == "" {
			t.Errorf("%d, %q", n, page.Next)
		}
		if got := listed(t, o, message.OutboxFilter{}, 1000); len(got) != others+150+transactions/100 {
			t.Errorf("%d messages", len(got))
		}
		seen := map[string]bool{}
		for _, m := range listed(t, o, message.OutboxFilter{State: message.OutboxDue, Stream: "big"}, 700) {
			if seen[m.ID] {
				t.Fatalf("%s twice", m.ID)
			}
			seen[m.ID] = true
		}
		if len(seen) != others+transactions/100 {
			t.Errorf("%d messages", len(seen))
		}
		// A search for what fails looks at a window at a time.
		f, pages := message.OutboxFilter{State: message.OutboxFailing, Limit: 1000}, 1
		for {
			page, err := o.List(ctx, f)
			sagatest.Must(t, err)
			if len(page.Messages) > 0 || page.Next == "" {
				break
			}
			f.After = page.Next
			pages++
		}
		if got := listed(t, o, f, 1000); len(got) != 200 || pages < 2 || pages > 6 {
			t.Errorf("%d are failing, found on page %d", len(got), pages)
		}
	})
}

// If transactions end while a page is read, a message is not shown twice.
func TestOutboxStep(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for i := range 1100 {
			gid := fmt.Sprintf("g%04d", i)
			at := fmt.Sprintf("2020-01-01 00:%02d:%02d.000", i/60, i%60)
			sqltest.Exec(t, db, "INSERT INTO saga_transactions (gid, pattern, state, digest, decided_by, owner, created_at, deadline_at) VALUES (?, 'tcc', 'trying', '', '', '', ?, ?)", gid, at, at)
			if i >= 990 {
				sqltest.Exec(t, db, "INSERT INTO saga_outbox (gid, branch_id, state, subject, headers, data, prepared_at, message_id) VALUES (?, '01', 'prepared', 's', '{}', 'x', ?, ?)", gid, at, gid)
			}
		}
		// The first 20 end between the two statements of the first step.
		var once sync.Once
		sagatest.Must(t, db.Callback().Row().Before("gorm:row").Register("end", func(tx *gorm.DB) {
			if strings.Contains(tx.Statement.SQL.String(), "saga_outbox") {
				once.Do(func() {
					sqltest.Exec(t, db, "UPDATE saga_transactions SET finished_at = created_at WHERE gid < 'g0020'")
				})
			}
		}))
		seen := map[string]bool{}
		for _, m := range listed(t, outboxIn(t, db), message.OutboxFilter{}, 1000) {
			if seen[m.ID] {
				t.Errorf("%s twice", m.ID)
			}
			seen[m.ID] = true
		}
		if len(seen) != 110 {
			t.Errorf("%d messages", len(seen))
		}
	})
}
