// Package gate limits what a console costs the database: how many requests read it at once, and
// how often the same is read.
package gate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// ErrBusy is returned if too many requests are served at once.
var ErrBusy = errors.New("too many requests at once")

// Gate lets a number of requests in at once.
type Gate struct {
	places chan struct{}
	wait   time.Duration
}

// New returns a Gate with a number of places. A request waits for a place, but no longer than
// wait.
func New(places int, wait time.Duration) *Gate {
	return &Gate{make(chan struct{}, places), wait}
}

// Enter takes a place. It returns ErrBusy if there is none in time, or the cause if ctx ends
// before. Leave gives the place back.
func (g *Gate) Enter(ctx context.Context) error {
	select {
	case g.places <- struct{}{}:
		return nil
	default:
	}
	limit := time.NewTimer(g.wait)
	defer limit.Stop()
	select {
	case g.places <- struct{}{}:
		return nil
	case <-limit.C:
		return ErrBusy
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Leave gives a place back.
func (g *Gate) Leave() { <-g.places }

// most is the most values that a Cache keeps.
const most = 256

// Cache keeps values for a short time. Callers that ask for the same at once share one read.
// The zero value is ready. It is safe for concurrent use.
type Cache struct {
	mu     sync.Mutex
	era    int
	values map[string]kept
	flight singleflight.Group
}

type kept struct {
	value any
	until time.Time
}

// Get returns the value of a key, which read returns if it is not kept. It is then kept for a
// time. An error is not kept. The read does not end with the ctx of one caller, because others
// may wait for it: it has the given limit.
func Get[T any](ctx context.Context, c *Cache, key string, keep, limit time.Duration, read func(context.Context) (T, error)) (T, error) {
	c.mu.Lock()
	found, ok := c.values[key]
	era := c.era
	c.mu.Unlock()
	if ok && time.Now().Before(found.until) {
		return found.value.(T), nil
	}
	// A read that began before a Clear is not shared with callers that come after it.
	ended := c.flight.DoChan(fmt.Sprint(era, " ", key), func() (_ any, err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v", p) // here, it would end the process
			}
		}()
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
		defer cancel()
		value, err := read(bounded)
		if err == nil {
			c.put(key, value, keep, era)
		}
		return value, err
	})
	select {
	case result := <-ended:
		value, _ := result.Val.(T)
		return value, result.Err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

func (c *Cache) put(key string, value any, keep time.Duration, era int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if era != c.era {
		return // it was read before a Clear
	}
	now := time.Now()
	if len(c.values) >= most {
		for k, v := range c.values {
			if now.After(v.until) {
				delete(c.values, k)
			}
		}
	}
	if c.values == nil || len(c.values) >= most {
		c.values = make(map[string]kept)
	}
	c.values[key] = kept{value, now.Add(keep)}
}

// Clear forgets all values, so that a person sees the effect of an act. Reads under way are not
// kept.
func (c *Cache) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.era++
	c.values = nil
}
