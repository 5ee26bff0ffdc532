package tcctest

import (
	"bytes"
	"context"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// sight is a use of the network, or of another database connection, in a local transaction.
type sight struct {
	network bool // otherwise another database connection
	place   string
}

// sights has the sights of one exercise, by operation.
type sights struct {
	mu   sync.Mutex
	seen map[string][]sight
}

func (s *sights) add(op string, seen sight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[string][]sight{}
	}
	same := func(other sight) bool { return other.network == seen.network }
	if i := slices.IndexFunc(s.seen[op], same); i < 0 {
		s.seen[op] = append(s.seen[op], seen)
	} else if s.seen[op][i].place == unknown {
		s.seen[op][i] = seen
	}
}

func (s *sights) of(op string) []sight {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen[op])
}

// watchful is a context that watches who uses it: database/sql, net and net/http call Done
// before they begin.
type watchful struct {
	context.Context
	see func(sight)
}

// Done implements [context.Context].
func (c watchful) Done() <-chan struct{} {
	if seen, ok := judge(callers()); ok {
		c.see(seen)
	}
	return c.Context.Done()
}

// look watches the stack of this goroutine, and of the goroutines that it starts, until stop
// is called. It closes ready when it has begun.
//
// It ignores other goroutines, so other tests do not matter. It may miss something that
// takes less than about 50 µs.
func (h *how) look(ready chan<- struct{}) (stop func()) {
	if !h.watched || h.see == nil {
		close(ready)
		return func() {}
	}
	own, see := goroutine(), h.see
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		buffer := make([]byte, 1<<20)
		for first := true; ; first = false {
			for _, seen := range sightsIn(buffer[:runtime.Stack(buffer, true)], own) {
				see(seen)
			}
			if first {
				close(ready)
			}
			select {
			case <-over:
				return
			default:
				runtime.Gosched()
			}
		}
	}()
	return func() { close(over); <-ended }
}

// goroutine returns the number of this goroutine, which is only in its stack.
func goroutine() string {
	buffer := make([]byte, 64)
	number, _, _ := strings.Cut(strings.TrimPrefix(string(buffer[:runtime.Stack(buffer, false)]), "goroutine "), " ")
	return number
}

// sightsIn judges the stacks of a goroutine and of the goroutines that it has started.
func sightsIn(stacks []byte, own string) (seen []sight) {
	for section := range bytes.SplitSeq(stacks, []byte("\n\n")) {
		mine := bytes.HasPrefix(section, []byte("goroutine "+own+" "))
		if !mine && !bytes.Contains(section, []byte(" in goroutine "+own+"\n")) {
			continue
		}
		stack, creator := parse(string(section))
		if !mine && hasPrefix(creator, others) {
			continue // a library has started it; the goroutine that waits for it is judged
		}
		if s, ok := judge(stack); ok {
			seen = append(seen, s)
		}
	}
	return seen
}

// parse reads the stack of one goroutine, as the runtime prints it.
func parse(section string) (stack []frame, creator string) {
	lines := strings.Split(section, "\n")
	for i := 1; i+1 < len(lines); i += 2 {
		name, place := lines[i], strings.TrimSpace(lines[i+1])
		if rest, ok := strings.CutPrefix(name, "created by "); ok {
			creator, _, _ = strings.Cut(rest, " in goroutine ")
			return stack, creator
		}
		if end := strings.LastIndexByte(name, '('); end > 0 {
			name = name[:end]
		}
		place, _, _ = strings.Cut(place, " ")
		file, line := place, 0
		if colon := strings.LastIndexByte(place, ':'); colon > 0 {
			file = place[:colon]
			line, _ = strconv.Atoi(place[colon+1:])
		}
		stack = append(stack, frame{name, filepath.Base(file) + ":" + strconv.Itoa(line)})
	}
	return stack, creator
}

// judge finds a use of the network or of another connection in a stack, innermost function
// first.
func judge(stack []frame) (sight, bool) {
	network, database := -1, false
	for i, f := range stack {
		switch {
		case strings.HasPrefix(f.name, thisPackage+"(*connection)."):
			return sight{}, false // a statement in tx
		case pools(f.name):
			if !byFramework(stack[i:]) {
				return sight{place: placeOf(stack[i:])}, true
			}
			return sight{}, false
		case strings.HasPrefix(f.name, "database/sql."):
			database = true
		case hasPrefix(f.name, remote):
			network = i // the outermost, which the branch has called
		}
	}
	if network < 0 || database {
		return sight{}, false
	}
	return sight{network: true, place: placeOf(stack[network:])}, true
}

// remote are the prefixes of functions that use the network.
var remote = []string{"net/http.(*Client).", "net/http.(*Transport).", "net/http.(*persistConn).", "net.(*Dialer).", "net.(*conn).", "net.(*Resolver).",
	"google.golang.org/grpc.(*ClientConn).", "github.com/nats-io/nats.go.", "github.com/redis/go-redis/"}

// pools reports whether a function takes a connection of a pool.
func pools(name string) bool {
	method, ok := strings.CutPrefix(name, "database/sql.(*DB).")
	return ok && slices.Contains([]string{"conn", "Conn", "QueryContext", "Query", "QueryRowContext", "QueryRow", "ExecContext", "Exec",
		"PrepareContext", "Prepare", "BeginTx", "Begin", "PingContext", "Ping"}, method) || strings.HasPrefix(name, "database/sql.(*Conn).")
}

// framework are the packages that may take a connection: tcc.SQLTx does.
var framework = []string{"github.com/tccsaga/tccsaga/tcc.", "github.com/tccsaga/tccsaga/tcc/internal/"}

// byFramework reports whether the framework has made the pool from a tx.
func byFramework(stack []frame) bool {
	for _, f := range stack {
		if !strings.HasPrefix(f.name, "database/sql.") {
			return hasPrefix(f.name, framework)
		}
	}
	return false
}
