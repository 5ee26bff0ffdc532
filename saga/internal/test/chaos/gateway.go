package chaos

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// gateway is a payment service as others run it: it keeps idempotency keys, and
// knows that a Release may overtake its Hold.
type gateway struct {
	server *http.Server
	url    string

	mu       sync.Mutex
	payments map[string]*payment
	armed    []ill // for the next requests
}

// payment is what the gateway knows of a key.
type payment struct {
	state   Operation // the last that had effect
	events  []string
	refused bool   // the Hold was
	wrong   string // what must not have happened to it
}

// mishap is what happens to a request.
type mishap string

const (
	unwell    mishap = "refused with 503"       // and has no effect
	forgetful mishap = "answer lost"            // after the effect
	slow      mishap = "answered after seconds" // longer than the caller waits
)

// ill is a mishap that is to come.
type ill struct {
	mishap
	happened func()
}

// maxCents is the most that the gateway holds for one key.
const maxCents = 10_000

func newGateway() (*gateway, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g := &gateway{url: "http://" + listener.Addr().String(), payments: map[string]*payment{}}
	mux := http.NewServeMux()
	for _, operation := range []Operation{Hold, Capture, Release} {
		mux.HandleFunc("POST /"+string(operation), func(w http.ResponseWriter, r *http.Request) { g.serve(w, r, operation) })
	}
	g.server = &http.Server{Handler: mux}
	go g.server.Serve(listener)
	return g, nil
}

func (g *gateway) close() { g.server.Close() }

// arm sets a mishap for the next request, and calls happened then.
func (g *gateway) arm(m mishap, happened func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.armed = append(g.armed, ill{m, happened})
}

func (g *gateway) calm() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.armed = nil
}

func (g *gateway) serve(w http.ResponseWriter, r *http.Request, operation Operation) {
	key := r.URL.Query().Get("key")
	cents, err := strconv.ParseInt(r.URL.Query().Get("cents"), 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	status, text, m := g.handle(operation, key, cents)
	switch m {
	case forgetful:
		panic(http.ErrAbortHandler)
	case slow:
		select {
		case <-time.After(5 * time.Second):
		case <-r.Context().Done():
		}
	}
	w.WriteHeader(status)
	fmt.Fprint(w, text)
}

func (g *gateway) handle(operation Operation, key string, cents int64) (status int, text string, m mishap) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.armed) > 0 {
		m = g.armed[0].mishap
		g.armed[0].happened()
		g.armed = g.armed[1:]
	}
	p := g.payments[key]
	if p == nil {
		p = &payment{}
		g.payments[key] = p
	}
	status, text = http.StatusServiceUnavailable, "try again later"
	if m != unwell {
		status, text = p.apply(operation, cents)
	}
	p.events = append(p.events, fmt.Sprintf("%s %s: %d %s %s", stamp(time.Now()), operation, status, text, m))
	return status, text, m
}

// apply does the operation, or notes that it must not have come.
func (p *payment) apply(operation Operation, cents int64) (status int, text string) {
	wrong := func(what string) (int, string) {
		if p.wrong == "" {
			p.wrong = what
		}
		return http.StatusInternalServerError, what
	}
	switch {
	case operation == Hold && p.state == Release:
		return http.StatusConflict, "it was released before" // late, and harmless
	case operation == Hold && (p.state != "" || p.refused):
		return wrong("it was asked to hold twice")
	case operation == Hold && cents > maxCents:
		p.refused = true
		return http.StatusConflict, "so much is not covered"
	case operation == Capture && p.state != Hold && p.state != Capture:
		return wrong("it was asked to capture what is not held")
	case operation == Release && p.state == Capture:
		return wrong("it was asked to release what is captured")
	}
	p.state = operation
	return http.StatusOK, "done"
}

// payment returns what is known of a key; the zero payment if nothing is.
func (g *gateway) payment(key string) payment {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.payments[key]; p != nil {
		return *p
	}
	return payment{}
}

// keys returns all keys.
func (g *gateway) keys() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	keys := make([]string, 0, len(g.payments))
	for key := range g.payments {
		keys = append(keys, key)
	}
	return keys
}

func stamp(t time.Time) string { return t.UTC().Format("15:04:05.000000") }
