package chaos

import (
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// proxy passes the connections of one worker to one server on, and harms them.
type proxy struct {
	listener net.Listener
	target   string
	inspect  inspector

	mu     sync.Mutex
	links  map[*link]struct{}
	delay  time.Duration // before each piece of an answer
	stall  chan struct{} // nothing passes until it is closed; nil if all passes
	armed  []*trap       // for the next pieces that match
	closed bool
}

// inspector looks at a piece of what passes, and says what it is: commit, ack,
// or nothing of interest. It is called for each direction of each connection
// on its own, in order.
type inspector func(fromClient bool) func(piece []byte) event

type event string

const (
	nothing event = ""
	commit  event = "COMMIT" // a client asks for one
	ack     event = "PubAck" // the broker acknowledges a message
)

// trap is what happens to the next event of its kind.
type trap struct {
	event event
	spring
}

// spring says what happens to the piece and its connection.
type spring struct {
	first func() // before anything else; nil for nothing
	pass  bool   // the piece is passed on
	cut   when   // and the connection is cut
}

type when int

const (
	never       when = iota
	atOnce           // right after the piece
	afterAnswer      // when the other side has answered, which is thrown away
)

// link is a connection of a client and the one to the server that goes with it.
type link struct {
	client, server net.Conn
	once           sync.Once

	mu   sync.Mutex
	deaf bool // the next piece from the server is thrown away, and the link cut
}

func (l *link) cut() {
	l.once.Do(func() {
		l.client.Close()
		l.server.Close()
	})
}

func newProxy(target string, inspect inspector) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: listener, target: target, inspect: inspect, links: map[*link]struct{}{}}
	go p.serve()
	return p, nil
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		go p.connect(client)
	}
}

func (p *proxy) connect(client net.Conn) {
	server, err := net.DialTimeout("tcp", p.target, 2*time.Second)
	if err != nil {
		client.Close() // as good as refused
		return
	}
	l := &link{client: client, server: server}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		l.cut()
		return
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pump(l, true) })
	both.Go(func() { p.pump(l, false) })
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// pump passes on what comes from one side, until one of the two is closed.
func (p *proxy) pump(l *link, fromClient bool) {
	defer l.cut()
	from, to := l.client, l.server
	if !fromClient {
		from, to = to, from
	}
	look := p.inspect(fromClient)
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !p.pass(l, to, buffer[:n], look(buffer[:n]), fromClient) || err != nil {
			return
		}
	}
}

// pass passes a piece on, unless something else is to happen to it; false says
// that the link is to be cut.
func (p *proxy) pass(l *link, to io.Writer, piece []byte, what event, fromClient bool) bool {
	p.hold(fromClient)
	if !fromClient && l.isDeaf() {
		return false
	}
	s := p.spring(what)
	if s.first != nil {
		s.first()
	}
	if s.cut == afterAnswer {
		l.deafen()
	}
	if s.pass {
		if _, err := to.Write(piece); err != nil {
			return false
		}
	}
	return s.cut != atOnce
}

func (l *link) deafen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deaf = true
}

func (l *link) isDeaf() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deaf
}

// hold waits while nothing passes, or as long as answers are slow.
func (p *proxy) hold(fromClient bool) {
	p.mu.Lock()
	stall, delay := p.stall, p.delay
	p.mu.Unlock()
	if stall != nil {
		<-stall
	}
	if delay > 0 && !fromClient {
		time.Sleep(delay)
	}
}

// spring takes the first trap for the event.
func (p *proxy) spring(what event) spring {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, t := range p.armed {
		if what != nothing && t.event == what {
			p.armed = slices.Delete(p.armed, i, i+1)
			return t.spring
		}
	}
	return spring{pass: true}
}

// arm sets a trap, which is taken away by the event or by disarm.
func (p *proxy) arm(t *trap) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = append(p.armed, t)
}

// disarm takes a trap away; false says that the event was faster.
func (p *proxy) disarm(t *trap) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.armed, t)
	if i < 0 {
		return false
	}
	p.armed = slices.Delete(p.armed, i, i+1)
	return true
}

// cutAll cuts every connection and returns how many there were.
func (p *proxy) cutAll() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.cut()
	}
	return len(p.links)
}

// slow delays answers, until it is called with 0.
func (p *proxy) slow(delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = delay
}

// block lets nothing pass, in connections that stay, until unblock.
func (p *proxy) block() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stall == nil {
		p.stall = make(chan struct{})
	}
}

func (p *proxy) unblock() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stall != nil {
		close(p.stall)
		p.stall = nil
	}
}

// heal ends all harm.
func (p *proxy) heal() {
	p.unblock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay, p.armed = 0, nil
}

func (p *proxy) close() {
	p.heal()
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cutAll()
}
