package chaos

import (
	"fmt"
	"sync"
	"time"
)

// histories are the histories of all clients. They stay in this process, which has
// no faults.
type histories struct {
	mu    sync.Mutex
	byGID map[string]*history
}

// history is what the client of one transaction asked for and what it was told.
type history struct {
	order   Order
	refused string // the kind of the branch whose Try is always refused; empty if there is none
	began   time.Time

	mu        sync.Mutex
	latest    time.Time // answer
	counts    map[Result]int
	lines     []string
	abandoned bool // the client asks for no decision, or has learned that there is no such transaction
}

func (h *histories) begin(o Order, refused string) *history {
	begun := &history{order: o, refused: refused, began: time.Now(), counts: map[Result]int{}}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byGID == nil {
		h.byGID = map[string]*history{}
	}
	h.byGID[o.GID] = begun
	return begun
}

// note adds an answer.
func (h *history) note(r Request, a Answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[a.Result]++
	h.latest = time.Now()
	const most = 40 // enough to understand a history of many unknown answers
	if len(h.lines) < most {
		command := string(r.Command)
		if r.Command == Try {
			command = fmt.Sprintf("%s the first %d", r.Command, r.Branches)
		}
		h.lines = append(h.lines, fmt.Sprintf("%s %s: %s %s", clockTime(h.latest), command, a.Result, a.Text))
	}
}

// done says whether the client has an answer that is final.
func (h *history) done() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.counts[Confirmed]+h.counts[Cancelled]+h.counts[Unexpected] > 0
}

// rolledBack says whether the client has learned that nothing is left of its order.
func (h *history) rolledBack() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.counts[RolledBack] > 0
}

func (h *history) abandon() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.abandoned = true
}
