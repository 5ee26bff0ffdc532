package lease_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/lease"
)

const length = 9 * time.Second

func written(context.Context) error { return nil }

// A lease counts from before its renewal was sent.
func TestSlowRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lease.New(length, func(context.Context) error {
			time.Sleep(4 * time.Second)
			return nil
		}, func(bool) {})
		if l.Held() {
			t.Error("held before the first renewal")
		}
		if err := l.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(length - 4*time.Second - time.Millisecond)
		if !l.Held() {
			t.Error("lost too early")
		}
		time.Sleep(time.Millisecond)
		if l.Held() {
			t.Error("held for longer than its length since the renewal was sent")
		}
	})
}

// A renewal that the database does not answer ends after half the length.
func TestSilentDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lease.New(length, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}, func(bool) {})
		began := time.Now()
		if err := l.Renew(t.Context()); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != length/2 || l.Held() {
			t.Errorf("%v after %s, held: %t", err, time.Since(began), l.Held())
		}
	})
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back atomic.Bool
		l := lease.New(length, func(context.Context) error {
			if !back.Load() {
				return errors.New("the database is away")
			}
			return nil
		}, func(bool) {})
		never := make(chan struct{})
		if err := l.Wait(t.Context(), never); !errors.Is(err, lease.ErrLost) {
			t.Errorf("while nobody renews it: %v", err)
		}
		keeping, stop := context.WithCancel(t.Context())
		go l.Keep(keeping, func(error) {})
		synctest.Wait()
		began := time.Now()
		if err := l.Wait(t.Context(), never); !errors.Is(err, lease.ErrLost) || time.Since(began) != length {
			t.Errorf("while renewals fail: %v after %s", err, time.Since(began))
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.Wait(ended, never); !errors.Is(err, lease.ErrLost) {
			t.Errorf("at the end of its context: %v", err)
		}
		stopping := make(chan struct{})
		close(stopping)
		if err := l.Wait(t.Context(), stopping); !errors.Is(err, lease.ErrStopping) {
			t.Errorf("while stopping: %v", err)
		}
		back.Store(true)
		if err := l.Wait(t.Context(), never); err != nil {
			t.Errorf("after a renewal: %v", err)
		}
		stop()
		synctest.Wait()
	})
}

// Keep renews in time, and ends after Resign.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var renewals atomic.Int64
		l := lease.New(length, written, func(bool) {})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			l.Keep(t.Context(), func(error) { renewals.Add(1) })
		}()
		time.Sleep(10*length + time.Millisecond)
		if renewals.Load() != 30 || !l.Held() {
			t.Errorf("%d renewals, held: %t", renewals.Load(), l.Held())
		}
		told := 0
		for range 2 {
			if err := l.Resign(func() error { told++; return nil }); err != nil {
				t.Error(err)
			}
		}
		<-ended
		if told != 1 || l.Held() || !errors.Is(l.Wait(t.Context(), nil), lease.ErrLost) {
			t.Errorf("resigned %d times, held: %t", told, l.Held())
		}
	})
}

// The end of a lease is told once, and so is the renewal after it. A resigned lease is not
// lost.
func TestTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away, slow atomic.Bool
		var told []bool
		l := lease.New(length, func(context.Context) error {
			if away.Load() {
				return errors.New("the database is away")
			}
			return nil
		}, func(held bool) { told = append(told, held) })
		if err := l.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			l.Keep(t.Context(), func(error) {
				if slow.CompareAndSwap(true, false) {
					time.Sleep(2 * length) // as if the process was paused
				}
			})
		}()
		check := func(when string, want ...bool) {
			t.Helper()
			synctest.Wait()
			if !slices.Equal(told, want) {
				t.Errorf("%s: %v, want %v", when, told, want)
			}
		}
		time.Sleep(3 * length)
		check("while it is renewed")
		away.Store(true)
		time.Sleep(3 * length)
		check("without a database", false)
		away.Store(false)
		time.Sleep(length)
		check("with the database", false, true)
		slow.Store(true)
		time.Sleep(4 * length)
		check("after a pause", false, true, false, true)
		if err := l.Resign(func() error { return nil }); err != nil {
			t.Error(err)
		}
		<-ended
		check("after the end", false, true, false, true)
	})
}
