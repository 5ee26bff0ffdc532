package xa

import (
	"context"
	"sync"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// gate limits the connections with the local transactions of branches. It holds those of
// prepared transactions that no other connection can end: see session. If such a connection is
// closed, the transaction stays prepared, and any other one can end it.
//
// A held connection is closed after holdTime. So transactions that wait for their decision keep
// no others from being tried or decided for long.
type gate struct {
	places   chan struct{}
	attached bool                       // only the connection that has prepared a transaction can end it
	hold     bool                       // such connections are held
	closing  func(conn *local.Prepared) // closes a connection with a prepared transaction

	mu     sync.Mutex
	held   map[string]*held
	closed bool
}

type held struct {
	conn *local.Prepared
	end  *time.Timer
}

// holdTime is how long a connection of a prepared transaction is held.
const holdTime = time.Second

func newGate(size int, attached, hold bool, closing func(*local.Prepared)) *gate {
	return &gate{places: make(chan struct{}, size), attached: attached, hold: attached && hold, closing: closing, held: make(map[string]*held)}
}

// enter waits for a place. Each place is left by leave, or given to put.
func (g *gate) enter(ctx context.Context) error {
	select {
	case g.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *gate) leave() { <-g.places }

// put holds the connection of a prepared transaction, with its place, or lets both go.
func (g *gate) put(id string, conn *local.Prepared) {
	if !g.attached {
		conn.Release()
		g.leave()
		return
	}
	g.mu.Lock()
	hold := g.hold && !g.closed && g.held[id] == nil
	if hold {
		h := &held{conn: conn}
		h.end = time.AfterFunc(holdTime, func() { g.drop(id, h) })
		g.held[id] = h
	}
	g.mu.Unlock()
	if !hold {
		g.closing(conn)
		g.leave()
	}
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
	h.end.Stop()
	delete(g.held, id)
	return h.conn
}

// drop closes a held connection.
func (g *gate) drop(id string, h *held) {
	g.mu.Lock()
	is := g.held[id] == h
	if is {
		h.end.Stop()
		delete(g.held, id)
	}
	g.mu.Unlock()
	if is {
		g.closing(h.conn)
		g.leave()
	}
}

// close closes the held connections. Later ones are not held.
func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	all := make(map[string]*held, len(g.held))
	for id, h := range g.held {
		all[id] = h
	}
	g.mu.Unlock()
	for id, h := range all {
		g.drop(id, h)
	}
}
