package call_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
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

func TestKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.Open(t, "sqlite"))
	a, b := w.Local("a", &w.Script), w.Local("b", &w.Script)
	shared := w.Shared(2)
	steps := func(branches ...*txn.Branch) (all []*txn.Step) {
		for i, branch := range branches {
			all = append(all, &txn.Step{ID: saga.BranchID(i + 1), Kind: branch.Kind, Branch: branch, Payload: []byte("1")})
		}
		return all
	}
	key := func(steps []*txn.Step) string {
		t.Helper()
		key, ok := shared.Key(steps)
		if ok != (key != "") {
			t.Errorf("the key is %q, %v", key, ok)
		}
		return key
	}
	seen := map[string]bool{}
	for _, kinds := range [][]*txn.Step{steps(a), steps(b), steps(a, b), steps(b, a), steps(a, a), steps(a, b)[1:]} {
		seen[key(kinds)] = true
	}
	if len(seen) != 6 || seen[""] {
		t.Errorf("the keys are %v", seen)
	}
	other := steps(a, b)
	other[0].Payload = []byte("2")
	if key(other) != key(steps(a, b)) {
		t.Error("the payload is in the key")
	}

	if key(steps(slices.Repeat([]*txn.Branch{a}, 8)...)) == "" || key(steps(slices.Repeat([]*txn.Branch{a}, 9)...)) != "" {
		t.Error("8 branches do not share, or 9 do")
	}
	large := steps(a, b)
	large[0].Payload, large[1].Payload = make([]byte, 10<<10), make([]byte, 6<<10)
	if key(large) == "" {
		t.Error("16 KiB do not share")
	}
	large[1].Payload = make([]byte, 6<<10+1)
	if key(large) != "" {
		t.Error("more than 16 KiB share")
	}
	b.Backoff.Penalize()
	if key(steps(a, b)) != "" || key(steps(a)) == "" {
		t.Error("the penalty of a kind is not its own")
	}
	if _, alone := w.Shared(1).Key(steps(a)); alone || shared.MaxBatch() != 2 {
		t.Error("batches of one are shared")
	}
}

// sharing has a branch whose calls share local transactions.
func sharing(t *testing.T, db *gorm.DB) (*world, *call.Shared, *txn.Branch) {
	t.Helper()
	w := newWorld(t, db)
	ok(t, db.Exec("CREATE TABLE things (id INT PRIMARY KEY)").Error)
	b := w.Local("k", &w.Script)
	return w, w.Shared(10), b
}

func things(t *testing.T, db *gorm.DB) (n int64) {
	t.Helper()
	ok(t, db.Table("things").Count(&n).Error)
	return n
}

func TestRunCommits(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		_, shared, b := sharing(t, db)
		failure := errors.New("on purpose")
		for callers, want := range []error{nil, nil, nil, failure} {
			if callers == 0 {
				continue
			}
			err := shared.Run(t.Context(), callers, []*txn.Branch{b}, func(_ context.Context, tx *gorm.DB, _ *call.Watch) error {
				ok(t, tx.Exec("INSERT INTO things VALUES (?)", callers).Error)
				return want
			})
			if err != want || b.Backoff.Active() {
				t.Errorf("%d callers: %v, penalty: %v", callers, err, b.Backoff.Active())
			}
		}
		if n := things(t, db); n != 2 {
			t.Errorf("%d were committed", n)
		}
	})
}

// A call that hangs while others wait ends the local transaction of all, and its kind goes
// alone for a while.
func TestRunGivesUpACallThatHangs(t *testing.T) {
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		w, shared, b := sharing(t, db)
		free, returned := make(chan struct{}), make(chan struct{})
		w.Do("confirm g/01", func(context.Context) error { <-free; return nil }) // it ignores its context
		err := shared.Run(t.Context(), 2, []*txn.Branch{b}, func(ctx context.Context, tx *gorm.DB, watch *call.Watch) error {
			defer close(returned)
			ok(t, tx.Exec("INSERT INTO things VALUES (1)").Error)
			_, err := shared.CallBatch(ctx, tx, watch, b, make2(w.of(b, barrier.Confirm)))
			if !errors.Is(context.Cause(ctx), call.ErrSlow) {
				t.Errorf("the context of the batch: %v", context.Cause(ctx))
			}
			return err
		})
		if !errors.Is(err, call.ErrSlow) || !b.Backoff.Active() {
			t.Errorf("%v, penalty: %v", err, b.Backoff.Active())
		}
		if n := things(t, db); n != 0 {
			t.Errorf("%d were committed", n)
		}
		// Its locks are gone before the call returns.
		ok(t, db.Exec("INSERT INTO things VALUES (1)").Error)
		close(free)
		<-returned
		if got := w.Made(); got != "confirm g/01" {
			t.Errorf("made %s", got)
		}
	})
}

// A branch that ends the goroutine of a batch keeps nobody.
func TestRunSurvivesTheEndOfItsGoroutine(t *testing.T) {
	t.Parallel()
	_, shared, b := sharing(t, sqltest.Open(t, "sqlite"))
	err := shared.Run(t.Context(), 2, []*txn.Branch{b}, func(context.Context, *gorm.DB, *call.Watch) error { runtime.Goexit(); return nil })
	if err == nil {
		t.Error("no error")
	}
}

// inBatch makes a batch in a shared local transaction, which is rolled back.
func inBatch(t *testing.T, shared *call.Shared, b *txn.Branch, calls []saga.BatchCall) (failures []error, err error) {
	t.Helper()
	rollback := errors.New("rolled back")
	ended := shared.Run(t.Context(), len(calls), []*txn.Branch{b}, func(ctx context.Context, tx *gorm.DB, w *call.Watch) error {
		failures, err = shared.CallBatch(ctx, tx, w, b, calls)
		return rollback
	})
	if ended != rollback {
		t.Error(ended)
	}
	return failures, err
}

func TestBatchOfCallsOneByOne(t *testing.T) {
	t.Parallel()
	w, shared, b := sharing(t, sqltest.Open(t, "sqlite"))
	type key struct{}
	var calls []saga.BatchCall
	for _, gid := range []string{"a", "b", "c"} {
		one := w.of(b, barrier.Try)
		one.GID = gid
		gone, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, gid))
		cancel() // of the caller, whose end is not the call's
		calls = append(calls, saga.BatchCall{Context: gone, Call: one})
		w.Do("try "+gid+"/01", func(ctx context.Context) error {
			if ctx.Err() != nil || ctx.Value(key{}) != gid {
				t.Errorf("the context of %s has ended: %v, and is of %v", gid, ctx.Err(), ctx.Value(key{}))
			}
			return nil
		})
	}
	if failures, err := inBatch(t, shared, b, calls); failures != nil || err != nil || w.Made() != "try a/01, try b/01, try c/01" {
		t.Errorf("%v, %v", failures, err)
	}
	for want, f := range map[string]func(context.Context) error{
		"on purpose":        func(context.Context) error { return errors.New("on purpose") },
		"panic: on purpose": func(context.Context) error { panic("on purpose") },
	} {
		w.Do("try b/01", f)
		failures, err := inBatch(t, shared, b, calls)
		var one *call.SingleFailure
		if failures != nil || !errors.As(err, &one) || one.Index != 1 || one.Err.Error() != want || w.Made() != "try a/01, try b/01" {
			t.Errorf("%v, %v", failures, err)
		}
	}
}

func TestBatchWithWorkBatch(t *testing.T) {
	t.Parallel()
	w, shared, _ := sharing(t, sqltest.Open(t, "sqlite"))
	failure := errors.New("on purpose")
	var together func() ([]error, error)
	b := w.Register(saga.NewLocal("bulk", parts.Encode, saga.Local{Work: w.Work,
		WorkBatch: func(_ context.Context, _ *gorm.DB, op barrier.Op, calls []saga.BatchCall) ([]error, error) {
			if op != barrier.Try || len(calls) != 2 {
				t.Errorf("%s of %d calls", op, len(calls))
			}
			return together()
		}}))
	for _, c := range []struct {
		name     string
		together func() ([]error, error)
		failures int
		want     string
	}{
		{"nothing", func() ([]error, error) { return nil, nil }, 0, ""},
		{"no failure", func() ([]error, error) { return []error{nil, nil}, nil }, 0, ""},
		{"a failure", func() ([]error, error) { return []error{nil, failure}, nil }, 2, ""},
		{"too few", func() ([]error, error) { return []error{failure}, nil }, 0, "bulk: 2 calls were made together, and 1 results came back"},
		{"none", func() ([]error, error) { return []error{}, nil }, 0, "bulk: 2 calls were made together, and 0 results came back"},
		{"too many", func() ([]error, error) { return make([]error, 3), nil }, 0, "bulk: 2 calls were made together, and 3 results came back"},
		{"an error", func() ([]error, error) { return []error{nil, failure}, failure }, 0, "on purpose"},
		{"a panic", func() ([]error, error) { panic("on purpose") }, 0, "panic: on purpose"},
	} {
		together = c.together
		failures, err := inBatch(t, shared, b, make2(w.of(b, barrier.Try)))
		if len(failures) != c.failures || (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("%s: %v, %v", c.name, failures, err)
		}
	}
	if w.Made() != "" {
		t.Error("calls were made one by one")
	}
	// A single call is made by its Work.
	if failures, err := inBatch(t, shared, b, make2(w.of(b, barrier.Try))[:1]); failures != nil || err != nil || w.Made() != "try g/01" {
		t.Errorf("%v, %v", failures, err)
	}
}

// A call that hangs alone is given up after the time limit of a call.
func TestASingleCallThatHangs(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	w := newWorld(t, db)
	w.Calls = call.New(call.Config{Timeout: 10 * time.Millisecond, Logger: w.Logger, Instance: parts.Instance})
	b := w.Local("k", &w.Script)
	shared := w.Shared(10)
	w.Do("confirm g/01", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	_, err := inBatch(t, shared, b, make2(w.of(b, barrier.Confirm))[:1])
	if !errors.Is(err, context.DeadlineExceeded) || b.Backoff.Active() || strings.Contains(err.Error(), "goes on") {
		t.Errorf("%v, penalty: %v", err, b.Backoff.Active())
	}
}
