package saga

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// flights are the transactions that this instance is driving right now.
type flights struct {
	mu     sync.Mutex
	byGID  map[string]*flight
	count  int
	idle   chan struct{} // closed when count falls to 0; nil while nobody waits
	closed bool
}

// flight is one transaction being driven.
type flight struct {
	gid  string
	done chan struct{} // closed when it lands
}

// start begins a flight, unless the gid is in flight: then it returns that one
// and false. After drain it returns nil and false.
func (f *flights) start(gid string) (*flight, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, false
	}
	if other := f.byGID[gid]; other != nil {
		return other, false
	}
	return f.add(gid), true
}

// takeOver begins a flight even if the gid is in flight: that one has lost its
// epoch and ends by itself. After drain it returns nil.
func (f *flights) takeOver(gid string) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	return f.add(gid)
}

func (f *flights) add(gid string) *flight {
	if f.byGID == nil {
		f.byGID = make(map[string]*flight)
	}
	fl := &flight{gid: gid, done: make(chan struct{})}
	f.byGID[gid] = fl
	f.count++
	return fl
}

// enter counts a call that is not a flight, for drain to wait for, until leave.
// After drain it returns false.
func (f *flights) enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.count++
	return true
}

func (f *flights) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.departed()
}

// land ends a flight.
func (f *flights) land(fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byGID[fl.gid] == fl {
		delete(f.byGID, fl.gid)
	}
	close(fl.done)
	f.departed()
}

func (f *flights) departed() {
	f.count--
	if f.count == 0 && f.idle != nil {
		close(f.idle)
		f.idle = nil
	}
}

// inFlight reports whether the gid is being driven here.
func (f *flights) inFlight(gid string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.byGID[gid] != nil
}

// drain lets nothing further start and waits for the rest until ctx ends. It
// reports whether all came to an end, and the gids of the flights that did not.
func (f *flights) drain(ctx context.Context) (left []string, idle bool) {
	f.mu.Lock()
	f.closed = true
	if f.count == 0 {
		f.mu.Unlock()
		return nil, true
	}
	if f.idle == nil {
		f.idle = make(chan struct{})
	}
	landed := f.idle
	f.mu.Unlock()
	select {
	case <-landed:
		return nil, true
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.byGID)), false
}
