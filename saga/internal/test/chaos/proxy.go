package chaos

import (
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// proxy forwards the connections of one worker to one server, and injects faults into
// them.
type proxy struct {
	listener net.Listener
	target   string
	classify classifier

	mu            sync.Mutex
	links         map[*link]struct{}
	delay         time.Duration   // before each piece of an answer
	blocked       chan struct{}   // nothing passes until it is closed; nil if all passes
	interceptions []*interception // of the next events
	closed        bool
}

// classifier returns a function that says which event a piece of a connection is. It
// is called for each direction of each connection, and the function with the
// pieces in order.
type classifier func(fromClient bool) func(piece []byte) event

// event is what a proxy can intercept.
type event int

const (
	nothing event = iota
	commit        // a client sends a COMMIT
	ack           // the broker acknowledges a message
	request       // a worker calls the host
)

func (e event) String() string { return [...]string{"nothing", "COMMIT", "PubAck", "request"}[e] }

// interception is what happens to the next event of its kind.
type interception struct {
	event  event
	action action
}

// action is what the proxy does with an event and its connection.
type action struct {
	before  func() // called first; nil for nothing
	forward bool   // the event is forwarded
	cut     cut    // and then the connection is cut
}

// cut says when a connection is cut.
type cut int

const (
	noCut       cut = iota
	cutNow          // right after the event
	cutAtAnswer     // when the other side answers; the answer is thrown away
)

// link is a connection of a client, and the one to the server that belongs to it.
type link struct {
	client, server net.Conn
	once           sync.Once

	mu          sync.Mutex
	dropsAnswer bool // the next piece from the server is thrown away, and the link cut
}

func (l *link) cut() {
	l.once.Do(func() {
		l.client.Close()
		l.server.Close()
	})
}

func newProxy(target string, classify classifier) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: listener, target: target, classify: classify, links: map[*link]struct{}{}}
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
		client.Close() // for the client, the same as a refused connection
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
	both.Go(func() { p.copy(l, true) })
	both.Go(func() { p.copy(l, false) })
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// copy forwards what comes from one side, until one of the two is closed.
func (p *proxy) copy(l *link, fromClient bool) {
	defer l.cut()
	from, to := l.client, l.server
	if !fromClient {
		from, to = to, from
	}
	look := p.classify(fromClient)
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !p.forward(l, to, buffer[:n], look(buffer[:n]), fromClient) || err != nil {
			return
		}
	}
}

// forward forwards a piece, or does what intercepts it. It returns false if the link
// is to be cut.
func (p *proxy) forward(l *link, to io.Writer, piece []byte, what event, fromClient bool) bool {
	p.delayed(fromClient)
	if !fromClient && l.answerIsDropped() {
		return false
	}
	a := p.actionAt(what)
	if a.before != nil {
		a.before()
	}
	if a.cut == cutAtAnswer {
		l.dropAnswer()
	}
	if a.forward {
		if _, err := to.Write(piece); err != nil {
			return false
		}
	}
	return a.cut != cutNow
}

func (l *link) dropAnswer() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropsAnswer = true
}

func (l *link) answerIsDropped() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropsAnswer
}

// delayed waits while nothing passes, or as long as answers are slow.
func (p *proxy) delayed(fromClient bool) {
	p.mu.Lock()
	blocked, delay := p.blocked, p.delay
	p.mu.Unlock()
	if blocked != nil {
		<-blocked
	}
	if delay > 0 && !fromClient {
		time.Sleep(delay)
	}
}

// actionAt takes the first interception of the event, and returns its action.
func (p *proxy) actionAt(what event) action {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at, i := range p.interceptions {
		if what != nothing && i.event == what {
			p.interceptions = slices.Delete(p.interceptions, at, at+1)
			return i.action
		}
	}
	return action{forward: true}
}

// intercept intercepts one event, unless it is withdrawn before.
func (p *proxy) intercept(i *interception) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.interceptions = append(p.interceptions, i)
}

// withdraw takes an interception back. It returns false if the event came first.
func (p *proxy) withdraw(i *interception) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := slices.Index(p.interceptions, i)
	if at < 0 {
		return false
	}
	p.interceptions = slices.Delete(p.interceptions, at, at+1)
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

// slow delays answers from now on; 0 ends it.
func (p *proxy) slow(delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = delay
}

// block lets nothing pass until unblock. The connections stay.
func (p *proxy) block() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.blocked == nil {
		p.blocked = make(chan struct{})
	}
}

func (p *proxy) unblock() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.blocked != nil {
		close(p.blocked)
		p.blocked = nil
	}
}

// heal ends all faults.
func (p *proxy) heal() {
	p.unblock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay, p.interceptions = 0, nil
}

func (p *proxy) close() {
	p.heal()
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cutAll()
}
