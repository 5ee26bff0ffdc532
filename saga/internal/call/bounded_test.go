package call_test

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/test/parts"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

const timeout = 10 * time.Second

// journal is what is logged. It is safe for concurrent use.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(line)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// bound has a Caller without a database, and what it logs.
func bound() (c *call.Caller, logged *journal) {
	logged = &journal{}
	logger := slog.New(slog.NewTextHandler(logged, nil))
	return call.New(call.Config{Timeout: timeout, Logger: logger, Instance: parts.Instance}), logged
}

var confirm = saga.Call{GID: "g", BranchID: "01", Kind: "k", Op: barrier.Confirm, Attempt: 1}

// service is a branch of another service that does f.
func service(t *testing.T, f func(context.Context) error) *txn.Branch {
	t.Helper()
	s := &parts.Script{}
	s.Do("confirm g/01", f)
	b, err := txn.NewBranch(saga.NewRemote("k", parts.Encode, s), nil)
	ok(t, err)
	return b
}

// actor is an external branch that does f.
func actor(t *testing.T, f saga.Effect) *txn.Branch {
	t.Helper()
	b, err := txn.NewBranch(saga.NewExternal("k", parts.Encode, saga.External{Try: f, Confirm: f, Cancel: f}), nil)
	ok(t, err)
	return b
}

func TestACallGetsAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := bound()
		failure := errors.New("on purpose")
		b := service(t, func(context.Context) error {
			if under, known := c.UnderWay.Of(confirm.Key()); !known || under.Op != barrier.Confirm {
				t.Errorf("the call is not under way: %+v", under)
			}
			return failure
		})
		if err := c.Call(t.Context(), b, confirm); err != failure {
			t.Error(err)
		}
		if _, known := c.UnderWay.Of(confirm.Key()); known {
			t.Error("the call is under way after its end")
		}
	})
}

// A call that notices the end of its time is answered with that.
func TestACallThatTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, logged := bound()
		began := time.Now()
		err := c.Call(t.Context(), service(t, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }), confirm)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "confirm of k did not return within 10s") || strings.Contains(err.Error(), "goes on") {
			t.Error(err)
		}
		if took := time.Since(began); took != timeout {
			t.Errorf("it took %s", took)
		}
		if logged.String() != "" {
			t.Error(logged)
		}
	})
}

// A call whose time is over at the moment at which the context of its caller ends is
// answered with the cause of that context, each time.
func TestTwoLimitsThatEndAtTheSameMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := bound()
		outer := errors.New("the outer limit")
		for range 200 {
			ctx, cancel := context.WithTimeoutCause(t.Context(), timeout, outer)
			err := c.Call(ctx, service(t, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }), confirm)
			cancel()
			if !errors.Is(err, outer) || !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "did not return within") {
				t.Fatal(err)
			}
		}
	})
}

// The end of the caller's context ends the call, which may need a moment to notice.
func TestACallWhoseCallerGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := bound()
		gone := errors.New("the caller has gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(gone) })
		began := time.Now()
		err := c.Call(ctx, service(t, func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Second / 2)
			return ctx.Err()
		}), confirm)
		if !errors.Is(err, gone) || time.Since(began) != 3*time.Second/2 {
			t.Errorf("%v, after %s", err, time.Since(began))
		}
	})
}

// A call that ignores the end of its context keeps nobody. Its late return is logged.
func TestACallThatIgnoresItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, logged := bound()
		began := time.Now()
		err := c.Call(t.Context(), service(t, func(context.Context) error { time.Sleep(time.Minute); return errors.New("too late") }), confirm)
		if err == nil || !strings.Contains(err.Error(), "goes on") || !strings.Contains(err.Error(), "did not return within 10s") {
			t.Error(err)
		}
		if took := time.Since(began); took != timeout+time.Second {
			t.Errorf("it took %s", took)
		}
		if logged.String() != "" {
			t.Errorf("logged too early: %s", logged)
		}
		time.Sleep(time.Minute)
		for _, want := range []string{"returned long after", "gid=g", "branch=01", "kind=k", "operation=confirm", "too late"} {
			if !strings.Contains(logged.String(), want) {
				t.Errorf("%q is not in %s", want, logged)
			}
		}
	})
}

// Late is called once, when a call that was given up returns, and never otherwise.
func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := bound()
		late := make(chan time.Duration, 4)
		for _, takes := range []time.Duration{0, timeout, timeout + 900*time.Millisecond, time.Hour} {
			began := time.Now()
			slow := actor(t, func(context.Context, saga.Call) (any, error) { time.Sleep(takes); return "receipt", nil })
			receipt, err := c.CallEffect(t.Context(), slow, confirm, func() { late <- time.Since(began) })
			if returned := takes < time.Hour; returned != (err == nil) || returned != (receipt == "receipt") {
				t.Errorf("after %s: %v, %v", takes, receipt, err)
			}
		}
		time.Sleep(2 * time.Hour)
		if after := <-late; after != time.Hour || len(late) > 0 {
			t.Errorf("late is called after %s, and %d times more", after, len(late))
		}
	})
}

// A panic, and the end of the goroutine, are errors. They are logged with a stack.
func TestACallThatDoesNotReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for want, f := range map[string]func(){
			"panic: on purpose": func() { panic("on purpose") },
			"panic: runtime error: index out of range [1] with length 0": func() { var none []int; _ = none[len(none)+1] },
			"the call ended its goroutine and did not return":            runtime.Goexit,
		} {
			c, logged := bound()
			began := time.Now()
			err := c.Call(t.Context(), service(t, func(context.Context) error { f(); return nil }), confirm)
			if err == nil || err.Error() != want || time.Since(began) != 0 {
				t.Errorf("%v after %s, want %s", err, time.Since(began), want)
			}
			if !strings.Contains(logged.String(), "a branch panicked") || !strings.Contains(logged.String(), "bounded_test.go") {
				t.Errorf("logged %s", logged)
			}
		}
	})
}

func TestAReceiptOfACallThatFailed(t *testing.T) {
	t.Parallel()
	c, _ := bound()
	failure := errors.New("on purpose")
	b := actor(t, func(context.Context, saga.Call) (any, error) { return "receipt", failure })
	if receipt, err := c.CallEffect(t.Context(), b, confirm, nil); receipt != nil || err != failure {
		t.Errorf("%v, %v", receipt, err)
	}
}

func TestEffectBatch(t *testing.T) {
	t.Parallel()
	c, _ := bound()
	failure := errors.New("on purpose")
	for _, b := range []struct {
		name     string
		receipts []any
		failures []error
		want     string
	}{
		{"all", []any{1, 2}, nil, ""},
		{"one fails", []any{1, nil}, []error{nil, failure}, ""},
		{"a receipt is missing", []any{1}, nil, "2 calls were made in one batch, and 1 receipts and 0 failures came back"},
		{"a failure is missing", []any{1, 2}, []error{failure}, "and 2 receipts and 1 failures came back"},
		{"nothing", nil, nil, "and 0 receipts and 0 failures came back"},
	} {
		branch := &txn.Branch{Kind: "k", EffectBatches: map[barrier.Op]saga.EffectBatch{
			barrier.Confirm: func(context.Context, []saga.BatchCall) ([]any, []error) { return b.receipts, b.failures }}}
		receipts, failures, err := c.CallEffectBatch(t.Context(), branch, make2(confirm))
		if b.want == "" && (err != nil || len(receipts) != 2 || len(failures) != len(b.failures)) {
			t.Errorf("%s: %v, %v, %v", b.name, receipts, failures, err)
		}
		if b.want != "" && (err == nil || !strings.Contains(err.Error(), b.want) || receipts != nil || failures != nil) {
			t.Errorf("%s: %v, %v, %v", b.name, receipts, failures, err)
		}
	}
}

// make2 is a batch of two equal calls.
func make2(c saga.Call) []saga.BatchCall {
	one := saga.BatchCall{Context: context.Background(), Call: c}
	return []saga.BatchCall{one, one}
}

// A Clean that hangs is given up, and not called again before it has returned.
func TestACleanThatHangs(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite") // which nothing is sent to
	synctest.Test(t, func(t *testing.T) {
		c, _ := bound()
		var calls atomic.Int64
		free := make(chan struct{})
		shape := saga.Local{Database: db, Work: new(parts.Script).Work, Clean: func(_ context.Context, _ *gorm.DB, gids []string) error {
			gids[0] = "overwritten"
			if calls.Add(1) == 1 {
				<-free
			}
			return nil
		}}
		b, err := txn.NewBranch(saga.NewLocal("k", parts.Encode, shape), nil)
		ok(t, err)
		gids := []string{"g"}
		if err := c.Clean(t.Context(), db, b, gids); !errors.Is(err, call.ErrClean) || !strings.Contains(err.Error(), "k: the call did not return") {
			t.Error(err)
		}
		if err := c.Clean(t.Context(), db, b, gids); !errors.Is(err, call.ErrClean) || !strings.Contains(err.Error(), "an earlier Clean has not returned") || calls.Load() != 1 {
			t.Errorf("%v, %d calls", err, calls.Load())
		}
		close(free)
		synctest.Wait()
		if err := c.Clean(t.Context(), db, b, gids); err != nil || calls.Load() != 2 {
			t.Errorf("%v, %d calls", err, calls.Load())
		}
		if gids[0] != "g" {
			t.Error("the branch has changed the caller's gids")
		}
	})
}

// A Clean that fails, or panics, may be called again.
func TestACleanThatFails(t *testing.T) {
	t.Parallel()
	db := sqltest.Open(t, "sqlite")
	c, _ := bound()
	for want, f := range map[string]func() error{
		"k: on purpose":        func() error { return errors.New("on purpose") },
		"k: panic: on purpose": func() error { panic("on purpose") },
	} {
		shape := saga.Local{Database: db, Work: new(parts.Script).Work, Clean: func(context.Context, *gorm.DB, []string) error { return f() }}
		b, err := txn.NewBranch(saga.NewLocal("k", parts.Encode, shape), nil)
		ok(t, err)
		for range 2 {
			if err := c.Clean(t.Context(), db, b, nil); !errors.Is(err, call.ErrClean) || !strings.HasSuffix(err.Error(), want) {
				t.Error(err)
			}
		}
	}
	b, err := txn.NewBranch(saga.NewLocal("k", parts.Encode, saga.Local{Work: new(parts.Script).Work}), nil)
	ok(t, err)
	if err := c.Clean(t.Context(), db, b, nil); err != nil {
		t.Errorf("without a Clean: %v", err)
	}
}

// The calls that are too slow for a shared commit.
func TestTooSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		time.Sleep(500*time.Millisecond + 100*3*time.Millisecond)
		if call.TooSlow(began, 100) {
			t.Error("100 calls in 800ms are too slow")
		}
		time.Sleep(time.Nanosecond)
		if !call.TooSlow(began, 100) || call.TooSlow(began, 101) {
			t.Error("100 calls in more than 800ms are not too slow, or 101 are")
		}
	})
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
