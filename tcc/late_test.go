package tcc_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/sql/sqltest"
	"github.com/tccsaga/tccsaga/tcc"
)

// A decision to cancel that comes while a Try is under way calls Cancel when the Try
// has ended, not before, and once; and the caller of the Try is told.
func TestCancelWaitsForTheEndOfATry(t *testing.T) {
	for name, c := range map[string]func(*late){
		"operator, plan": func(l *late) {
			l.execute(l.t.Context(), l.orch, saga.Options{})
			_, err := l.orch.Decide(l.t.Context(), l.gid, saga.Cancelling, alice)
			sagatest.Must(l.t, err)
		},
		"operator, open": func(l *late) {
			l.tryOpen(l.t.Context(), saga.Options{})
			_, err := l.orch.Decide(l.t.Context(), l.gid, saga.Cancelling, alice)
			sagatest.Must(l.t, err)
		},
		"caller": func(l *late) {
			l.tryOpen(l.t.Context(), saga.Options{})
			tx, err := tcc.Join(l.t.Context(), l.orch, l.gid)
			sagatest.Must(l.t, err)
			outcome, err := tx.Cancel(l.t.Context(), "never mind")
			sagatest.Must(l.t, err)
			if outcome.Finished() {
				l.t.Errorf("cancelled while the Try is under way: %+v", outcome)
			}
		},
		"lost lease": func(l *late) {
			l.execute(l.t.Context(), l.dead, saga.Options{})
			l.decided()
		},
	} {
		t.Run(name, func(t *testing.T) {
			sqltest.Each(t, func(t *testing.T, db *gorm.DB) {
				l := newLate(t, db, patiently, 30*time.Second)
				c(l)
				l.decided()
				sagatest.Eventually(t, "Cancel of the other branch", func() bool { return l.here.called(barrier.Cancel) > 0 })
				if got := l.gateway.so(); got != "" {
					t.Errorf("before the Try has ended: %s", got)
				}
				close(l.gateway.gate)
				if err := <-l.told; !errors.Is(err, saga.ErrCancelled) {
					t.Errorf("the caller of the Try was told %v", err)
				}
				l.told <- saga.ErrCancelled
				l.ends("held free")
				for _, a := range l.reaches(l.gid, saga.Cancelled).Branches[1].Attempts {
					if a.Operation == barrier.Cancel {
						t.Errorf("the wait counts as a failure: %+v", a)
					}
				}
			})
		})
	}
}

// A Try that does not notice the end of its context, and reserves after Cancel has
// come, is cancelled once more.
func TestTryThatReturnsAfterItsCancel(t *testing.T) {
	for name, c := range map[string]func(*late){
		"operator": func(l *late) {
			l.execute(l.t.Context(), l.orch, saga.Options{})
			_, err := l.orch.Decide(l.t.Context(), l.gid, saga.Cancelling, alice)
			sagatest.Must(l.t, err)
		},
		"time of the call": func(l *late) { l.execute(l.t.Context(), l.orch, saga.Options{}) },
		"deadline, plan": func(l *late) {
			l.execute(l.t.Context(), l.orch, saga.Options{Timeout: time.Second})
		},
		"deadline, open": func(l *late) { l.tryOpen(l.t.Context(), saga.Options{Timeout: time.Second}) },
		"lost lease":     func(l *late) { l.execute(l.t.Context(), l.dead, saga.Options{}) },
		"caller has gone": func(l *late) {
			ctx, cancel := context.WithCancel(l.t.Context())
			l.execute(ctx, l.orch, saga.Options{})
			cancel()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLate(t, sqltest.Open(t, "sqlite"), deaf, 1500*time.Millisecond)
			c(l)
			<-l.gateway.freed // its time is over
			close(l.gateway.gate)
			sagatest.Eventually(t, "one more Cancel", func() bool { return strings.HasPrefix(l.gateway.so(), "free held free") })
			if err := <-l.told; err == nil {
				t.Error("the caller was told of a success")
			}
			l.reaches(l.gid, saga.Cancelled)
			l.books(l.db, 1, 100, 0, 0)
		})
	}
}

// A caller goes, and its Try, which does not notice that, is given up and still at work:
// Cancel waits for its end.
func TestCancelWaitsForATryThatWasGivenUp(t *testing.T) {
	t.Parallel()
	l := newLate(t, sqltest.Open(t, "sqlite"), deaf, time.Minute)
	ctx, leave := context.WithCancel(t.Context())
	l.execute(ctx, l.orch, saga.Options{})
	leave()
	<-l.told
	began := int64(0)
	sagatest.Eventually(t, "two rounds of calls", func() bool {
		found, err := l.orch.Lookup(t.Context(), l.gid)
		sagatest.Must(t, err)
		if began == 0 && found.State == saga.Cancelling {
			began = found.Epoch
		}
		return began > 0 && found.Epoch > began+1
	})
	if got := l.gateway.so(); got != "" {
		t.Errorf("while the Try is at work: %s", got)
	}
	close(l.gateway.gate)
	l.reaches(l.gid, saga.Cancelled)
	if got := l.gateway.so(); got != "held free" {
		t.Errorf("the gateway saw %s", got)
	}
}

// A Try that reserves after both Cancels, when its transaction is finished, is cancelled
// once more.
func TestTryThatReturnsAfterItsTransaction(t *testing.T) {
	t.Parallel()
	l := newLate(t, sqltest.Open(t, "sqlite"), deaf, time.Second)
	l.execute(t.Context(), l.orch, saga.Options{})
	if err := <-l.told; err == nil {
		t.Error("the caller was told of a success")
	}
	l.reaches(l.gid, saga.Cancelled)
	close(l.gateway.gate)
	sagatest.Eventually(t, "one more Cancel", func() bool { return strings.HasSuffix(l.gateway.so(), "free held free") })
}

// A process is paused during a Try, and its Cancel comes meanwhile, when the time of the Try
// is over. The Try that returns then is cancelled at once.
func TestTryThatReturnsAfterAPause(t *testing.T) {
	t.Parallel()
	l := newLate(t, sqltest.Open(t, "sqlite"), patiently, time.Minute)
	l.execute(t.Context(), l.orch, saga.Options{})
	sqltest.Exec(t, l.db, "UPDATE saga_barrier SET call_until = call_since WHERE gid = ? AND branch_id = '02'", l.gid)
	_, err := l.orch.Decide(t.Context(), l.gid, saga.Cancelling, alice)
	sagatest.Must(t, err)
	<-l.gateway.freed
	sagatest.Eventually(t, "the Cancel is noted", func() bool {
		found, err := l.orch.Lookup(t.Context(), l.gid)
		sagatest.Must(t, err)
		return found.Branches[1].Barrier.State == barrier.StateCancelled
	})
	close(l.gateway.gate)
	sagatest.Eventually(t, "one more Cancel, before its time", func() bool { return l.gateway.so() == "free held free" })
}

// The second Cancel, for a Try that may arrive late, comes when the time for that is over,
// also if an operator makes the transaction due before.
func TestSecondCancelKeepsItsTime(t *testing.T) {
	t.Parallel()
	l := newLate(t, sqltest.Open(t, "sqlite"), patiently, time.Minute)
	l.execute(t.Context(), l.orch, saga.Options{})
	sqltest.Exec(t, l.db, "UPDATE saga_barrier SET call_until = call_since WHERE gid = ? AND branch_id = '02'", l.gid)
	_, err := l.orch.Decide(t.Context(), l.gid, saga.Cancelling, alice)
	sagatest.Must(t, err)
	<-l.gateway.freed
	began := int64(0)
	sagatest.Eventually(t, "two more rounds of calls", func() bool {
		found, err := l.orch.Lookup(t.Context(), l.gid)
		sagatest.Must(t, err)
		if found.Branches[1].Barrier.State != barrier.StateCancelled {
			return false
		}
		if began == 0 {
			began = found.Epoch
		}
		sagatest.Must(t, l.orch.Retry(t.Context(), l.gid, alice))
		return found.Epoch > began+2
	})
	if got := l.gateway.so(); got != "free" {
		t.Errorf("the gateway saw %s", got)
	}
	close(l.gateway.gate)
}

// A request that was given up and arrives after Cancel is freed by one more Cancel.
func TestRequestThatArrivesAfterItsCancel(t *testing.T) {
	for name, c := range map[string]func(*late){
		"time of the call": func(l *late) { l.execute(l.t.Context(), l.orch, saga.Options{}) },
		"deadline, plan": func(l *late) {
			l.execute(l.t.Context(), l.orch, saga.Options{Timeout: time.Second})
		},
		"deadline, open": func(l *late) { l.tryOpen(l.t.Context(), saga.Options{Timeout: time.Second}) },
		"caller has gone": func(l *late) {
			ctx, cancel := context.WithCancel(l.t.Context())
			l.execute(ctx, l.orch, saga.Options{})
			cancel()
		},
		"time of a client": func(l *late) {
			l.gateway.failed = &net.OpError{Op: "read", Err: context.DeadlineExceeded}
			l.execute(l.t.Context(), l.orch, saga.Options{})
		},
		"lost lease": func(l *late) { l.execute(l.t.Context(), l.dead, saga.Options{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLate(t, sqltest.Open(t, "sqlite"), stray, 1500*time.Millisecond)
			c(l)
			<-l.gateway.freed
			close(l.gateway.gate)
			l.ends("free held free")
		})
	}
}

// A Try that has failed clearly is cancelled once.
func TestClearFailureIsCancelledOnce(t *testing.T) {
	t.Parallel()
	for name, failed := range map[string]error{"rejection": tcc.Reject(errShort), "failure": errOnPurpose} {
		l := newLate(t, sqltest.Open(t, "sqlite"), stray, 300*time.Millisecond)
		l.gateway.failed = failed
		close(l.gateway.gate)
		l.execute(t.Context(), l.orch, saga.Options{})
		if err := <-l.told; !errors.Is(err, failed) {
			t.Errorf("%s: %v", name, err)
		}
		l.reaches(l.gid, saga.Cancelled)
		row := l.reaches(l.gid, saga.Cancelled).Branches[1].Barrier
		if row.UnderWay != nil || row.State != barrier.StateCancelled || strings.Count(l.gateway.so(), "free") != 1 {
			t.Errorf("%s: %+v, %s", name, row, l.gateway.so())
		}
	}
}
