package tcc_test

import (
	"errors"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// Two engines use one gid at one host: one of them has its effect and is confirmed;
// the other is cancelled, says why, and needs nobody.
func TestTwoEnginesWithOneGID(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		newAccounts(t, db)
		host, _ := newHostOf(t, db)
		engines := []*bench{engineOf(t, host, sqltest.Open(t, "sqlite")), engineOf(t, host, sqltest.Open(t, "sqlite"))}
		const rounds = 5
		for range rounds {
			gid := sagatest.GID()
			type result struct {
				outcome saga.Outcome
				err     error
			}
			results := make([]result, len(engines))
			done := make(chan struct{})
			for i, b := range engines {
				go func() {
					results[i].outcome, results[i].err = tcc.Execute(t.Context(), b.orch, gid, hold{1, 1})
					done <- struct{}{}
				}()
			}
			<-done
			<-done
			confirmed := 0
			for i, r := range results {
				if r.err == nil {
					confirmed++
					engines[i].reaches(gid, saga.Confirmed)
					continue
				}
				var cancelled *saga.CancelledError
				if !errors.As(r.err, &cancelled) || cancelled.Code != saga.CodeConflict || !strings.Contains(cancelled.Reason, "the gid is in use by another caller") {
					t.Errorf("%+v, %v", r.outcome, r.err)
				}
				if found := engines[i].reaches(gid, saga.Cancelled); found.Attention != "" || found.Code != saga.CodeConflict {
					t.Errorf("%+v", found.Summary)
				}
			}
			if confirmed != 1 {
				t.Errorf("%d are confirmed: %+v", confirmed, results)
			}
		}
		engines[0].books(db, 1, 100-rounds, 0, rounds)
	})
}

// An engine and a host in one database keep their rows apart: a call from elsewhere
// that guesses the name of the engine changes nothing of the engine's.
func TestHostBesideAnEngine(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		host, _ := newHostOf(t, db)
		gid := sagatest.GID()
		tx, err := tcc.Begin(t.Context(), b.orch, gid)
		sagatest.Must(t, err)
		sagatest.Must(t, tx.Try(t.Context(), hold{1, 30}))
		row := b.row(db, gid, "01")
		for _, caller := range []string{"", row.Caller, "another", "-"} {
			for _, op := range []barrier.Op{barrier.Try, barrier.Confirm, barrier.Cancel} {
				err := host.p.Call(t.Context(), saga.Call{GID: gid, BranchID: "01", Kind: "credit.hold", Op: op, Caller: caller, Payload: []byte(`{"Account":1,"Cents":30}`)})
				if !errors.Is(err, barrier.ErrConflict) {
					t.Errorf("%s by %q: %v", op, caller, err)
				}
			}
		}
		if got := b.row(db, gid, "01"); got.State != barrier.StateTried || got.TurnedAway == 0 {
			t.Errorf("%+v", got)
		}
		outcome, err := tx.Confirm(t.Context())
		if err != nil || outcome.State != saga.Confirmed {
			t.Errorf("%+v, %v", outcome, err)
		}
		// The other way round: a gid that is in use from elsewhere.
		taken := sagatest.GID()
		sagatest.Must(t, host.p.Call(t.Context(), saga.Call{GID: taken, BranchID: "01", Kind: "credit.hold", Op: barrier.Try, Payload: []byte(`{"Account":1,"Cents":1}`)}))
		for _, payload := range []tcc.Payload{hold{1, 2}, holdOut{1, 2}} {
			gid := taken
			_, err := tcc.Execute(t.Context(), b.orch, gid, payload)
			var cancelled *saga.CancelledError
			if payload == (hold{1, 2}) && (!errors.As(err, &cancelled) || cancelled.Code != saga.CodeConflict) {
				t.Errorf("%v", err)
			}
		}
		if found := b.reaches(taken, saga.Cancelled); found.Attention != "" {
			t.Errorf("%+v", found.Summary)
		}
		sagatest.Must(t, host.p.Call(t.Context(), saga.Call{GID: taken, BranchID: "01", Kind: "credit.hold", Op: barrier.Confirm, Payload: []byte(`{"Account":1,"Cents":1}`)}))
		b.books(db, 1, 69, 0, 31)
	})
}

// All calls of a branch are of one kind and one input, here and at a host; rows from
// before the barrier knew these take every call, and a DTM server names no caller.
func TestCallsThatContradictTheRow(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		newAccounts(t, db)
		host, _ := newHostOf(t, db)
		other := &credit[holdOut]{read: func(p holdOut) (int, int) { return p.Account, p.Cents }}
		sagatest.Must(t, tcc.Register(host.p, other))
		b := &bench{t: t, db: db}
		first := saga.Call{BranchID: "01", Kind: "credit.hold", Caller: "log-1", Payload: []byte(`{"Account":1,"Cents":1}`)}
		for name, c := range map[string]struct {
			change func(*saga.Call)
			old    bool // the row is from before the upgrade
			fine   bool
			says   string
		}{
			"the same":          {func(*saga.Call) {}, false, true, ""},
			"another kind":      {func(c *saga.Call) { c.Kind = "credit.out" }, false, false, "the branch is of the kind credit.hold, the call is of credit.out"},
			"another input":     {func(c *saga.Call) { c.Payload = []byte(`{"Account":1,"Cents":6}`) }, false, false, "another payload"},
			"another caller":    {func(c *saga.Call) { c.Caller = "log-2" }, false, false, "in use by another caller"},
			"no caller":         {func(c *saga.Call) { c.Caller = "" }, false, false, "one without a name"},
			"an old row":        {func(*saga.Call) {}, true, true, ""},
			"an old row, other": {func(c *saga.Call) { c.Caller = "log-2" }, true, true, ""},
		} {
			for _, op := range []barrier.Op{barrier.Try, barrier.Confirm, barrier.Cancel} {
				call := first
				call.GID = sagatest.GID()
				call.Op = barrier.Try
				sagatest.Must(t, host.p.Call(t.Context(), call))
				if c.old {
					sqltest.Exec(t, db, "UPDATE saga_barrier SET caller = '', kind = '', input = '' WHERE gid = ?", call.GID)
				}
				then := call
				then.Op = op
				c.change(&then)
				err := host.p.Call(t.Context(), then)
				if c.fine && err != nil || !c.fine && (!errors.Is(err, barrier.ErrConflict) || !strings.Contains(err.Error(), c.says)) {
					t.Errorf("%s, %s: %v", name, op, err)
				}
				want := map[barrier.Op]barrier.State{barrier.Try: barrier.StateTried, barrier.Confirm: barrier.StateConfirmed, barrier.Cancel: barrier.StateCancelled}[op]
				if !c.fine {
					want = barrier.StateTried
				}
				if row := b.row(db, call.GID, "01"); row.State != want {
					t.Errorf("%s, %s: %+v", name, op, row)
				}
				if want == barrier.StateTried {
					call.Op = barrier.Cancel
					sagatest.Must(t, host.p.Call(t.Context(), call))
				}
			}
		}
		// As a DTM server calls: never with a name.
		for _, ops := range [][]barrier.Op{{barrier.Try, barrier.Try, barrier.Confirm, barrier.Confirm}, {barrier.Try, barrier.Cancel, barrier.Cancel}, {barrier.Cancel, barrier.Cancel}} {
			call := first
			call.GID, call.Caller = sagatest.GID(), ""
			for _, op := range ops {
				call.Op = op
				sagatest.Must(t, host.p.Call(t.Context(), call))
			}
		}
		var held int
		sagatest.Must(t, db.Raw("SELECT SUM(held) FROM accounts").Scan(&held).Error)
		if held != 0 {
			t.Errorf("%d are held in the end", held)
		}
	})
}

// What was begun before the upgrade, whose barrier rows say nothing of the caller, is
// finished after it, in the shared last commit too.
func TestRowsFromBeforeTheUpgrade(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, quick)
		for _, end := range []saga.State{saga.Confirmed, saga.Cancelled} {
			gid := sagatest.GID()
			tx := b.begin(gid, saga.Options{})
			for _, db := range []*gorm.DB{db, b.other} {
				sqltest.Exec(t, db, "UPDATE saga_barrier SET caller = '', kind = '', input = '' WHERE gid = ?", gid)
			}
			var err error
			if end == saga.Confirmed {
				_, err = tx.Confirm(t.Context())
			} else {
				_, err = tx.Cancel(t.Context(), "")
			}
			sagatest.Must(t, err)
			b.reaches(gid, end)
		}
		b.books(db, 1, 70, 0, 30)
		b.books(b.other, 1, 80, 0, 20)
	})
}
