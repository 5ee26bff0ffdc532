package explain_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/explain"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// engineWith returns a running engine with the branches hold, which works, and pay, whose calls
// return what fail returns. Attempts are an hour apart.
func engineWith(t *testing.T, db *gorm.DB, fail func(saga.Call) error) *embedded.Engine {
	t.Helper()
	engine := sagatest.Open(t, db, embedded.Config{MinBackoff: time.Hour, MaxBackoff: time.Hour})
	branch := func(kind string, work func(saga.Call) error) {
		sagatest.Must(t, engine.Register(saga.NewLocal(kind, json.Marshal, saga.Local{
			Work: func(_ context.Context, _ *gorm.DB, c saga.Call) error { return work(c) }})))
	}
	branch("hold", func(saga.Call) error { return nil })
	branch("pay", fail)
	sagatest.Run(t, engine)
	return engine
}

func plan(gid string) saga.Plan {
	return saga.Plan{GID: gid, Pattern: "tcc", Steps: []saga.Step{{Kind: "hold", Input: 1}, {Kind: "pay", Input: 2}},
		Options: saga.Options{Labels: map[string]string{"order": "1001"}}}
}

// A Confirm fails, an operator retries, and the transaction ends: read from a real log.
func TestOfAnEngine(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		closed := make(chan struct{})
		engine := engineWith(t, db, func(c saga.Call) error {
			select {
			case <-closed:
				return nil
			default:
			}
			if c.Op == barrier.Confirm {
				return errors.New("the bank is closed")
			}
			return nil
		})
		if _, err := engine.Execute(t.Context(), plan("order-1001")); err != nil {
			t.Fatal(err)
		}
		var found *saga.Transaction
		sagatest.Eventually(t, "a failed Confirm is recorded", func() bool {
			var err error
			found, err = engine.Lookup(t.Context(), "order-1001")
			return err == nil && len(found.Branches[1].Attempts) > 0
		})
		d := explain.Diagnose(found)
		if d.Cause != explain.WaitsForRetry || d.Branch.Kind != "pay" || !strings.Contains(d.Text(nil), "Confirm has failed") ||
			!strings.Contains(d.Text(nil), "the bank is closed") || !d.NextAt.After(found.DecidedAt) {
			t.Errorf("%+v: %s", d, d.Text(nil))
		}
		if kinds := kindsOf(explain.Timeline(found)); !inOrder(kinds, explain.Began, explain.Tried, explain.Decided, explain.Failed, explain.Planned) {
			t.Errorf("the timeline is %v", kinds)
		}
		close(closed)
		sagatest.Must(t, engine.Retry(t.Context(), "order-1001", saga.Operator{Who: "ann", Why: "the bank is open"}))
		found = sagatest.Reach(t, engine, "order-1001", saga.Confirmed)
		kinds := kindsOf(explain.Timeline(found))
		if !inOrder(kinds, explain.Began, explain.Decided, explain.Failed, explain.Acted, explain.Confirmed, explain.Ended) ||
			slices.ContainsFunc(explain.Timeline(found), explain.Event.IsPlanned) {
			t.Errorf("the timeline is %v", kinds)
		}
		if d := explain.Diagnose(found); d.Cause != explain.Finished || d.Branch != nil || d.Open != 0 {
			t.Errorf("%+v", d)
		}
		for _, s := range explain.Branches(found) {
			if s.Did != explain.DidConfirm || s.Due != "" || s.FromLog {
				t.Errorf("%+v", s)
			}
		}
	})
}

// A branch rejects: the timeline and the diagnosis name it and its code.
func TestOfARejection(t *testing.T) {
	db := sqltest.Open(t, "sqlite")
	engine := engineWith(t, db, func(saga.Call) error { return saga.RejectCode("funds.short", errors.New("100 are missing")) })
	if _, err := engine.Execute(t.Context(), plan("order-1")); !errors.Is(err, saga.ErrCancelled) {
		t.Fatal(err)
	}
	found := sagatest.Reach(t, engine, "order-1", saga.Cancelled)
	if text := explain.Diagnose(found).Text(nil); text != "It is cancelled, by its caller: pay: 100 are missing (funds.short, branch 02)." {
		t.Error(text)
	}
	if s := explain.Branches(found); !s[1].Reason || s[0].Reason {
		t.Errorf("%+v", s)
	}
}

// The statements run on each database, and find the rows.
func TestSQL(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		engine := engineWith(t, db, func(saga.Call) error { return nil })
		const gid = `o'rder\1`
		if _, err := engine.Execute(t.Context(), plan(gid)); err != nil {
			t.Fatal(err)
		}
		found := map[string]int{}
		for _, s := range explain.SQL(db.Name(), gid) {
			rows, err := db.Raw(strings.TrimSuffix(s.SQL, ";")).Rows()
			if err != nil {
				t.Fatalf("%s: %v", s.SQL, err)
			}
			for rows.Next() {
				found[s.Title]++
			}
			sagatest.Must(t, rows.Close())
		}
		for title, n := range map[string]int{"the transaction": 1, "its branches": 2, "the clock that counts": 1} {
			if found[title] != n {
				t.Errorf("%s: %d rows, %d were expected", title, found[title], n)
			}
		}
	})
}

func kindsOf(events []explain.Event) (kinds []explain.EventKind) {
	for _, e := range events {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// inOrder reports whether the kinds have these, in this order.
func inOrder(kinds []explain.EventKind, these ...explain.EventKind) bool {
	for _, k := range kinds {
		if len(these) > 0 && k == these[0] {
			these = these[1:]
		}
	}
	return len(these) == 0
}
