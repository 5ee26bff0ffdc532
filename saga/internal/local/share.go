package local

import (
	"context"
	"database/sql"
	"runtime"
	"sync"
	"weak"
)

// Share returns the most connections of a pool that the framework uses at once, if the pool
// may open maxOpen connections: three quarters of them, minus one for the heartbeat, and at
// least one. The rest is for the user's own queries. It returns 0, which is no limit, for a
// pool without a limit. The size of the pool at its first use counts.
func Share(maxOpen int) int {
	if maxOpen <= 0 {
		return 0
	}
	return max(1, maxOpen*3/4-1)
}

// share limits the number of local transactions that run on a pool at once. They get their
// slots in the order of their arrival.
type share struct {
	size  int           // 0 is no limit
	kept  int           // of size: idle connections that may be kept
	slots chan struct{} // nil without a limit
}

var shares sync.Map // weak.Pointer[sql.DB] to *share

// shareOf returns the share of a pool. It is the same while the pool is in use.
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

// keptUnlimited is the number of idle connections to keep of a pool without a limit.
const keptUnlimited = 16

func newShare(size int) *share {
	if size == 0 {
		return &share{kept: keptUnlimited}
	}
	kept := size / 4
	return &share{size: size, kept: kept, slots: make(chan struct{}, size-kept)}
}

// keptShared is how many of the kept connections are for shared local transactions: at least
// two, because two batches are written at once, and half of them. The others are spare.
func (s *share) keptShared() int { return min(s.kept, max(2, s.kept-s.kept/2)) }

// take waits for a slot. The slot is free again when leave is called.
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
