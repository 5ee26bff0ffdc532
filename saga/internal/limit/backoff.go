package limit

import (
	"sync"
	"time"
)

// Bounds of the time for which a kind of branch does not share commits.
const (
	firstBackoff = 5 * time.Second
	lastBackoff  = 5 * time.Minute
)

// BatchBackoff says whether a kind of branch may share commits, or has kept others
// waiting. Its zero value lets it share. It is safe for concurrent use.
type BatchBackoff struct {
	mu    sync.Mutex
	until time.Time     // when sharing is tried again
	pause time.Duration // after the last penalty; 0 after Reset
}

// Penalize ends the sharing for a time that doubles with each penalty until Reset.
func (b *BatchBackoff) Penalize() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Now().Before(b.until) {
		return // because of a batch that had begun before
	}
	b.pause = min(max(firstBackoff, 2*b.pause), lastBackoff)
	b.until = time.Now().Add(b.pause)
}

// Reset lets the next penalty be a short one: a shared commit went well.
func (b *BatchBackoff) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pause = 0
}

// Active reports whether the kind does not share commits now.
func (b *BatchBackoff) Active() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Now().Before(b.until)
}

// End ends the time of a penalty. It is for tests.
func (b *BatchBackoff) End() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until = time.Time{}
}

// recently is for how long a rejection makes others likely.
const recently = 10 * time.Second

// Rejections says whether Trys of a kind of branch were rejected recently. A batch is
// then written with savepoints, at the price of one more statement for each member, and
// a rejection does not concern the other members. It is safe for concurrent use.
type Rejections struct {
	mu    sync.Mutex
	until time.Time
}

// Note records a rejection.
func (r *Rejections) Note() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.until = time.Now().Add(recently)
}

// Recent reports whether there was a rejection in the last ten seconds.
func (r *Rejections) Recent() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Before(r.until)
}
