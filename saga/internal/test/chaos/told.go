package chaos

import (
	"fmt"
	"sync"
	"time"
)

// told is what the callers were told about each transaction. It is kept in this
// process, which survives.
type told struct {
	mu      sync.Mutex
	stories map[string]*story
}

// story is what one caller has done with one transaction.
type story struct {
	order    Order
	hopeless bool   // it asks for too much and cannot be confirmed
	manner   string // executed, or opened
	began    time.Time

	mu     sync.Mutex
	latest time.Time // answer
	counts map[Told]int
	lines  []string
	left   bool // nobody has decided: the deadline will, or there is nothing
}

func (t *told) begin(o Order, hopeless bool, manner string) *story {
	s := &story{order: o, hopeless: hopeless, manner: manner, began: time.Now(), counts: map[Told]int{}}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stories == nil {
		t.stories = map[string]*story{}
	}
	t.stories[o.GID] = s
	return s
}

// note writes an answer down.
func (s *story) note(r Request, a Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[a.Told]++
	s.latest = time.Now()
	const most = 40 // a story of many unknowns needs no more
	if len(s.lines) < most {
		s.lines = append(s.lines, fmt.Sprintf("%s %s %d: told %s %s", stamp(s.latest), r.Act, r.Parts, a.Told, a.Text))
	}
}

// known says whether the caller knows how the transaction is decided.
func (s *story) known() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[Confirmed]+s.counts[Cancelled]+s.counts[Wrong] > 0
}

func (s *story) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = true
}
