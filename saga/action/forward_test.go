package action_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/action"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
)

// always is an error for every call of a test.
var always = slices.Repeat([]error{errDown}, 100_000)

// unlimited is the options of forward recovery without a limit.
var unlimited = saga.Options{TryAttempts: saga.Unlimited}

// eachPlace runs a test for an action in each place, each with a new bench.
func eachPlace(t *testing.T, config embedded.Config, test func(t *testing.T, b *bench, place string)) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, place := range []string{"here", "away", "out", "far"} {
			t.Run(place, func(t *testing.T) { test(t, newBench(t, sqltest.Open(t, db.Name()), config), place) })
		}
	})
}

// With forward recovery, an action that fails is done again, and the saga goes on.
func TestForward(t *testing.T) {
	eachPlace(t, embedded.Config{}, func(t *testing.T, b *bench, place string) {
		b.journal.fail("do b", errDown, errDown)
		s := action.NewSaga("g").Step(here{"a"}).Step(payload("b", place)).Step(away{"c"})
		b.executeWith(s, saga.Options{TryAttempts: 3}, saga.Confirmed)
		b.did("do a, do b, do c")
		b.knew("do c", "01=a1 02=b3")
		found, err := b.engine.Lookup(t.Context(), "g")
		sagatest.Must(t, err)
		attempts := found.Branches[1].Attempts
		if found.TryAttempts != 3 || found.Failures != 2 || len(attempts) != 2 || attempts[1].Operation != barrier.Try || attempts[1].Number != 2 {
			t.Errorf("%+v, attempts %+v", found.Summary, attempts)
		}
	})
}

// The saga is compensated when the attempts of an action are used up.
func TestForwardLimit(t *testing.T) {
	eachPlace(t, embedded.Config{}, func(t *testing.T, b *bench, place string) {
		b.journal.fail("do b", always...)
		s := action.NewSaga("g").Step(away{"a"}).Step(payload("b", place))
		_, err := s.ExecuteWith(t.Context(), b.engine, saga.Options{TryAttempts: 3})
		if !errors.Is(err, saga.ErrCancelled) {
			t.Fatal(err)
		}
		found := b.reaches("g", saga.Cancelled)
		if n := b.journal.called("do b"); n != 3 {
			t.Errorf("%d attempts, want 3", n)
		}
		if found.Code != saga.CodeFailed || found.BranchID != "02" {
			t.Errorf("%+v", found.Summary)
		}
		want := "do a, undo a"
		if place == "out" {
			want = "do a, undo b, undo a"
		}
		b.did(want)
	})
}

// A rejection cancels at once.
func TestForwardRejection(t *testing.T) {
	eachPlace(t, embedded.Config{}, func(t *testing.T, b *bench, place string) {
		b.journal.fail("do b", errDown, action.RejectCode("none", errNo))
		_, err := action.NewSaga("g").Step(away{"a"}).Step(payload("b", place)).ExecuteWith(t.Context(), b.engine, unlimited)
		var cancelled *saga.CancelledError
		if !errors.As(err, &cancelled) || cancelled.Code != "none" {
			t.Fatalf("%v", err)
		}
		b.reaches("g", saga.Cancelled)
		if n := b.journal.called("do b"); n != 2 {
			t.Errorf("%d attempts, want 2", n)
		}
	})
}

// The deadline ends forward recovery.
func TestForwardDeadline(t *testing.T) {
	eachPlace(t, embedded.Config{}, func(t *testing.T, b *bench, place string) {
		b.journal.fail("do b", always...)
		options := unlimited
		options.Timeout = 700 * time.Millisecond
		_, err := action.NewSaga("g").Step(away{"a"}).Step(payload("b", place)).ExecuteWith(t.Context(), b.engine, options)
		if !errors.Is(err, saga.ErrCancelled) {
			t.Fatal(err)
		}
		found := b.reaches("g", saga.Cancelled)
		if found.Code != saga.CodeDeadline || b.journal.called("do b") == 0 {
			t.Errorf("%+v after %d attempts", found.Summary, b.journal.called("do b"))
		}
		b.undone("a")
	})
}

// In a group, only the actions that have failed are done again.
func TestForwardInAGroup(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		b.journal.fail("do b", errDown, errDown)
		b.journal.fail("do d", errDown)
		b.executeWith(action.NewSaga("g").Parallel(here{"a"}, away{"b"}, out{"c"}, far{"d"}, here{"e"}).Step(here{"f"}), unlimited, saga.Confirmed)
		b.did("(do a, do b, do c, do d, do e), do f")
		b.knew("do f", "01=a1 02=b3 03=c1 04=d2 05=e1")
		for letter, want := range map[string]int{"a": 1, "b": 3, "c": 1, "d": 2, "e": 1} {
			if n := b.journal.called("do " + letter); n != want {
				t.Errorf("%s was called %d times, want %d", letter, n, want)
			}
		}
	})
}

// If the process dies, another instance continues, and does not cancel.
func TestForwardDeath(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, place := range []string{"here", "away", "far", "out"} {
			t.Run(place, func(t *testing.T) {
				config := still
				config.CallTimeout = time.Second
				b := newStill(t, sqltest.Open(t, db.Name()), config)
				b.journal.fail("do b", errDown, errDown)
				dead, die := context.WithCancel(t.Context())
				defer die()
				ended := make(chan error, 1)
				go func() {
					_, err := action.NewSaga("g").Step(away{"a"}).Step(payload("b", place)).Step(far{"c"}).AfterDecision(here{"z"}).ExecuteWith(dead, b.engine, unlimited)
					ended <- err
				}()
				sagatest.Eventually(t, "the first attempt is recorded", func() bool {
					found, err := b.engine.Lookup(t.Context(), "g")
					return err == nil && found.Failures > 0
				})
				b.die()
				config.MinBackoff, config.MaxBackoff = 0, 0
				config.Lease = 2 * time.Second // a transaction that it cannot continue is due again soon
				second := b.open(config)
				sagatest.Run(t, second)
				var found *saga.Transaction
				sagatest.Eventually(t, "it is finished", func() bool {
					var err error
					found, err = second.Lookup(t.Context(), "g")
					return err == nil && found.State.Finished()
				})
				if found.State != saga.Confirmed || found.Epoch < 2 || found.DecidedBy != "caller" {
					t.Errorf("%+v", found.Summary)
				}
				b.did("do a, do b, do c, do z")
				if n := b.journal.called("do a"); n != 1 {
					t.Errorf("the first action was done %d times", n)
				}
				b.knew("do z", "01=a1 02=b"+string(rune('0'+b.journal.called("do b")))+" 03=c1")
				if err := <-ended; err != nil { // the caller waits for the decision of any instance
					t.Errorf("the caller got %v", err)
				}
			})
		}
	})
}

// The saga continues without its caller.
func TestForwardWithoutCaller(t *testing.T) {
	eachPlace(t, embedded.Config{}, func(t *testing.T, b *bench, place string) {
		b.journal.fail("do b", always...)
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		go func() {
			for b.journal.called("do b") == 0 && ctx.Err() == nil {
				<-time.After(time.Millisecond)
			}
			leave()
		}()
		s := action.NewSaga("g").Step(here{"a"}).Step(payload("b", place)).Step(away{"c"})
		if _, err := s.ExecuteWith(ctx, b.engine, unlimited); !errors.Is(err, saga.ErrUnknown) {
			t.Fatalf("the caller got %v", err)
		}
		b.journal.fail("do b")
		b.reaches("g", saga.Confirmed)
		b.did("do a, do b, do c")
		if outcome, err := s.ExecuteWith(t.Context(), b.engine, unlimited); err != nil || outcome.State != saga.Confirmed {
			t.Errorf("asking again: %+v, %v", outcome, err)
		}
	})
}

// A kind that is paused, and a saga that is paused, wait.
func TestForwardPaused(t *testing.T) {
	t.Parallel()
	alice := saga.Operator{Who: "alice", Why: "the airline is down"}
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{})
		for gid, acts := range map[string][2]func() error{
			"kind": {func() error { return b.engine.PauseKind(t.Context(), "act.far", alice) }, func() error { return b.engine.ResumeKind(t.Context(), "act.far", alice) }},
			"saga": {func() error { return b.engine.Pause(t.Context(), "saga", alice) }, func() error { return b.engine.Resume(t.Context(), "saga", alice) }},
		} {
			one, two := gid+"1", gid+"2"
			entered, gate := b.journal.hold("do " + one)
			ended := make(chan error, 1)
			go func() {
				_, err := action.NewSaga(gid).Step(away{one}).Step(far{two}).ExecuteWith(t.Context(), b.engine, unlimited)
				ended <- err
			}()
			await(t, entered)
			sagatest.Must(t, acts[0]())
			close(gate)
			sagatest.Eventually(t, "the first step is marked", func() bool {
				var n int
				sagatest.Must(t, db.Raw("SELECT COUNT(*) FROM saga_branches WHERE gid = ? AND tried_at IS NOT NULL", gid).Scan(&n).Error)
				return n == 1
			})
			// Recovery continues another saga, which is due later, a number of times meanwhile.
			// The local transaction is repeated if it loses a deadlock with the driver of the saga.
			sagatest.Must(t, barrier.Transaction(t.Context(), db, func(tx *gorm.DB) error {
				return tx.Exec("UPDATE saga_transactions SET due_at = created_at WHERE gid = ? AND due_at IS NOT NULL", gid).Error
			}))
			b.journal.fail("do p"+gid, errDown, errDown, errDown)
			b.executeWith(action.NewSaga("other"+gid).Step(here{"o" + gid}).Step(away{"p" + gid}), unlimited, saga.Confirmed)
			if n := b.journal.called("do " + two); n != 0 {
				t.Errorf("%s: the second step was called", gid)
			}
			sagatest.Must(t, acts[1]())
			if err := <-ended; err != nil {
				t.Errorf("%s: %v", gid, err)
			}
			if n := b.journal.called("do " + two); n != 1 {
				t.Errorf("%s: the second step was called %d times", gid, n)
			}
		}
	})
}

// An instance that does not know a kind leaves the saga to another one, until the deadline.
func TestForwardOfAnUnknownKind(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		for _, known := range []bool{true, false} {
			t.Run(map[bool]string{true: "another instance knows it", false: "nobody knows it"}[known], func(t *testing.T) {
				b := newStill(t, sqltest.Open(t, db.Name()), still)
				b.journal.fail("do b", errDown)
				ctx, leave := context.WithCancel(t.Context())
				options := unlimited
				options.Timeout = 2 * time.Second
				if known {
					options.Timeout = time.Minute
				}
				go func() {
					sagatest.Eventually(t, "the first attempt", func() bool { return b.journal.called("do b") == 1 })
					leave()
				}()
				action.NewSaga("g").Step(away{"a"}).Step(far{"b"}).ExecuteWith(ctx, b.engine, options)
				b.die()
				stranger := sagatest.Open(t, b.db, quick)
				sagatest.Must(t, action.Register(stranger, local[away]{b.journal, b.other, func(in away) string { return in.L }}))
				sagatest.Run(t, stranger)
				if known {
					second := b.open(quick)
					sagatest.Run(t, second)
					sagatest.Reach(t, stranger, "g", saga.Confirmed)
					b.did("do a, do b")
					return
				}
				found := sagatest.Reach(t, stranger, "g", saga.Cancelling)
				if found.Code != saga.CodeDeadline {
					t.Errorf("%+v", found.Summary)
				}
				second := b.open(quick)
				sagatest.Run(t, second)
				sagatest.Reach(t, second, "g", saga.Cancelled)
				b.did("do a, undo a")
			})
		}
	})
}

// An engine that stops uses up no attempt: another instance continues.
func TestForwardStop(t *testing.T) {
	eachPlace(t, embedded.Config{StopTimeout: time.Millisecond, Retention: embedded.Forever}, func(t *testing.T, b *bench, place string) {
		first := b.open(embedded.Config{StopTimeout: time.Millisecond, Retention: embedded.Forever})
		running := make(chan error, 1)
		go func() { running <- first.Run(context.WithoutCancel(t.Context())) }()
		b.journal.fail("do b", errDown)
		entered, gate := b.journal.holdFrom("do b", 2) // the last one that is allowed
		defer close(gate)
		ended := make(chan error, 1)
		go func() {
			_, err := action.NewSaga("g").Step(away{"a"}).Step(payload("b", place)).Step(here{"c"}).ExecuteWith(t.Context(), first, saga.Options{TryAttempts: 2})
			ended <- err
		}()
		await(t, entered)
		stopping, cancel := context.WithCancel(t.Context())
		cancel()
		first.Stop(stopping)
		if err := <-ended; !errors.Is(err, saga.ErrUnknown) {
			t.Errorf("the caller got %v", err)
		}
		<-running
		b.journal.free("do b")
		b.reaches("g", saga.Confirmed)
		b.did("do a, do b, do c")
	})
}

// A caller, or an operator, cancels a saga with forward recovery between two attempts. The
// compensations get the results.
func TestForwardIsCancelled(t *testing.T) {
	t.Parallel()
	sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
		b := newBench(t, db, embedded.Config{MinBackoff: time.Hour, MaxBackoff: time.Hour})
		b.journal.fail("do c", always...)
		ended := make(chan error, 1)
		go func() {
			_, err := action.NewSaga("g").Step(away{"a"}).Step(far{"b"}).Step(away{"c"}).ExecuteWith(t.Context(), b.engine, saga.Options{TryAttempts: saga.Unlimited, Timeout: time.Hour})
			ended <- err
		}()
		sagatest.Eventually(t, "the first attempt is recorded", func() bool {
			found, err := b.engine.Lookup(t.Context(), "g")
			return err == nil && found.Failures == 1
		})
		if _, err := b.engine.Cancel(t.Context(), "g", "enough"); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, saga.ErrCancelled) {
			t.Errorf("the caller got %v", err)
		}
		b.reaches("g", saga.Cancelled)
		b.did("do a, do b, undo b, undo a")
		b.knew("undo a", "01=a1 02=b1 done=a1")
	})
}
