package lease_test

import (
	"context"
	"errors"
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
		})
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
		})
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
		})
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
		l := lease.New(length, written)
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
