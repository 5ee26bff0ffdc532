package local

import (
	"context"
	"database/sql"
	"runtime"
	"sync"
	"weak"
)

// Share says how many of the connections of a pool the framework uses at once, at
// most, of those that the pool may open: three quarters of them without the
// heartbeat's own, and at least one. Of a pool without a limit it may use any
// number. The rest is for the user's own queries. The size of the pool when it is
// first used counts.
func Share(maxOpen int) int {
	if maxOpen <= 0 {
		return 0
	}
	return max(1, maxOpen*3/4-1)
}

// share lets at most a number of local transactions run on a pool at once, first
// come, first served.
type share struct {
	size  int           // 0 is no limit
	kept  int           // connections that may be kept idle, which count
	slots chan struct{} // nil without a limit
}

var shares sync.Map // weak.Pointer[sql.DB] to *share

// shareOf returns the share of a pool, the same as long as the pool is in use.
func shareOf(pool *sql.DB) *share {
	key := weak.Make(pool)
	if known, ok := shares.Load(key); ok {
		return known.(*share)
	}
	s := newShare(Share(pool.Stats().MaxOpenConnections))
	known, loaded := shares.LoadOrStore(key, s)
	if !loaded {
		runtime.AddCleanup(pool, func(key weak.Pointer[sql.DB]) { shares.Delete(key) }, key)
	}
	return known.(*share)
}

// keptUnlimited is how many idle connections are kept of a pool without a limit.
const keptUnlimited = 16

func newShare(size int) *share {
	if size == 0 {
		return &share{kept: keptUnlimited}
	}
	kept := size / 4
	return &share{size: size, kept: kept, slots: make(chan struct{}, size-kept)}
}

// take waits for a slot, which lasts until leave is called.
func (s *share) take(ctx context.Context) (leave func(), err error) {
	if s.slots == nil {
		return func() {}, nil
	}
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
