package limit

import (
	"sync"
	"time"
)

// Limits of the time for which a kind of branch does not share commits.
const (
	firstBackoff = 5 * time.Second
	lastBackoff  = 5 * time.Minute
)

// BatchBackoff ends the shared commits of a kind of branch for some time after it has
// delayed others. The zero value allows shared commits. It is safe for concurrent use.
type BatchBackoff struct {
	mu    sync.Mutex
	until time.Time     // when sharing is tried again
	pause time.Duration // after the last penalty; 0 after Reset
}

// Penalize ends shared commits for a time that doubles with each penalty until Reset.
func (b *BatchBackoff) Penalize() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Now().Before(b.until) {
		return // the batch had begun before the last penalty
	}
	b.pause = min(max(firstBackoff, 2*b.pause), lastBackoff)
	b.until = time.Now().Add(b.pause)
}

// Reset makes the next penalty short. Call it after a successful shared commit.
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

// recently is the time after a rejection in which more rejections are likely.
const recently = 10 * time.Second

// Rejections records whether Trys of a kind of branch were rejected recently. If so, a
// batch uses savepoints: this costs one more statement for each member, but a rejection
// does not affect the other members. It is safe for concurrent use.
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
