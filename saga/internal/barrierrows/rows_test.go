package barrierrows_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

func request(gid string, op barrier.Op) barrier.Request {
	return barrier.Request{Key: barrier.Key{GID: gid, BranchID: "01"}, Op: op, Caller: "log-1", Kind: "stock", Input: []byte(`{"n":1}`)}
}

// inTransaction runs work and commits, or rolls back.
func inTransaction(t *testing.T, db *gorm.DB, work func(tx *gorm.DB) error) error {
	t.Helper()
	return db.WithContext(t.Context()).Transaction(work)
}

// into brings the branch of a transaction into a state.
func into(t *testing.T, db *gorm.DB, gid string, state barrier.State) {
	t.Helper()
	for _, op := range map[barrier.State][]barrier.Op{
		barrier.StateTried:     {barrier.Try},
		barrier.StateConfirmed: {barrier.Try, barrier.Confirm},
		barrier.StateCancelled: {barrier.Try, barrier.Cancel},
		barrier.StateSuspended: {barrier.Cancel},
	}[state] {
		_, err := barrier.Do(t.Context(), db, request(gid, op), nothing)
		sagatest.Must(t, err)
	}
}

func rowOf(t *testing.T, db *gorm.DB, gid string) barrier.Row {
	t.Helper()
	rows, err := barrier.Look(t.Context(), db, gid)
	sagatest.Must(t, err)
	if len(rows) != 1 {
		t.Fatalf("%d rows of %s", len(rows), gid)
	}
	return rows[0]
}

func nothing(*gorm.DB) error { return nil }

// ConfirmBatch confirms all that it names, or says that it has not.
func TestConfirmAll(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		confirm := func(caller string, gids ...string) error {
			return inTransaction(t, db, func(tx *gorm.DB) error {
				return barrierrows.ConfirmBatch(t.Context(), tx, caller, []string{"01"}, gids)
			})
		}
		for _, gid := range []string{"a", "b", "c"} {
			into(t, db, gid, barrier.StateTried)
		}
		into(t, db, "confirmed", barrier.StateConfirmed)
		into(t, db, "cancelled", barrier.StateCancelled)
		into(t, db, "suspended", barrier.StateSuspended)
		for _, bad := range []string{"confirmed", "cancelled", "suspended", "nobody"} {
			if err := confirm("log-1", "a", "b", bad); !errors.Is(err, barrierrows.ErrNotAll) {
				t.Errorf("with one that is %s: %v", bad, err)
			}
		}
		if err := confirm("log-2", "a", "b"); !errors.Is(err, barrierrows.ErrNotAll) {
			t.Errorf("of another caller: %v", err)
		}
		for _, gid := range []string{"a", "b", "c"} {
			if row := rowOf(t, db, gid); row.State != barrier.StateTried {
				t.Errorf("%s is %s", gid, row.State)
			}
		}
		sagatest.Must(t, confirm("log-1", "a", "b"))
		for gid, want := range map[string]barrier.State{"a": barrier.StateConfirmed, "b": barrier.StateConfirmed, "c": barrier.StateTried, "cancelled": barrier.StateCancelled} {
			if row := rowOf(t, db, gid); row.State != want {
				t.Errorf("%s is %s, want %s", gid, row.State, want)
			}
		}
		if err := inTransaction(t, db, func(tx *gorm.DB) error {
			return barrierrows.TryBatch(t.Context(), tx, []barrier.Request{request("new", barrier.Try), request("a", barrier.Try)}, nil)
		}); !errors.Is(err, barrierrows.ErrNotAll) {
			t.Errorf("TryBatch with one that is known: %v", err)
		}
	})
}

// Calls of many branches at once do not pass by a row of another caller either.
func TestMismatchInBulk(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		request := func(gid, caller string) barrier.Request {
			return barrier.Request{Key: barrier.Key{GID: gid, BranchID: "01"}, Op: barrier.Try, Caller: caller, Kind: "stock", Input: []byte("1")}
		}
		run := func(work func(ctx context.Context, tx *gorm.DB) error) error {
			return local.Run(t.Context(), db, func(tx *gorm.DB) error { return work(t.Context(), tx) })
		}
		if err := run(func(ctx context.Context, tx *gorm.DB) error {
			return barrierrows.TryBatch(ctx, tx, []barrier.Request{request("a", "log-1"), request("b", "log-2")}, nil)
		}); err != nil {
			t.Fatal(err)
		}
		if err := run(func(ctx context.Context, tx *gorm.DB) error {
			return barrierrows.TryBatch(ctx, tx, []barrier.Request{request("b", "log-1"), request("c", "log-1")}, nil)
		}); !errors.Is(err, barrierrows.ErrNotAll) {
			t.Errorf("TryBatch: %v", err)
		}
		for _, caller := range []string{"log-1", "log-2"} {
			if err := run(func(ctx context.Context, tx *gorm.DB) error {
				return barrierrows.ConfirmBatch(ctx, tx, caller, []string{"01"}, []string{"a", "b"})
			}); !errors.Is(err, barrierrows.ErrNotAll) {
				t.Errorf("ConfirmBatch by %s: %v", caller, err)
			}
		}
		if row := rowOf(t, db, "a"); row.State != barrier.StateTried {
			t.Errorf("a is %s", row.State)
		}
		if err := run(func(ctx context.Context, tx *gorm.DB) error {
			found, err := barrierrows.LookBatch(ctx, tx, []barrier.Request{request("b", "log-1"), request("a", "log-1"), request("c", "log-1")})
			if !slices.Equal(found, []barrierrows.Finding{barrierrows.Other, barrierrows.Tried, barrierrows.Missing}) {
				t.Errorf("LookBatch: %v", found)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	})
}

// The mark of a call under way is ended by the call that has made it.
func TestCallUnderWay(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		into(t, db, "g", barrier.StateTried)
		key := request("g", barrier.Try).Key
		sagatest.Must(t, inTransaction(t, db, func(tx *gorm.DB) error { return barrierrows.Mark(t.Context(), tx, key, barrier.Try, "me#1", time.Hour) }))
		end := func(by string) {
			t.Helper()
			sagatest.Must(t, inTransaction(t, db, func(tx *gorm.DB) error { return barrierrows.Unmark(t.Context(), tx, key, by) }))
		}
		end("me#2")
		row := rowOf(t, db, "g")
		if u := row.UnderWay; u == nil || u.By != "me#1" || u.Op != barrier.Try || u.Left < 59*time.Minute || u.Until.Sub(u.Since).Round(time.Second) != time.Hour {
			t.Errorf("under way after another one ended: %+v", u)
		}
		end("me#1")
		if row := rowOf(t, db, "g"); row.UnderWay != nil {
			t.Errorf("under way after its end: %+v", row.UnderWay)
		}
	})
}

// A look on which a decision rests waits for a writer that is about to commit.
func TestLookLocked(t *testing.T) {
	for _, dialect := range []string{"mysql", "postgres"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := sqltest.Open(t, dialect)
			into(t, db, "g", barrier.StateTried)
			holder := db.Begin()
			_, err := barrier.Call(t.Context(), holder, request("g", barrier.Confirm))
			sagatest.Must(t, err)
			seen := make(chan *barrier.Row, 1)
			go func() {
				var row *barrier.Row
				if err := db.Transaction(func(tx *gorm.DB) (err error) {
					row, err = barrierrows.LookLocked(t.Context(), tx, request("g", barrier.Confirm).Key)
					return err
				}); err != nil {
					t.Error(err)
				}
				seen <- row
			}()
			waits(t, db)
			sagatest.Must(t, holder.Commit().Error)
			if row := <-seen; row == nil || row.State != barrier.StateConfirmed {
				t.Errorf("seen %+v", row)
			}
		})
	}
}

// waits returns when a statement in the database of db waits for a lock, or when
// enough time has gone by for one that does not wait.
func waits(t *testing.T, db *gorm.DB) {
	t.Helper()
	query := map[string]string{
		"mysql":    "SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id WHERE t.trx_state = 'LOCK WAIT' AND p.db = DATABASE()",
		"postgres": "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()",
	}[db.Name()]
	for range 300 {
		var n int
		sagatest.Must(t, db.Raw(query).Scan(&n).Error)
		if n > 0 {
			return
		}
	}
}

// RemoveOld leaves rows that have come, or have become final, since the look that
// has locked the others.
func TestRemoveOldLeavesWhatIsNew(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		long := "2020-01-01 00:00:00"
		for branch, state := range map[string]barrier.State{"01": barrier.StateTried, "02": barrier.StateConfirmed, "03": barrier.StateCancelled, "04": "newer"} {
			sagatest.Must(t, db.Exec("INSERT INTO saga_barrier (gid, branch_id, state, confirmed_at, cancelled_at) VALUES ('g', ?, ?, ?, ?)", branch, state, long, long).Error)
		}
		into(t, db, "h", barrier.StateConfirmed) // just now
		sagatest.Must(t, inTransaction(t, db, func(tx *gorm.DB) error { return barrierrows.RemoveOld(t.Context(), tx, []string{"g", "h"}, time.Hour) }))
		var left []string
		for _, gid := range []string{"g", "h"} {
			rows, err := barrier.Look(t.Context(), db, gid)
			sagatest.Must(t, err)
			for _, row := range rows {
				left = append(left, row.Key.String())
			}
		}
		if !slices.Equal(left, []string{"g/01", "g/04", "h/01"}) {
			t.Errorf("left %v", left)
		}
	})
}

// ConfirmMatching confirms all that it is asked for, or says that it has not. Each row has to
// match the caller, the kind and the payload of its own call.
func TestConfirmMatching(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		of := func(gid, input string, change ...func(*barrier.Request)) barrier.Request {
			r := request(gid, barrier.Confirm)
			r.Input = []byte(input)
			for _, c := range change {
				c(&r)
			}
			return r
		}
		tried := map[string]string{"a": `{"n":1}`, "b": `{"n":2}`, "c": `{"n":3}`, "d": `{"n":4}`}
		for gid, input := range tried {
			r := of(gid, input, func(r *barrier.Request) { r.Op = barrier.Try })
			_, err := barrier.Do(t.Context(), db, r, nothing)
			sagatest.Must(t, err)
		}
		into(t, db, "done", barrier.StateConfirmed)
		into(t, db, "back", barrier.StateCancelled)
		confirm := func(requests ...barrier.Request) error {
			return inTransaction(t, db, func(tx *gorm.DB) error { return barrierrows.ConfirmMatching(t.Context(), tx, requests) })
		}
		sagatest.Must(t, confirm(of("b", tried["b"]), of("a", tried["a"])))
		other := func(r *barrier.Request) { r.Caller = "log-2" }
		another := func(r *barrier.Request) { r.Kind = "credit" }
		for name, requests := range map[string][]barrier.Request{
			"payload":          {of("c", `{"n":9}`), of("d", tried["d"])},
			"swapped payloads": {of("c", tried["d"]), of("d", tried["c"])},
			"caller":           {of("c", tried["c"], other), of("d", tried["d"], other)},
			"kind":             {of("c", tried["c"], another)},
			"confirmed":        {of("c", tried["c"]), of("a", tried["a"])},
			"twice":            {of("c", tried["c"]), of("c", tried["c"])},
			"done":             {of("done", `{"n":1}`)},
			"cancelled":        {of("back", `{"n":1}`)},
			"unknown":          {of("c", tried["c"]), of("e", `{"n":1}`)},
			"case":             {of("C", tried["c"])},
		} {
			if err := confirm(requests...); !errors.Is(err, barrierrows.ErrNotAll) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for gid, state := range map[string]barrier.State{"a": barrier.StateConfirmed, "b": barrier.StateConfirmed, "c": barrier.StateTried, "d": barrier.StateTried} {
			if row := rowOf(t, db, gid); row.State != state {
				t.Errorf("%s is %s, want %s", gid, row.State, state)
			}
		}
	})
}

// EndBatch and SuspendBatch do all that they are asked for, or say that they have not.
func TestEndBatch(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, gid := range []string{"a", "b", "c", "d"} {
			into(t, db, gid, barrier.StateTried)
		}
		into(t, db, "done", barrier.StateConfirmed)
		end := func(op barrier.Op, gids ...string) error {
			return inTransaction(t, db, func(tx *gorm.DB) error { return barrierrows.EndBatch(t.Context(), tx, op, "01", gids) })
		}
		sagatest.Must(t, end(barrier.Confirm, "a", "b"))
		sagatest.Must(t, end(barrier.Cancel, "c"))
		for _, gids := range [][]string{{"d", "a"}, {"d", "done"}, {"d", "unknown"}} {
			for _, op := range []barrier.Op{barrier.Confirm, barrier.Cancel} {
				if err := end(op, gids...); !errors.Is(err, barrierrows.ErrNotAll) {
					t.Errorf("%s of %v: %v", op, gids, err)
				}
			}
		}
		suspend := func(gids ...string) error {
			var requests []barrier.Request
			for _, gid := range gids {
				requests = append(requests, request(gid, barrier.Cancel))
			}
			return inTransaction(t, db, func(tx *gorm.DB) error { return barrierrows.SuspendBatch(t.Context(), tx, requests) })
		}
		sagatest.Must(t, suspend("e", "f"))
		if err := suspend("g", "d"); !errors.Is(err, barrierrows.ErrNotAll) {
			t.Errorf("SuspendBatch: %v", err)
		}
		for gid, state := range map[string]barrier.State{"a": barrier.StateConfirmed, "b": barrier.StateConfirmed, "c": barrier.StateCancelled,
			"d": barrier.StateTried, "e": barrier.StateSuspended, "f": barrier.StateSuspended} {
			if row := rowOf(t, db, gid); row.State != state {
				t.Errorf("%s is %s, want %s", gid, row.State, state)
			}
		}
	})
}
