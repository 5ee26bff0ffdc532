package saga

import (
	"sync"
	"time"
)

// pace says whether the calls of a kind of branch go well in company, or have
// kept others waiting lately.
type pace struct {
	mu    sync.Mutex
	until time.Time     // when to try company again
	pause time.Duration // of the last stall; 0 if all has gone well since
}

// After a stall a kind of branch goes alone, for longer and longer if company
// does it no good again.
const (
	firstStall = 5 * time.Second
	lastStall  = 5 * time.Minute
)

func (p *pace) stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.until) {
		return // of a batch that was at work already
	}
	p.pause = min(max(firstStall, 2*p.pause), lastStall)
	p.until = time.Now().Add(p.pause)
}

func (p *pace) flow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pause = 0
}

func (p *pace) stalling() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Before(p.until)
}

// rejects says whether Trys of a kind of branch have been rejected lately, so that
// a batch is written with savepoints, one statement more for each member, and a
// rejection hurts no other member.
type rejects struct {
	mu    sync.Mutex
	until time.Time
}

// rejectsWindow is for how long a rejection makes others likely.
const rejectsWindow = 10 * time.Second

func (r *rejects) note() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.until = time.Now().Add(rejectsWindow)
}

func (r *rejects) lately() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Before(r.until)
}
