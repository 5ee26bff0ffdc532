package embedded_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

func operations(t *testing.T, db *gorm.DB) *embedded.Operations {
	t.Helper()
	o, err := embedded.OpenOperations(t.Context(), db, embedded.OperationsConfig{})
	sagatest.Must(t, err)
	t.Cleanup(o.Close)
	return o
}

// begin opens a transaction with one branch that has been tried.
func begin(t *testing.T, engine saga.Engine, gid, kind string) {
	t.Helper()
	sagatest.Must(t, engine.Begin(t.Context(), saga.Opening{GID: gid, Pattern: "test", Timeout: time.Hour}))
	sagatest.Must(t, engine.Try(t.Context(), gid, "01", saga.Step{Kind: kind}))
}

// Operations without an engine act on the log only, and a running engine does the rest. They
// take no lease and own nothing.
func TestOperationsWithoutAnEngine(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		config := still
		config.Poll = 20 * time.Millisecond
		orch := opened(t, db, config, outside("o", func(saga.Call) error { return nil }))
		o := operations(t, db)
		if o.LogID() != orch.LogID() {
			t.Errorf("log %q, and %q of the engine", o.LogID(), orch.LogID())
		}
		begin(t, orch, "confirm", "o")
		begin(t, orch, "cancel", "o")
		begin(t, orch, "paused", "o")
		if outcome, err := o.Decide(t.Context(), "confirm", saga.Confirming, operator); err != nil || outcome.State != saga.Confirming {
			t.Errorf("confirm: %+v, %v", outcome, err)
		}
		if outcome, err := o.Decide(t.Context(), "cancel", saga.Cancelling, operator); err != nil || outcome.State != saga.Cancelling {
			t.Errorf("cancel: %+v, %v", outcome, err)
		}
		sagatest.Must(t, o.Pause(t.Context(), "paused", operator))
		_, err := o.Decide(t.Context(), "paused", saga.Confirming, operator)
		sagatest.Must(t, err)
		if state := ends(t, orch, "confirm"); state != saga.Confirmed {
			t.Error(state)
		}
		if outcome, err := o.Wait(t.Context(), "cancel"); outcome.State != saga.Cancelled || !errors.Is(err, saga.ErrCancelled) {
			t.Errorf("%+v, %v", outcome, err)
		}
		if found, err := o.Lookup(t.Context(), "paused"); err != nil || found.State != saga.Confirming || found.Owner != "" || len(found.Acts) != 2 {
			t.Errorf("%+v, %v", found, err)
		}
		sagatest.Must(t, o.Resume(t.Context(), "paused", operator))
		ends(t, orch, "paused")

		instances, err := o.Instances(t.Context())
		if err != nil || len(instances) != 1 || instances[0].ID != orch.Instance() || !instances[0].Alive || instances[0].This {
			t.Errorf("%+v, %v", instances, err)
		}
		if own, err := orch.Operations().Instances(t.Context()); err != nil || len(own) != 1 || !own[0].This {
			t.Errorf("%+v, %v", own, err)
		}
		if kinds, err := o.Kinds(t.Context()); err != nil || len(kinds) != 0 {
			t.Errorf("%+v, %v", kinds, err)
		}
		if kinds, err := orch.Operations().Kinds(t.Context()); err != nil || len(kinds) != 1 || kinds[0].Circuit == nil || kinds[0].Circuit.Open {
			t.Errorf("%+v, %v", kinds, err)
		}
		o.Close()
		if _, err := orch.Lookup(t.Context(), "confirm"); err != nil {
			t.Error(err)
		}
	})
}

// Operations with a registered kind read its barrier rows, and still call no branch.
func TestOperationsCallNoBranch(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		orch := opened(t, db, still, outside("o", func(saga.Call) error { return nil }))
		o := operations(t, db)
		watched := outside("o", func(c saga.Call) error { t.Errorf("called: %+v", c); return nil })
		sagatest.Must(t, o.Register(saga.NewExternal(watched.Kind, watched.Encode, saga.External{
			Try: watched.Effects[barrier.Try], Confirm: watched.Effects[barrier.Confirm], Cancel: watched.Effects[barrier.Cancel]})))
		begin(t, orch, "a", "o")
		found, err := o.Lookup(t.Context(), "a")
		if err != nil || found.Branches[0].Barrier == nil || found.Branches[0].Barrier.State != barrier.StateTried {
			t.Errorf("%+v, %v", found, err)
		}
		if outcome, err := o.Decide(t.Context(), "a", saga.Confirming, operator); err != nil || outcome.State != saga.Confirming {
			t.Errorf("%+v, %v", outcome, err)
		}
		ends(t, orch, "a")
	})
}

// A refusal that is foretold is the refusal of the act.
func TestRefusal(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		fail := errors.New("it fails")
		orch := opened(t, db, still, outside("ok", func(saga.Call) error { return nil }), outside("fails", func(c saga.Call) error {
			if c.Op != barrier.Try {
				return fail
			}
			return nil
		}))
		begin(t, orch, "open", "ok")
		sagatest.Must(t, orch.Begin(t.Context(), saga.Opening{GID: "empty", Pattern: "test"}))
		begin(t, orch, "paused", "ok")
		sagatest.Must(t, orch.Pause(t.Context(), "paused", operator))
		begin(t, orch, "failing", "fails")
		_, err := orch.Confirm(t.Context(), "failing", saga.Options{})
		sagatest.Must(t, err)
		_, err = orch.Execute(t.Context(), planOf("finished", "ok"))
		sagatest.Must(t, err)
		o := orch.Operations()
		acts := []struct {
			name string
			do   func(gid string) error
		}{
			{"pause", func(gid string) error { return o.Pause(t.Context(), gid, operator) }},
			{"retry", func(gid string) error { return o.Retry(t.Context(), gid, operator) }},
			{"resume", func(gid string) error { return o.Resume(t.Context(), gid, operator) }},
			{"resolve", func(gid string) error { return o.Resolve(t.Context(), gid, "01", saga.Confirmed, operator) }},
			{"confirm", func(gid string) error { return second(o.Decide(t.Context(), gid, saga.Confirming, operator)) }},
			{"cancel", func(gid string) error { return second(o.Decide(t.Context(), gid, saga.Cancelling, operator)) }},
		}
		for _, gid := range []string{"open", "empty", "paused", "failing", "finished"} {
			for _, act := range acts {
				found, err := o.Lookup(t.Context(), gid)
				sagatest.Must(t, err)
				foretold := o.Refusal(found, act.name, "01")
				if err := act.do(gid); (err != nil) != (foretold != "") || err != nil && act.name != "cancel" && act.name != "confirm" && !strings.Contains(err.Error(), foretold) {
					t.Errorf("%s of %s, which is %s: foretold %q, got %v", act.name, gid, found.State, foretold, err)
				}
			}
		}
		found, err := o.Lookup(t.Context(), "open")
		sagatest.Must(t, err)
		if why := o.Refusal(found, "remove", ""); why != `there is no act "remove"` {
			t.Error(why)
		}
	})
}

func TestFindOfAQuery(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		orch := opened(t, db, still, outside("o", func(saga.Call) error { return nil }))
		for i := range 5 {
			begin(t, orch, fmt.Sprint("open-", i), "o")
			_, err := orch.Execute(t.Context(), planOf(fmt.Sprint("done-", i), "o"))
			sagatest.Must(t, err)
		}
		o := operations(t, db)
		gids := map[string]bool{}
		before := time.Now().Add(time.Hour)
		for q := (saga.Query{Limit: 2}); ; {
			page, err := o.Find(t.Context(), q)
			sagatest.Must(t, err)
			for _, s := range page.Transactions {
				if gids[s.GID] || s.CreatedAt.After(before) {
					t.Errorf("%s comes twice, or after an older one", s.GID)
				}
				gids[s.GID], before = true, s.CreatedAt
				if s.Planned != strings.HasPrefix(s.GID, "done") {
					t.Errorf("%+v", s)
				}
			}
			if q.After = page.Next; page.Next == "" {
				break
			}
		}
		if len(gids) != 10 {
			t.Error(gids)
		}
		for name, c := range map[string]struct {
			query saga.Query
			want  int
		}{
			"all": {saga.Query{}, 10}, "prefix": {saga.Query{Prefix: "open-"}, 5}, "states": {saga.Query{States: []saga.State{saga.Confirmed}}, 5},
			"unfinished states": {saga.Query{States: []saga.State{saga.Trying, saga.Confirming}}, 5}, "kind": {saga.Query{Kind: "o", Unfinished: true}, 5},
			"attention": {saga.Query{Attention: true}, 0}, "label": {saga.Query{Label: "order", Value: "7"}, 0}, "text": {saga.Query{Text: "fails"}, 0},
			"owner": {saga.Query{Owner: orch.Instance()}, 5},
		} {
			if count, err := o.Count(t.Context(), c.query); err != nil || count != (saga.Count{N: c.want}) {
				t.Errorf("%s: %+v, %v", name, count, err)
			}
		}
		for name, bad := range map[string]saga.Query{
			"limit": {Limit: 1001}, "negative": {Limit: -1}, "state": {States: []saga.State{"done"}}, "after": {After: "x"}, "after, no gid": {After: "1."},
			"after, far": {After: "9223372036854775807.a"}, "label": {Label: "order"}, "value": {Value: "a\nb"}, "prefix": {Prefix: "a b"}, "text": {Text: "\xff"},
			"nul": {Text: "\x00"}, "kind": {Kind: "é"}, "owner": {Owner: strings.Repeat("o", 129)}, "time": {CreatedAfter: time.Date(-4000, 1, 1, 0, 0, 0, 0, time.UTC)},
		} {
			if _, err := o.Find(t.Context(), bad); !errors.Is(err, saga.ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := o.Count(t.Context(), bad); !errors.Is(err, saga.ErrInvalid) {
				t.Errorf("count, %s: %v", name, err)
			}
		}
	})
}

func TestOverview(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		orch := opened(t, db, still, outside("a", func(saga.Call) error { return nil }), outside("fails", func(c saga.Call) error {
			if c.Op == barrier.Confirm {
				return errors.New("it fails")
			}
			return nil
		}))
		begin(t, orch, "first", "a")
		begin(t, orch, "second", "a")
		begin(t, orch, "failing", "fails")
		_, err := orch.Confirm(t.Context(), "failing", saga.Options{})
		sagatest.Must(t, err)
		sagatest.Must(t, orch.Pause(t.Context(), "failing", operator))
		sqltest.Exec(t, db, "UPDATE saga_transactions SET attention = 'look' WHERE gid = 'failing'")
		sagatest.Must(t, orch.PauseKind(t.Context(), "a", operator))
		sagatest.Must(t, orch.PauseKind(t.Context(), "unknown", operator))
		o, err := orch.Operations().Overview(t.Context())
		sagatest.Must(t, err)
		if o.Trying.N != 2 || o.Confirming.N != 1 || o.Cancelling.N != 0 || o.Attention.N != 1 || o.Paused.N != 1 || o.Trying.More || o.Now.IsZero() {
			t.Errorf("%+v", o)
		}
		if o.OldestUndecided == nil || o.OldestUndecided.GID != "first" || o.OldestUnfinished == nil || o.OldestUnfinished.GID != "failing" {
			t.Errorf("%+v, %+v", o.OldestUndecided, o.OldestUnfinished)
		}
		_, err = orch.Cancel(t.Context(), "first", "")
		sagatest.Must(t, err)
		if o, err := orch.Operations().Overview(t.Context()); err != nil || o.Trying.N != 1 || o.OldestUndecided == nil || o.OldestUndecided.GID != "second" {
			t.Errorf("%+v, %v", o, err)
		}
		if len(o.Kinds) != 3 || o.Kinds[0].PausedAt.IsZero() || o.Kinds[1].Circuit.Failed != 1 || o.Kinds[2].Kind != "unknown" || o.Kinds[2].Registered {
			t.Errorf("%+v", o.Kinds)
		}
		if len(o.Instances) != 1 {
			t.Errorf("%+v", o.Instances)
		}
		kinds, err := orch.Operations().Kinds(t.Context())
		if err != nil || len(kinds) != 3 || len(kinds[0].Acts) != 1 || kinds[0].Acts[0].Who != operator.Who {
			t.Errorf("%+v, %v", kinds, err)
		}
	})
}

// More unfinished transactions than the bound are counted up to it.
func TestOverviewIsBounded(t *testing.T) {
	db := sqltest.Open(t, "sqlite")
	o := operations(t, db)
	sqltest.Exec(t, db, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)
		INSERT INTO saga_transactions (gid, pattern, state, digest, decided_by, owner, created_at, deadline_at, due_at)
		SELECT 'g' || i, 'tcc', 'confirming', '', 'caller', '', '2026-01-01 00:00:00.000', '2026-01-01 00:00:00.000', '2026-01-01 00:00:00.000' FROM n`)
	found, err := o.Overview(t.Context())
	if err != nil || found.Confirming != (saga.Count{N: 10_001, More: true}) || !found.Trying.More {
		t.Errorf("%+v, %v", found, err)
	}
	if count, err := o.Count(t.Context(), saga.Query{Unfinished: true}); err != nil || count != (saga.Count{N: 1000, More: true}) {
		t.Errorf("%+v, %v", count, err)
	}
}

func TestActivity(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		o := operations(t, db)
		until := time.Date(2026, 1, 1, 12, 3, 0, 0, time.UTC)
		insert := func(gid, state string, failures int, from time.Time, took time.Duration) {
			const layout = "2006-01-02 15:04:05.000"
			created, finished := from.Format(layout), from.Add(took).Format(layout)
			sqltest.Exec(t, db, "INSERT INTO saga_transactions (gid, pattern, state, digest, decided_by, owner, failures, created_at, deadline_at, finished_at) VALUES (?, 'tcc', ?, '', '', '', ?, ?, ?, ?)",
				gid, state, failures, created, created, finished)
		}
		minute := until.Add(-2 * time.Minute)
		for i := range 60 {
			state, failures := "confirmed", 0
			if i%4 == 0 {
				state = "cancelled"
			}
			if i%6 == 0 {
				failures = 2
			}
			insert(fmt.Sprint("a", i), state, failures, minute.Add(time.Duration(i)*500*time.Millisecond), time.Duration(i)*time.Millisecond)
		}
		for i := range 400 { // more than the sample, in the first 40 seconds of the next minute
			insert(fmt.Sprint("b", i), "confirmed", 0, until.Add(-time.Minute+time.Duration(i)*100*time.Millisecond), 50*time.Millisecond)
		}
		parts, err := o.Activity(t.Context(), until.Add(10*time.Second), time.Minute, 3)
		sagatest.Must(t, err)
		if len(parts) != 3 || parts[0].Rate != 0 || parts[0].From != until.Add(-3*time.Minute) || parts[0].For != time.Minute {
			t.Fatalf("%+v", parts)
		}
		if p := parts[1]; p.Rate != 1 || p.Cancelled < 0.249 || p.Cancelled > 0.251 || p.Failed < 0.166 || p.Failed > 0.167 || p.P50 != 29*time.Millisecond || p.P99 != 58*time.Millisecond {
			t.Errorf("%+v", p)
		}
		if p := parts[2]; p.Rate < 9.9 || p.Rate > 10.1 || p.P50 != 50*time.Millisecond {
			t.Errorf("%+v", p)
		}
		// These parts do not change any more, and are not read again. Those of another step are.
		sqltest.Exec(t, db, "DELETE FROM saga_transactions")
		if again, err := o.Activity(t.Context(), until, time.Minute, 3); err != nil || !slices.Equal(again, parts) {
			t.Errorf("%+v, %v, before %+v", again, err, parts)
		}
		if other, err := o.Activity(t.Context(), until, time.Second, 1); err != nil || other[0].Rate != 0 {
			t.Errorf("%+v, %v", other, err)
		}
		// What has just ended may change.
		recent := time.Now().UTC().Truncate(time.Second)
		for n := range 2 {
			insert(fmt.Sprint("c", n), "confirmed", 0, recent.Add(-time.Second), time.Millisecond)
			if parts, err := o.Activity(t.Context(), recent, time.Second, 1); err != nil || parts[0].Rate != float64(n+1) {
				t.Errorf("%+v, %v", parts, err)
			}
		}
		if parts, err := o.Activity(t.Context(), time.Time{}, time.Minute, 2); err != nil || len(parts) != 2 || time.Since(parts[1].From) > 3*time.Minute+5*time.Second {
			t.Errorf("%+v, %v", parts, err)
		}
		for _, bad := range []struct {
			step time.Duration
			n    int
		}{{time.Minute, 0}, {time.Minute, 241}, {time.Millisecond, 1}, {48 * time.Hour, 1}} {
			if _, err := o.Activity(t.Context(), until, bad.step, bad.n); !errors.Is(err, saga.ErrInvalid) {
				t.Errorf("%+v: %v", bad, err)
			}
		}
	})
}

func TestActions(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		orch := opened(t, db, still, outside("o", func(saga.Call) error { return nil }))
		o := orch.Operations()
		bob := saga.Operator{Who: "bob", Why: "another test"}
		for i := range 3 {
			gid := fmt.Sprint("g.", i)
			begin(t, orch, gid, "o")
			sagatest.Must(t, o.Pause(t.Context(), gid, operator))
			sagatest.Must(t, o.Resume(t.Context(), gid, bob))
		}
		sagatest.Must(t, o.PauseKind(t.Context(), "a.kind", bob))
		sagatest.Must(t, o.ResumeKind(t.Context(), "a.kind", operator))
		for name, c := range map[string]struct {
			query saga.ActionQuery
			want  int
		}{
			"all": {saga.ActionQuery{}, 8}, "gid": {saga.ActionQuery{GID: "g.1"}, 2}, "kind": {saga.ActionQuery{Kind: "a.kind"}, 2}, "who": {saga.ActionQuery{Who: "bob"}, 4},
			"name": {saga.ActionQuery{Name: "pause"}, 4}, "two": {saga.ActionQuery{Name: "pause", Who: "bob"}, 1}, "bulk": {saga.ActionQuery{BulkID: "x"}, 0},
		} {
			for _, limit := range []int{1, 3, 0} {
				var got []saga.ActionRecord
				for q := c.query; ; {
					q.Limit = limit
					page, err := o.Actions(t.Context(), q)
					sagatest.Must(t, err)
					got = append(got, page.Actions...)
					if q.After = page.Next; page.Next == "" {
						break
					}
				}
				if len(got) != c.want {
					t.Errorf("%s, limit %d: %+v", name, limit, got)
				}
				for i := 1; i < len(got); i++ {
					if got[i].At.After(got[i-1].At) {
						t.Errorf("%s: %+v", name, got)
					}
				}
			}
		}
		for name, bad := range map[string]saga.ActionQuery{"limit": {Limit: 1001}, "after": {After: "1.2.3"}, "number": {After: "1.x..g"}, "who": {Who: "\xff"}, "gid": {GID: "é"}} {
			if _, err := o.Actions(t.Context(), bad); !errors.Is(err, saga.ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
