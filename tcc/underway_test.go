package tcc_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// While a call is under way that acts on something other than the engine's database,
// Lookup says so, since when, and by whom; of an External it says so everywhere, and
// so does its barrier row. When the call has ended, nothing says so any more.
func TestCallsUnderWay(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		elsewhere := b.openLess(quick, func(o *embedded.Engine) { sagatest.Must(t, tcc.RegisterExternal(o, b.out)) })
		gate := make(chan chan struct{}, 1)
		for name, c := range map[string]struct {
			op      barrier.Op
			payload tcc.Payload
			hold    func(barrier.Op) chan struct{}
			called  func(barrier.Op) int
			row     bool
		}{
			"External, Try":     {barrier.Try, holdOut{1, 1}, b.out.hold, b.out.called, true},
			"External, Confirm": {barrier.Confirm, holdOut{1, 1}, b.out.hold, b.out.called, true},
			"External, Cancel":  {barrier.Cancel, holdOut{1, 1}, b.out.hold, b.out.called, true},
			"away, Try":         {barrier.Try, holdAway{1, 1}, b.away.hold, b.away.called, false},
			"away, Confirm":     {barrier.Confirm, holdAway{1, 1}, b.away.hold, b.away.called, false},
			"away, Cancel":      {barrier.Cancel, holdAway{1, 1}, b.away.hold, b.away.called, false},
		} {
			gid, began := sagatest.GID(), time.Now()
			gate <- c.hold(c.op)
			before := c.called(c.op)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				tx, err := tcc.Begin(t.Context(), b.orch, gid)
				if err == nil {
					err = tx.Try(t.Context(), c.payload)
				}
				if err == nil && c.op == barrier.Cancel {
					_, err = tx.Cancel(t.Context(), "")
				} else if err == nil {
					_, err = tx.Confirm(t.Context())
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}()
			sagatest.Eventually(t, name+" is called", func() bool { return c.called(c.op) > before })
			found, err := b.orch.Lookup(t.Context(), gid)
			sagatest.Must(t, err)
			check := func(where string, u *saga.CallUnderWay) {
				t.Helper()
				if u == nil || u.Op != c.op || !strings.HasPrefix(u.By, b.orch.Instance()) || u.Since.Before(began.Add(-time.Minute)) || u.Since.After(time.Now().Add(time.Minute)) {
					t.Errorf("%s, %s: %+v", name, where, u)
				}
			}
			check("here", found.Branches[0].UnderWay)
			text, err := json.Marshal(found)
			sagatest.Must(t, err)
			if !strings.Contains(string(text), `"under_way":{"op":"`+string(c.op)+`","by":"`+b.orch.Instance()) {
				t.Errorf("%s: %s", name, text)
			}
			if c.row {
				found, err := elsewhere.Lookup(t.Context(), gid)
				sagatest.Must(t, err)
				check("elsewhere", found.Branches[0].UnderWay)
				row := found.Branches[0].Barrier
				if u := row.UnderWay; u == nil || u.Op != c.op || !u.Until.After(u.Since) || !strings.Contains(row.Explain(), "a "+string(c.op)+" is under way since") {
					t.Errorf("%s: %+v: %s", name, u, row.Explain())
				}
			}
			close(<-gate)
			<-ended
			found, err = elsewhere.Lookup(t.Context(), gid)
			sagatest.Must(t, err)
			if u := found.Branches[0].UnderWay; u != nil {
				t.Errorf("%s: it has ended, and %+v", name, u)
			}
			b.out.block, b.away.block = nil, nil
		}
	})
}

// A call that has failed is not under way.
func TestFailedCallIsNotUnderWay(t *testing.T) {
	t.Parallel()
	b := newBench(t, sqltest.Open(t, "sqlite"), patient())
	b.out.fail(barrier.Confirm, 1, errOnPurpose)
	gid := sagatest.GID()
	_, err := tcc.Execute(t.Context(), b.orch, gid, holdOut{1, 1})
	sagatest.Must(t, err)
	sagatest.Eventually(t, "a failure", func() bool { return b.reaches(gid, saga.Confirming).Failures == 1 })
	if branch := b.reaches(gid, saga.Confirming).Branches[0]; branch.UnderWay != nil || branch.Barrier.UnderWay != nil {
		t.Errorf("%+v, %+v", branch, branch.Barrier)
	}
}

// JSON of what people and tools read has no times that are not set, and errors that
// can be read.
func TestJSONOfLookups(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, patient())
		ctx := t.Context()
		open := sagatest.GID()
		sagatest.Must(t, b.begin(open, saga.Options{}).Try(ctx, hold{1, 1}))
		b.away.fail(barrier.Confirm, 1, errOnPurpose)
		failing := sagatest.GID()
		_, err := tcc.Execute(ctx, b.orch, failing, hold{1, 1}, holdAway{1, 1}, holdOut{1, 1})
		sagatest.Must(t, err)
		sagatest.Eventually(t, "a failure", func() bool { return b.reaches(failing, saga.Confirming).Failures == 1 })
		// One that knows no kind cannot read the barrier, and says why.
		strange := b.openLess(quick, nil)
		for _, engine := range []*embedded.Engine{b.orch, strange} {
			listed, err := engine.List(ctx, saga.Filter{})
			sagatest.Must(t, err)
			all := []any{listed}
			for _, gid := range []string{open, failing} {
				found, err := engine.Lookup(ctx, gid)
				sagatest.Must(t, err)
				all = append(all, found)
			}
			rows, err := barrier.Look(ctx, db, failing)
			sagatest.Must(t, err)
			text, err := json.Marshal(append(all, rows))
			sagatest.Must(t, err)
			if strings.Contains(string(text), "0001-01-01") || strings.Contains(string(text), "1970-01-01") || strings.Contains(string(text), `:{}`) {
				t.Errorf("%s", text)
			}
			if !strings.Contains(string(text), `"error":"on purpose"`) {
				t.Errorf("the error cannot be read: %s", text)
			}
			if engine == strange && !strings.Contains(string(text), `"barrier_error":"unknown kind of branch: \"credit.hold\" is not registered in this process"`) && !strings.Contains(string(text), "is not registered in this process") {
				t.Errorf("why there is no barrier row cannot be read: %s", text)
			}
		}
	})
}
