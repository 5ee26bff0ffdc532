package xa

import (
	"context"
	"sync"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// gate limits the connections with the local transactions of branches. It holds those of
// prepared transactions that no other connection can end, until they are ended: on MariaDB, and
// on MySQL without xa_detach_on_prepare. If such a connection is closed, the transaction stays
// prepared, and any other one can end it.
//
// A held connection is closed after holdTime, or earlier if a Try waits for its place. So no
// transaction that waits for its decision keeps others from being tried or decided.
type gate struct {
	places   chan struct{}
	attached bool // only the connection that has prepared a transaction can end it
	hold     bool // such connections are held

	mu     sync.Mutex
	held   map[string]*held
	order  []*held // by age; also those that are not held any more
	closed bool
}

type held struct {
	id   string
	conn *local.Prepared
	end  *time.Timer
}

const (
	// holdTime is how long a connection of a prepared transaction is held.
	holdTime = time.Second
	// patience is how long a Try waits for a place before it closes a held connection.
	patience = 50 * time.Millisecond
)

func newGate(size int, attached, hold bool) *gate {
	return &gate{places: make(chan struct{}, size), attached: attached, hold: attached && hold, held: make(map[string]*held)}
}

// enter waits for a place. Each place is left by leave, or given to put.
func (g *gate) enter(ctx context.Context) error {
	select {
	case g.places <- struct{}{}:
		return nil
	default:
	}
	for {
		timer := time.NewTimer(patience)
		select {
		case g.places <- struct{}{}:
			timer.Stop()
			return nil
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
			g.dropOldest()
		}
	}
}

func (g *gate) leave() { <-g.places }

// put holds the connection of a prepared transaction, with its place, or lets both go.
func (g *gate) put(id string, conn *local.Prepared) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.hold || g.closed || g.held[id] != nil {
		if g.attached {
			conn.Close()
		} else {
			conn.Release()
		}
		g.leave()
		return
	}
	h := &held{id: id, conn: conn}
	h.end = time.AfterFunc(holdTime, func() { g.drop(h) })
	g.held[id] = h
	g.order = append(g.order, h)
}

// take returns the connection of a prepared transaction, which is not held any more; nil if it
// was not held.
func (g *gate) take(id string) *local.Prepared {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := g.held[id]
	if h == nil {
		return nil
	}
	g.remove(h)
	return h.conn
}

func (g *gate) remove(h *held) {
	h.end.Stop()
	delete(g.held, h.id)
	for len(g.order) > 0 && g.held[g.order[0].id] != g.order[0] {
		g.order = g.order[1:]
	}
}

// drop closes a held connection.
func (g *gate) drop(h *held) {
	g.mu.Lock()
	is := g.held[h.id] == h
	if is {
		g.remove(h)
	}
	g.mu.Unlock()
	if is {
		h.conn.Close()
		g.leave()
	}
}

func (g *gate) dropOldest() {
	g.mu.Lock()
	if len(g.order) == 0 {
		g.mu.Unlock()
		return
	}
	oldest := g.order[0]
	g.mu.Unlock()
	g.drop(oldest)
}

// close closes the held connections. Later ones are not held.
func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	all := make([]*held, 0, len(g.held))
	for _, h := range g.held {
		all = append(all, h)
	}
	g.mu.Unlock()
	for _, h := range all {
		g.drop(h)
	}
}
