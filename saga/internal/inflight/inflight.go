// Package inflight keeps a registry of the transactions that a process drives.
package inflight

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// Registry holds the transactions in flight, by gid. Its zero value is empty. It is
// safe for concurrent use.
type Registry struct {
	mu     sync.Mutex
	byGID  map[string]*Entry
	count  int           // entries and calls
	idle   chan struct{} // closed when count falls to 0; nil if nobody waits
	closed bool
}

// Entry is one transaction in flight.
type Entry struct {
	gid       string
	done      chan struct{}
	postponed bool // Busy has found it
	ending    bool // see Ending
}

// Done is closed when the entry is released.
func (e *Entry) Done() <-chan struct{} { return e.done }

// Start adds an entry and returns it with true. If the gid is in flight, it returns
// that entry with false. After Drain it returns nil and false.
func (r *Registry) Start(gid string) (*Entry, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, false
	}
	if other := r.byGID[gid]; other != nil {
		return other, false
	}
	return r.add(gid), true
}

// TakeOver adds an entry even if the gid is in flight: the other one has lost its
// epoch and ends by itself. After Drain it returns nil.
func (r *Registry) TakeOver(gid string) *Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	return r.add(gid)
}

func (r *Registry) add(gid string) *Entry {
	if r.byGID == nil {
		r.byGID = make(map[string]*Entry)
	}
	e := &Entry{gid: gid, done: make(chan struct{})}
	r.byGID[gid] = e
	r.count++
	return e
}

// Release ends an entry. It reports whether Busy has found the entry.
func (r *Registry) Release(e *Entry) (postponed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byGID[e.gid] == e {
		delete(r.byGID, e.gid)
	}
	close(e.done)
	r.ended()
	return e.postponed
}

// Enter counts a call that drives no transaction, so that Drain waits for it. Leave
// ends it. After Drain, Enter returns false.
func (r *Registry) Enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.count++
	return true
}

// Leave ends a call that Enter has counted.
func (r *Registry) Leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended()
}

func (r *Registry) ended() {
	r.count--
	if r.count == 0 && r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
}

// Has reports whether the gid is in flight.
func (r *Registry) Has(gid string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byGID[gid] != nil
}

// Busy is Has for a claim, which postpones a transaction in flight. The transaction may have
// its next due time already, so its entry knows of the claim.
func (r *Registry) Busy(gid string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.byGID[gid]
	if e == nil {
		return false
	}
	e.postponed = true
	return true
}

// Ending says that a caller is told of the end of the transaction before its end is written.
// Settle then waits for the entry.
func (r *Registry) Ending(e *Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.ending = true
}

// settleLimit is the longest time for which Settle waits: a write that hangs must not keep people
// from looking.
const settleLimit = time.Second

// Settle waits until the ends that callers were told of are written, or were not written because
// of a fault. It returns early if ctx ends, and after a second.
func (r *Registry) Settle(ctx context.Context, gids ...string) {
	var limit <-chan time.Time
	for _, gid := range gids {
		r.mu.Lock()
		e := r.byGID[gid]
		ending := e != nil && e.ending
		r.mu.Unlock()
		if !ending {
			continue
		}
		if limit == nil {
			timer := time.NewTimer(settleLimit)
			defer timer.Stop()
			limit = timer.C
		}
		select {
		case <-e.done:
		case <-limit:
			return
		case <-ctx.Done():
			return
		}
	}
}

// Drain makes Start, TakeOver and Enter fail, and waits for the rest until ctx ends. It
// reports whether everything has ended, and the gids that are still in flight.
func (r *Registry) Drain(ctx context.Context) (left []string, idle bool) {
	r.mu.Lock()
	r.closed = true
	if r.count == 0 {
		r.mu.Unlock()
		return nil, true
	}
	if r.idle == nil {
		r.idle = make(chan struct{})
	}
	ended := r.idle
	r.mu.Unlock()
	select {
	case <-ended:
		return nil, true
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.byGID)), false
}
