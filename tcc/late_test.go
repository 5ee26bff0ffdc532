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
