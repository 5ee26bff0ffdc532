package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// rejecting is a branch in the engine's database whose Try rejects the transactions that have
// "no" in their gid.
func rejecting(kind string) spec {
	return spec{Kind: kind, Work: func(_ context.Context, _ *gorm.DB, call saga.Call) error {
		if call.Op == barrier.Try && strings.Contains(call.GID, "no") {
			return saga.Reject(errors.New("no"))
		}
		return nil
	}}
}

// labelled is planOf with labels.
func labelled(gid string, labels map[string]string, kinds ...string) saga.Plan {
	plan := planOf(gid, kinds...)
	plan.Labels = labels
	return plan
}

// hasLabels checks the labels of a transaction: those of Lookup, those of a search, and the time
// in their rows.
func hasLabels(t *testing.T, db *gorm.DB, engine *embedded.Engine, gid string, want map[string]string) {
	t.Helper()
	found, err := engine.Lookup(t.Context(), gid)
	sagatest.Must(t, err)
	if !maps.Equal(found.Labels, want) {
		t.Errorf("%s has the labels %q, want %q", gid, found.Labels, want)
	}
	page, err := engine.Operations().Find(t.Context(), saga.Query{Prefix: gid})
	sagatest.Must(t, err)
	list, err := engine.List(t.Context(), saga.Filter{Prefix: gid})
	sagatest.Must(t, err)
	for _, s := range append(page.Transactions, list...) {
		if s.GID == gid && !maps.Equal(s.Labels, want) {
			t.Errorf("a search returns %s with the labels %q, want %q", gid, s.Labels, want)
		}
	}
	var n int
	sagatest.Must(t, db.Raw(`SELECT COUNT(*) FROM saga_labels JOIN saga_transactions ON saga_transactions.gid = saga_labels.gid
		AND saga_transactions.created_at = saga_labels.created_at WHERE saga_labels.gid = ?`, gid).Scan(&n).Error)
	if n != len(want) {
		t.Errorf("%s has %d labels with the time of its begin, want %d", gid, n, len(want))
	}
	for name, value := range want {
		page, err := engine.Operations().Find(t.Context(), saga.Query{Label: name, Value: value})
		if err != nil || !inPage(page, gid) {
			t.Errorf("%s is not found by %s=%q: %v", gid, name, value, err)
		}
	}
}

func inPage(page saga.Page, gid string) bool {
	for _, s := range page.Transactions {
		if s.GID == gid {
			return true
		}
	}
	return false
}

// Every way to begin a transaction stores its labels, also if the first commit rejects it.
func TestLabelsOfEveryBegin(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		nothing := func(saga.Call) error { return nil }
		engine := opened(t, db, still, rejecting("plain"), outside("out", nothing), spec{Kind: "far", Remote: remote(nothing)})
		ctx := t.Context()
		plans := map[string]saga.Plan{
			"local":     planOf("local", "plain"),
			"no-local":  planOf("no-local", "plain"),
			"mixed":     planOf("mixed", "out", "plain"),
			"no-mixed":  planOf("no-mixed", "out", "plain"),
			"no-begin":  planOf("no-begin", "plain", "out"),
			"far":       planOf("far", "far"),
			"work":      planOf("work", "plain"),
			"no-work":   planOf("no-work", "plain"),
			"forward":   planOf("forward", "far"),
			"unchanged": planOf("unchanged", "plain"),
		}
		for gid, plan := range plans {
			plan.Labels = map[string]string{"order": gid, "customer": "7 – 中文 😀"}
			switch gid {
			case "work", "no-work":
				plan.LocalWork = func(context.Context, *gorm.DB) error { return nil }
			case "forward":
				plan.TryAttempts = 3
			}
			_, err := engine.Execute(ctx, plan)
			if errors.Is(err, saga.ErrCancelled) != strings.HasPrefix(gid, "no-") {
				t.Errorf("%s: %v", gid, err)
			}
			hasLabels(t, db, engine, gid, plan.Labels)
		}
		labels := map[string]string{"order": "1"}
		sagatest.Must(t, engine.Begin(ctx, saga.Opening{GID: "open", Labels: labels}))
		sagatest.Must(t, engine.Begin(ctx, saga.Opening{GID: "nested", Parent: "log/x/01", Labels: labels}))
		sagatest.Must(t, db.Transaction(func(tx *gorm.DB) error {
			return second(engine.ExecuteIn(ctx, tx, labelled("in", labels, "plain")))
		}))
		pool, err := db.DB()
		sagatest.Must(t, err)
		tx, err := pool.BeginTx(ctx, nil)
		sagatest.Must(t, err)
		_, err = engine.ExecuteInSQL(ctx, tx, labelled("in-sql", labels, "plain"))
		sagatest.Must(t, errors.Join(err, tx.Commit()))
		rolledBack := errors.New("on purpose")
		if err := db.Transaction(func(tx *gorm.DB) error {
			_, err := engine.ExecuteIn(ctx, tx, labelled("rolled-back", labels, "plain"))
			return errors.Join(err, rolledBack)
		}); !errors.Is(err, rolledBack) {
			t.Error(err)
		}
		for _, gid := range []string{"open", "nested", "in", "in-sql"} {
			hasLabels(t, db, engine, gid, labels)
		}
		if n := count(t, db, "saga_labels", "rolled-back"); n != 0 {
			t.Errorf("%d labels are left of a local transaction that was rolled back", n)
		}

		// The same plan with other labels is the same plan, and the labels stay.
		again := plans["unchanged"]
		again.Labels = map[string]string{"order": "other"}
		_, err = engine.Execute(ctx, again)
		sagatest.Must(t, err)
		sagatest.Must(t, engine.Begin(ctx, saga.Opening{GID: "open", Labels: map[string]string{"order": "2", "more": "x"}}))
		hasLabels(t, db, engine, "unchanged", map[string]string{"order": "unchanged", "customer": "7 – 中文 😀"})
		hasLabels(t, db, engine, "open", labels)
	})
}

// The members of a batch share the statement that writes the labels. Each has its own, and those
// of a member that is rejected in the batch are there once.
func TestLabelsOfABatch(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		const n = 12
		engine := opened(t, db, still, rejecting("plain"))
		engine.GatherDecisions(planOf("x", "plain"), n)
		labels := func(i int) map[string]string {
			some := map[string]string{}
			for name := range i % 4 {
				some[fmt.Sprint("label-", name)] = fmt.Sprint(i)
			}
			return some
		}
		gid := func(i int) string { return fmt.Sprintf("%s-%d", []string{"yes", "no"}[i/2%2], i) }
		var callers sync.WaitGroup
		for i := range n {
			callers.Go(func() {
				if _, err := engine.Execute(t.Context(), labelled(gid(i), labels(i), "plain")); err != nil && !errors.Is(err, saga.ErrCancelled) {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		for i := range n {
			hasLabels(t, db, engine, gid(i), labels(i))
		}
		for i := range n {
			callers.Go(func() {
				sagatest.Must(t, engine.Begin(t.Context(), saga.Opening{GID: fmt.Sprint("open-", i), Labels: labels(i)}))
			})
		}
		callers.Wait()
		for i := range n {
			hasLabels(t, db, engine, fmt.Sprint("open-", i), labels(i))
		}
	})
}

// Rejections of transactions with labels share the commit of the others, too.
func TestLabelsOfRejectionsShareACommit(t *testing.T) {
	t.Parallel()
	const n = 8
	db, loss := sqltest.OpenLossy(t)
	engine := opened(t, db, embedded.Config{Lease: time.Hour, Poll: time.Hour, Retention: embedded.Forever}, rejecting("plain"), rejecting("other"))
	commits := 0
	for round := range 2 { // after the first one it is known that there are rejections
		engine.GatherDecisions(planOf("x", "plain", "other"), n)
		_, before := loss.Traffic()
		var callers sync.WaitGroup
		for i := range n {
			callers.Go(func() {
				gid := fmt.Sprintf("%s-%d-%d", []string{"yes", "no"}[i%2], round, i)
				labels := map[string]string{"order": gid}
				if _, err := engine.Execute(t.Context(), labelled(gid, labels, "plain", "other")); errors.Is(err, saga.ErrCancelled) != (i%2 == 1) {
					t.Errorf("%s: %v", gid, err)
				}
			})
		}
		callers.Wait()
		_, after := loss.Traffic()
		commits = after - before
		for i := range n {
			gid := fmt.Sprintf("%s-%d-%d", []string{"yes", "no"}[i%2], round, i)
			hasLabels(t, db, engine, gid, map[string]string{"order": gid})
		}
	}
	if commits > 1 {
		t.Errorf("%d commits for a batch of %d", commits, n)
	}
}

// Without labels, a transaction costs not one statement more; with some, one.
func TestLabelsCostNothingWithoutThem(t *testing.T) {
	t.Parallel()
	db, loss := sqltest.OpenLossy(t)
	config := embedded.Config{Lease: time.Hour, Poll: time.Hour, Retention: embedded.Forever}
	nothing := func(saga.Call) error { return nil }
	engine := opened(t, db, config, rejecting("plain"), spec{Kind: "far", Remote: remote(nothing)})
	ctx := t.Context()
	begins := map[string]func(gid string, labels map[string]string) error{
		"execute": func(gid string, labels map[string]string) error {
			return second(engine.Execute(ctx, labelled(gid, labels, "plain")))
		},
		"rejected": func(gid string, labels map[string]string) error {
			if _, err := engine.Execute(ctx, labelled("no-"+gid, labels, "plain")); !errors.Is(err, saga.ErrCancelled) {
				return fmt.Errorf("not rejected: %w", err)
			}
			return nil
		},
		"far": func(gid string, labels map[string]string) error {
			return second(engine.Execute(ctx, labelled(gid, labels, "far")))
		},
		"in": func(gid string, labels map[string]string) error {
			return db.Transaction(func(tx *gorm.DB) error { return second(engine.ExecuteIn(ctx, tx, labelled(gid, labels, "plain"))) })
		},
		"begin": func(gid string, labels map[string]string) error {
			return engine.Begin(ctx, saga.Opening{GID: gid, Labels: labels})
		},
	}
	// As they were before there were labels.
	budget := map[string]int{"execute": 3, "rejected": 5, "far": 4, "in": 3, "begin": 1}
	for name, begin := range begins {
		sagatest.Must(t, begin(name+"-first", nil)) // statements that are made only once
		spent := func(gid string, labels map[string]string) int {
			least := math.MaxInt
			for i := range 3 { // the engine's own statements may fall into one of them
				before, _ := loss.Traffic()
				sagatest.Must(t, begin(fmt.Sprint(gid, i), labels))
				after, _ := loss.Traffic()
				least = min(least, after-before)
			}
			return least
		}
		without := spent(name+"-without", nil)
		empty := spent(name+"-empty", map[string]string{})
		with := spent(name+"-with", map[string]string{"order": "1", "customer": "2", "region": "3"})
		if without != budget[name] || empty != without || with <= without || with > without+2 {
			t.Errorf("%s: %d statements without labels, want %d; %d with an empty map, %d with labels", name, without, budget[name], empty, with)
		}
	}
}

// Cleaning removes the labels with their transaction, and a gid that is new again has its own.
func TestLabelsAreRemoved(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		engine := opened(t, db, embedded.Config{Lease: time.Hour, Retention: time.Hour}, rejecting("plain"))
		ctx := t.Context()
		for _, gid := range []string{"old", "young"} {
			_, err := engine.Execute(ctx, labelled(gid, map[string]string{"order": gid, "first": "yes"}, "plain"))
			sagatest.Must(t, err)
		}
		ageTransaction(t, db, "old", 2*time.Hour)
		sagatest.Must(t, engine.CleanGIDs(ctx, "old", "young"))
		if n := count(t, db, "saga_labels", "old"); n != 0 {
			t.Errorf("%d labels are left of a transaction that was removed", n)
		}
		hasLabels(t, db, engine, "young", map[string]string{"order": "young", "first": "yes"})
		again := map[string]string{"order": "again"}
		_, err := engine.Execute(ctx, labelled("old", again, "plain"))
		sagatest.Must(t, err)
		hasLabels(t, db, engine, "old", again)
	})
}

// Labels that are not valid are refused before anything is written, and the largest valid ones
// come back as they were.
func TestLabelsLimits(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		engine := opened(t, db, still, rejecting("plain"))
		ctx := t.Context()
		many := map[string]string{}
		for i := range saga.MaxLabels + 1 {
			many[fmt.Sprint("n", i)] = "v"
		}
		bad := map[string]map[string]string{
			"9 labels": many, "too long a name": {strings.Repeat("n", 33): "v"}, "an empty name": {"": "v"}, "a space": {"a b": "v"}, "a name in Chinese": {"订单": "1"},
			"no value": {"n": ""}, "too long a value": {"n": strings.Repeat("字", 129)}, "a line break": {"n": "a\nb"}, "NUL": {"n": "a\x00"},
			"not UTF-8": {"n": "\xff"}, "a control character of Latin-1": {"n": "a\u0085"},
		}
		for name, labels := range bad {
			for how, err := range map[string]error{
				"Execute": second(engine.Execute(ctx, labelled("bad", labels, "plain"))),
				"Begin":   engine.Begin(ctx, saga.Opening{GID: "bad", Labels: labels}),
				"Record":  engine.Record(ctx, labelled("bad", labels, "plain")),
				"ExecuteIn": db.Transaction(func(tx *gorm.DB) error {
					return second(engine.ExecuteIn(ctx, tx, labelled("bad", labels, "plain")))
				}),
			} {
				if !errors.Is(err, saga.ErrInvalid) {
					t.Errorf("%s, %s: %v", how, name, err)
				}
			}
		}
		if n := count(t, db, "saga_transactions", "bad"); n != 0 {
			t.Errorf("a refused transaction was written")
		}
		good := map[string]string{
			strings.Repeat("n", 32): strings.Repeat("😀", 128), "N": " spaces ", "n": "ÄÖ", "sql": `'";--\%_`, "html": "<b>&amp;", "rtl": "שלום", "e": "é",
		}
		_, err := engine.Execute(ctx, labelled("good", good, "plain"))
		sagatest.Must(t, err)
		hasLabels(t, db, engine, "good", good)
		sagatest.Must(t, engine.Begin(ctx, saga.Opening{GID: "open"}))
		if _, err := engine.Confirm(ctx, "open", saga.Options{Labels: good}); !errors.Is(err, saga.ErrInvalid) {
			t.Errorf("Confirm takes labels: %v", err)
		}
	})
}
