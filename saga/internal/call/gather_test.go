package call_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/test/parts"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// gathering is a world whose calls share local transactions.
type gathering struct {
	*world
	mu   sync.Mutex
	fail map[string]error
}

func newGathering(t *testing.T, db *gorm.DB, config call.Config) *gathering {
	t.Helper()
	w := &gathering{world: newWorld(t, db), fail: map[string]error{}}
	config.Timeout, config.Logger, config.Instance, config.MaxBatch = parts.CallTimeout, w.Logger, parts.Instance, 100
	w.Calls = call.New(config)
	t.Cleanup(w.Calls.Close)
	ok(t, db.Exec("CREATE TABLE done (op VARCHAR(10), gid VARCHAR(64), PRIMARY KEY (op, gid))").Error)
	return w
}

// work writes a row, so that work that is made twice fails.
func (w *gathering) work(ctx context.Context, tx *gorm.DB, c saga.Call) error {
	w.mu.Lock()
	err := w.fail[string(c.Op)+" "+c.GID]
	w.mu.Unlock()
	if err != nil {
		return err
	}
	if c.Result != nil {
		*c.Result = json.RawMessage(fmt.Sprintf("%q", c.GID))
	}
	return tx.Exec("INSERT INTO done (op, gid) VALUES (?, ?)", string(c.Op), c.GID).Error
}

func (w *gathering) plain() *txn.Branch {
	return w.Register(saga.NewLocal("k", parts.Encode, saga.Local{Work: w.work}))
}

func (w *gathering) bulk() *txn.Branch {
	return w.Register(saga.NewLocal("k", parts.Encode, saga.Local{Work: w.work,
		WorkBatch: func(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []saga.BatchCall) (failures []error, err error) {
			if op == barrier.Cancel {
				w.t.Error("Cancels are made together")
			}
			for _, c := range calls {
				failures = append(failures, w.work(ctx, tx, c.Call))
			}
			return failures, nil
		}}))
}

func (w *gathering) ofGID(b *txn.Branch, op barrier.Op, gid string) saga.Call {
	c := w.of(b, op)
	c.GID = gid
	return c
}

// together makes calls in one batch, and returns their errors.
func (w *gathering) together(b *txn.Branch, calls ...saga.Call) []error {
	w.t.Helper()
	w.Calls.Gather(w.DB, calls[0], len(calls))
	failures := make([]error, len(calls))
	var all sync.WaitGroup
	for i, c := range calls {
		all.Go(func() { failures[i] = w.Calls.Call(w.t.Context(), b, c) })
	}
	all.Wait()
	return failures
}

// seen is all that can be seen of a branch.
func (w *gathering) seen(gid string) string {
	w.t.Helper()
	rows, err := barrier.Look(w.t.Context(), w.DB, gid)
	ok(w.t, err)
	var done []string
	ok(w.t, w.DB.Raw("SELECT op FROM done WHERE gid = ? ORDER BY op", gid).Scan(&done).Error)
	var text strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&text, "%s, turned away %d, ", r.State, r.TurnedAway)
	}
	return text.String() + strings.Join(done, " ")
}

// A call of a batch has the verdict, the error and the effect that it has alone: for each state
// of the barrier row, and each operation.
func TestVerdictsOfABatch(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for name, branch := range map[string]func(w *gathering) *txn.Branch{"plain": (*gathering).plain, "bulk": (*gathering).bulk} {
			t.Run(name, func(t *testing.T) {
				ok(t, db.Exec("DROP TABLE IF EXISTS done").Error)
				ok(t, db.Exec("DELETE FROM saga_barrier").Error)
				w := newGathering(t, db, call.Config{})
				b := branch(w)
				for state, before := range map[string][]barrier.Op{"none": nil, "tried": {barrier.Try}, "confirmed": {barrier.Try, barrier.Confirm},
					"cancelled": {barrier.Try, barrier.Cancel}, "suspended": {barrier.Cancel}} {
					for _, op := range []barrier.Op{barrier.Try, barrier.Confirm, barrier.Cancel} {
						for what, change := range map[string]func(*saga.Call){"same": func(*saga.Call) {},
							"payload": func(c *saga.Call) { c.Payload = []byte("2") }} {
							id := strings.Join([]string{state, string(op), what}, "-")
							prepare := func(gid string, ops ...barrier.Op) saga.Call {
								for _, op := range ops {
									ok(t, w.Calls.Call(t.Context(), b, w.ofGID(b, op, gid)))
								}
								return w.ofGID(b, op, gid)
							}
							alone, one := prepare("alone-"+id, before...), prepare("batch-"+id, before...)
							change(&alone)
							change(&one)
							want := w.Calls.Call(t.Context(), b, alone)
							var others []barrier.Op
							if op != barrier.Try {
								others = []barrier.Op{barrier.Try}
							}
							failures := w.together(b, prepare("first-"+id, others...), one, prepare("last-"+id, others...))
							if failures[0] != nil || failures[2] != nil {
								t.Errorf("%s: the others: %v, %v", id, failures[0], failures[2])
							}
							got := failures[1]
							for _, target := range []error{barrier.ErrConflict, barrier.ErrSuspended} {
								if errors.Is(got, target) != errors.Is(want, target) || (got == nil) != (want == nil) {
									t.Errorf("%s: %v, alone %v", id, got, want)
								}
							}
							if got, want := w.seen("batch-"+id), w.seen("alone-"+id); got != want {
								t.Errorf("%s: %q, alone %q", id, got, want)
							}
						}
					}
				}
			})
		}
	})
}

// A call that fails, is rejected or panics leaves no trace, and keeps no other from its effect.
func TestFailuresInABatch(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for name, branch := range map[string]func(w *gathering) *txn.Branch{"plain": (*gathering).plain, "bulk": (*gathering).bulk} {
			t.Run(name, func(t *testing.T) {
				ok(t, db.Exec("DROP TABLE IF EXISTS done").Error)
				ok(t, db.Exec("DELETE FROM saga_barrier").Error)
				w := newGathering(t, db, call.Config{})
				b := branch(w)
				failure, rejection := errors.New("on purpose"), saga.RejectCode("sold_out", errors.New("sold out"))
				for round := range 2 { // the second time it is known that the branch rejects
					var calls []saga.Call
					for i := range 12 {
						gid := fmt.Sprint("g", round, "-", i)
						calls = append(calls, w.ofGID(b, barrier.Try, gid))
						switch i {
						case 3, 5:
							w.fail["try "+gid] = rejection
						case 8:
							w.fail["try "+gid] = failure
						}
					}
					for i, err := range w.together(b, calls...) {
						gid := calls[i].GID
						want, seen := error(nil), "tried, turned away 0, try"
						switch i {
						case 3, 5:
							want, seen = rejection, ""
						case 8:
							want, seen = failure, ""
						}
						if !errors.Is(err, want) || w.seen(gid) != seen {
							t.Errorf("%s: %v, %q", gid, err, w.seen(gid))
						}
					}
					for i := range calls {
						calls[i].Op = barrier.Confirm
					}
					calls = slices.DeleteFunc(calls, func(c saga.Call) bool { return w.seen(c.GID) == "" })
					w.fail["confirm "+calls[2].GID] = failure
					for i, err := range w.together(b, calls...) {
						want, seen := error(nil), "confirmed, turned away 0, confirm try"
						if i == 2 {
							want, seen = failure, "tried, turned away 0, try"
						}
						if !errors.Is(err, want) || w.seen(calls[i].GID) != seen {
							t.Errorf("%s: %v, %q", calls[i].GID, err, w.seen(calls[i].GID))
						}
					}
				}
			})
		}
	})
}

// What a Try has written before it rejects is undone, and only that.
func TestRejectionUndoesItsWork(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newGathering(t, db, call.Config{})
		b := w.Register(saga.NewLocal("k", parts.Encode, saga.Local{Work: func(ctx context.Context, tx *gorm.DB, c saga.Call) error {
			if err := w.work(ctx, tx, c); err != nil || !strings.HasPrefix(c.GID, "short") {
				return err
			}
			return saga.Reject(errors.New("sold out"))
		}}))
		b.Rejected.Note()
		calls := []saga.Call{w.ofGID(b, barrier.Try, "a"), w.ofGID(b, barrier.Try, "short-1"), w.ofGID(b, barrier.Try, "b"), w.ofGID(b, barrier.Try, "short-2")}
		failures := w.together(b, calls...)
		for i, seen := range []string{"tried, turned away 0, try", "", "tried, turned away 0, try", ""} {
			if got := w.seen(calls[i].GID); got != seen || (failures[i] != nil) != (seen == "") {
				t.Errorf("%s: %v, %q", calls[i].GID, failures[i], got)
			}
		}
	})
}

// Calls of one batch share one commit.
func TestABatchIsOneCommit(t *testing.T) {
	t.Parallel()
	db, loss := sqltest.OpenLossy(t)
	w := newGathering(t, db, call.Config{})
	b := w.plain()
	for _, op := range []barrier.Op{barrier.Try, barrier.Confirm} {
		var calls []saga.Call
		for i := range 20 {
			calls = append(calls, w.ofGID(b, op, fmt.Sprint("g", i)))
		}
		_, before := loss.Traffic()
		if err := errors.Join(w.together(b, calls...)...); err != nil {
			t.Fatal(err)
		}
		if _, after := loss.Traffic(); after != before+1 {
			t.Errorf("%s: %d commits", op, after-before)
		}
	}
}

// A batch in which the barrier turns calls away is not confirmed blindly again and again: its rows
// are read from then on, once for each such call.
func TestABatchOfRepeatedConfirms(t *testing.T) {
	t.Parallel()
	db, loss := sqltest.OpenLossy(t)
	w := newGathering(t, db, call.Config{})
	b := w.plain()
	const n = 20
	confirm := func() (statements int) {
		var calls []saga.Call
		for i := range n {
			calls = append(calls, w.ofGID(b, barrier.Confirm, fmt.Sprint("g", i)))
		}
		before, _ := loss.Traffic()
		if err := errors.Join(w.together(b, calls...)...); err != nil {
			t.Fatal(err)
		}
		after, _ := loss.Traffic()
		return after - before
	}
	for i := range n {
		if err := w.Calls.Call(t.Context(), b, w.ofGID(b, barrier.Try, fmt.Sprint("g", i))); err != nil {
			t.Fatal(err)
		}
	}
	confirm()
	before, _ := loss.Traffic()
	if err := w.Calls.Call(t.Context(), b, w.ofGID(b, barrier.Confirm, "g0")); err != nil { // a repeated one, alone
		t.Fatal(err)
	}
	after, _ := loss.Traffic()
	// One attempt to confirm all, one look for each call but the last, which is alone, and each alone.
	if got, want := confirm(), 1+(n-1)+n*(after-before); got > want {
		t.Errorf("%d statements, want at most %d", got, want)
	}
}

// If the COMMIT of a batch is not answered, each call finds out alone what has happened.
func TestUnansweredCommitOfABatch(t *testing.T) {
	t.Parallel()
	for _, committed := range []bool{true, false} {
		db, loss := sqltest.OpenLossy(t)
		w := newGathering(t, db, call.Config{})
		b := w.plain()
		for _, op := range []barrier.Op{barrier.Try, barrier.Cancel} {
			loss.Arm(1, committed)
			if err := errors.Join(w.together(b, w.ofGID(b, op, "a"), w.ofGID(b, op, "b"))...); err != nil {
				t.Errorf("committed: %v, %s: %v", committed, op, err)
			}
		}
		for _, gid := range []string{"a", "b"} {
			if got := w.Rows(db, gid); got != "01 cancelled" {
				t.Errorf("committed: %v, %s: %s", committed, gid, got)
			}
		}
	}
}

// The results of actions, and the inputs of branches in doubt, are those of each call.
func TestResultsAndInputsOfABatch(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w := newGathering(t, db, call.Config{AskAfter: time.Hour})
		b := w.Register(saga.NewLocal("k", parts.Encode, saga.Local{Work: w.work}).AsAction())
		results := make([]json.RawMessage, 6)
		var calls []saga.Call
		for i := range results {
			c := w.ofGID(b, barrier.Try, fmt.Sprint("g", i))
			c.Result = &results[i]
			calls = append(calls, c)
		}
		w.fail["try g2"] = saga.Reject(errors.New("sold out"))
		failures := w.together(b, calls...)
		for i, c := range calls {
			want := fmt.Sprintf("%q", c.GID)
			if i == 2 {
				want = ""
			}
			if (failures[i] != nil) != (i == 2) || string(results[i]) != want {
				t.Errorf("%s: %s, %v", c.GID, results[i], failures[i])
			}
		}
		count := func(table string) (n int64) { ok(t, db.Table(table).Count(&n).Error); return n }
		if count("saga_results") != 5 || count("saga_inputs") != 5 {
			t.Errorf("%d results, %d inputs", count("saga_results"), count("saga_inputs"))
		}
		calls = slices.Delete(calls, 2, 3)
		for i := range calls {
			calls[i].Op, calls[i].Result = barrier.Confirm, nil
		}
		if err := errors.Join(w.together(b, calls...)...); err != nil {
			t.Fatal(err)
		}
		if count("saga_inputs") != 0 {
			t.Errorf("%d inputs are left", count("saga_inputs"))
		}
	})
}

// A kind whose calls are slow is called alone for a while.
func TestASlowCallInABatch(t *testing.T) {
	t.Parallel()
	w := newGathering(t, sqltest.Open(t, "mysql"), call.Config{})
	release := make(chan struct{})
	b := w.Register(saga.NewLocal("k", parts.Encode, saga.Local{Work: func(ctx context.Context, tx *gorm.DB, c saga.Call) error {
		if c.GID == "slow" {
			select {
			case <-release:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return w.work(ctx, tx, c)
	}}))
	calls := []saga.Call{w.ofGID(b, barrier.Try, "a"), w.ofGID(b, barrier.Try, "slow"), w.ofGID(b, barrier.Try, "b")}
	w.Calls.Gather(w.DB, calls[0], 3)
	ended := make(chan string, 3)
	for _, c := range calls {
		go func() {
			if err := w.Calls.Call(t.Context(), b, c); err != nil {
				t.Error(err)
			}
			ended <- c.GID
		}()
	}
	first := []string{<-ended, <-ended}
	slices.Sort(first)
	if !slices.Equal(first, []string{"a", "b"}) || !b.Backoff.Active() {
		t.Errorf("%v ended first; alone from now on: %v", first, b.Backoff.Active())
	}
	close(release)
	<-ended
}
