package chaos

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/test/invariant"
)

// gateway is a payment service of somebody else: it keeps idempotency keys, and
// accepts that a Release comes before its Hold.
type gateway struct {
	server *http.Server
	url    string

	mu       sync.Mutex
	payments map[string]*payment
	faults   []injectedResponse // of the next requests
}

// payment is what the gateway knows of a key.
type payment struct {
	state   Operation // the last that had effect
	effects []string  // each operation that had effect, as the branch calls it; a repeated one counts once
	events  []string
	refused bool   // the Hold was
	misuse  string // a request that must not come
}

// responseFault is what happens to the response to a request.
type responseFault int

const (
	noFault     responseFault = iota
	unavailable               // 503, and the request has no effect
	answerLost                // the request has its effect
	answerSlow                // it comes later than the caller waits
)

func (f responseFault) String() string {
	return [...]string{"", "(refused with 503)", "(answer lost)", "(answered after seconds)"}[f]
}

// injectedResponse is a fault of the next response.
type injectedResponse struct {
	fault responseFault
	note  func() // called when it comes
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

// inject injects a fault into the response to the next request, and calls note
// then.
func (g *gateway) inject(f responseFault, note func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults = append(g.faults, injectedResponse{f, note})
}

// heal takes back the faults that have not come.
func (g *gateway) heal() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults = nil
}

func (g *gateway) serve(w http.ResponseWriter, r *http.Request, operation Operation) {
	key := r.URL.Query().Get("key")
	cents, err := strconv.ParseInt(r.URL.Query().Get("cents"), 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	status, text, fault := g.handle(operation, key, cents)
	switch fault {
	case answerLost:
		panic(http.ErrAbortHandler)
	case answerSlow:
		select {
		case <-time.After(5 * time.Second):
		case <-r.Context().Done():
		}
	}
	w.WriteHeader(status)
	fmt.Fprint(w, text)
}

func (g *gateway) handle(operation Operation, key string, cents int64) (status int, text string, fault responseFault) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.faults) > 0 {
		fault = g.faults[0].fault
		g.faults[0].note()
		g.faults = g.faults[1:]
	}
	p := g.payments[key]
	if p == nil {
		p = &payment{}
		g.payments[key] = p
	}
	status, text = http.StatusServiceUnavailable, "try again later"
	if fault != unavailable {
		status, text = p.apply(operation, cents)
	}
	p.events = append(p.events, fmt.Sprintf("%s %s: %d %s %s", clockTime(time.Now()), operation, status, text, fault))
	return status, text, fault
}

// apply does the operation, or notes that it must not come.
func (p *payment) apply(operation Operation, cents int64) (status int, text string) {
	misused := func(what string) (int, string) {
		if p.misuse == "" {
			p.misuse = what
		}
		return http.StatusInternalServerError, what
	}
	switch {
	case operation == Hold && p.state == Release:
		return http.StatusConflict, "it was released before" // the Hold is late, and has no effect
	case operation == Hold && (p.state != "" || p.refused):
		return misused("it was asked to hold twice")
	case operation == Hold && cents > maxCents:
		p.refused = true
		return http.StatusConflict, "so much is not covered"
	case operation == Capture && p.state != Hold && p.state != Capture:
		return misused("it was asked to capture what is not held")
	case operation == Release && p.state == Capture:
		return misused("it was asked to release what is captured")
	}
	if p.state != operation {
		p.effects = append(p.effects, branchOperations[operation])
	}
	p.state = operation
	return http.StatusOK, "done"
}

// branchOperations are the operations of the payment branch, by what they ask for.
var branchOperations = map[Operation]string{Hold: invariant.Try, Capture: invariant.Confirm, Release: invariant.Cancel}

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

// clockTime is the time of day, for lines of a report.
func clockTime(t time.Time) string { return t.UTC().Format("15:04:05.000000") }
