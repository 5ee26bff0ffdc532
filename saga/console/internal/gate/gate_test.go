package gate

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestGate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := New(2, time.Second)
		for range 2 {
			if err := g.Enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		if err := g.Enter(t.Context()); !errors.Is(err, ErrBusy) || time.Since(began) != time.Second {
			t.Fatalf("%v after %s", err, time.Since(began))
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := g.Enter(gone); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		go func() { time.Sleep(time.Second / 2); g.Leave() }()
		if err := g.Enter(t.Context()); err != nil {
			t.Fatal("a place became free, and the request did not get it")
		}
	})
}

// Callers that come at once share a read, which is kept for its time and until a Clear.
func TestCache(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c Cache
		var reads atomic.Int64
		get := func() int {
			n, err := Get(t.Context(), &c, "key", time.Minute, time.Hour, func(context.Context) (int, error) {
				time.Sleep(time.Second)
				return int(reads.Add(1)), nil
			})
			if err != nil {
				t.Error(err)
			}
			return n
		}
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if n := get(); n != 1 {
					t.Errorf("read %d", n)
				}
			})
		}
		all.Wait()
		if get() != 1 {
			t.Error("the value was not kept")
		}
		time.Sleep(time.Minute)
		if get() != 2 {
			t.Error("the value was kept for too long")
		}
		c.Clear()
		if get() != 3 {
			t.Error("the value was kept after a Clear")
		}
		// A read that began before a Clear is neither kept nor shared.
		c.Clear()
		all.Go(func() {
			if n, err := Get(t.Context(), &c, "key", time.Minute, time.Hour, func(context.Context) (int, error) {
				time.Sleep(3 * time.Second) // it ends after the read that follows
				return 100, nil
			}); n != 100 || err != nil {
				t.Error(n, err)
			}
		})
		synctest.Wait()
		c.Clear()
		if n := get(); n != 4 {
			t.Errorf("read %d: the caller got what was read before the Clear", n)
		}
		all.Wait()
		if n := get(); n != 4 {
			t.Errorf("read %d: what was read before the Clear was kept", n)
		}
	})
}

func TestCacheFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c Cache
		broken := errors.New("broken")
		fail := func(context.Context) (int, error) { return 0, broken }
		if _, err := Get(t.Context(), &c, "key", time.Minute, time.Hour, fail); !errors.Is(err, broken) {
			t.Error(err)
		}
		if n, err := Get(t.Context(), &c, "key", time.Minute, time.Hour, func(context.Context) (int, error) { return 7, nil }); n != 7 || err != nil {
			t.Error("an error was kept")
		}
		// A panic must not end the process.
		if _, err := Get(t.Context(), &c, "panic", time.Minute, time.Hour, func(context.Context) (int, error) { panic("oh") }); err == nil {
			t.Error("no error")
		}
		// A caller that leaves does not end the read of the others.
		gone, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		slow := func(ctx context.Context) (int, error) {
			time.Sleep(time.Second)
			return 1, ctx.Err()
		}
		all.Go(func() {
			if _, err := Get(gone, &c, "slow", time.Minute, time.Hour, slow); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		synctest.Wait()
		all.Go(func() {
			if n, err := Get(t.Context(), &c, "slow", time.Minute, time.Hour, slow); n != 1 || err != nil {
				t.Error(n, err)
			}
		})
		synctest.Wait()
		cancel()
		all.Wait()
		// The limit ends a read.
		if _, err := Get(t.Context(), &c, "limit", time.Minute, time.Second, func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// The number of values is bounded.
func TestCacheBound(t *testing.T) {
	t.Parallel()
	var c Cache
	for i := range 3 * most {
		if _, err := Get(t.Context(), &c, string(rune(i)), time.Hour, time.Hour, func(context.Context) (int, error) { return i, nil }); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.values) > most {
		t.Errorf("%d values", len(c.values))
	}
}
