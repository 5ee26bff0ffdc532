package simulation

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/jitter"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// exchange is a request that the host answers. It is the [http.ResponseWriter] of the answer.
type exchange struct {
	host  *process
	ctx   context.Context // of the request; it ends when the sender is gone
	leave context.CancelFunc

	mu     sync.Mutex
	header http.Header
	status int // 0 until there is an answer
	lines  [][]byte
	ended  bool
	wake   chan struct{} // capacity 1
}

// newExchange returns an exchange that is cancelled when ctx ends.
func newExchange(ctx context.Context, host *process) *exchange {
	x := &exchange{host: host, header: http.Header{}, wake: make(chan struct{}, 1)}
	var cancel context.CancelFunc
	x.ctx, cancel = context.WithCancel(jitter.With(context.Background(), host.draw))
	stop := context.AfterFunc(ctx, cancel)
	x.leave = func() { stop(); cancel() }
	return x
}

func (x *exchange) Header() http.Header { return x.header }

func (x *exchange) WriteHeader(status int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.status == 0 && !x.host.dead() {
		x.status = status
		x.signal()
	}
}

// Write writes a part of the answer. The host writes each line at once.
func (x *exchange) Write(line []byte) (int, error) {
	x.WriteHeader(http.StatusOK)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.host.dead() {
		return 0, errReset
	}
	x.lines = append(x.lines, bytes.Clone(line))
	x.signal()
	return len(line), nil
}

func (x *exchange) Flush() {}

// end ends the answer.
func (x *exchange) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ended = true
	x.leave()
	x.signal()
}

func (x *exchange) signal() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// wait waits until ready returns true. It fails if the host dies, if from dies, or if ctx ends.
func (x *exchange) wait(ctx context.Context, from *process, ready func() bool) error {
	for {
		x.mu.Lock()
		is := ready()
		x.mu.Unlock()
		switch {
		case from.dead():
			return errReset
		case ctx.Err() != nil: // the host notices at the same moment, and may answer something
			return ctx.Err()
		case is:
			return nil
		case x.host.dead():
			return errReset
		}
		select {
		case <-x.wake:
		case <-x.host.gone:
		case <-from.gone:
		case <-ctx.Done():
		}
	}
}

// hasEnded says whether the whole answer is there. Its caller holds x.mu.
func (x *exchange) hasEnded() bool { return x.ended && !x.host.dead() }

// reply is the body of an answer as its receiver reads it.
type reply struct {
	*exchange
	from   *process
	ctx    context.Context
	cancel context.CancelFunc
	change func([][]byte) [][]byte // of the lines; nil for none
	left   []byte                  // of the current line
}

// response waits for the beginning of the answer; for all of it, if its lines are changed. If
// the answer is cut on the way, what comes within a second is all of it.
func (a *reply) response(cutSoon bool) (*http.Response, error) {
	if cutSoon {
		a.change = nil
		var cancel context.CancelFunc
		a.ctx, cancel = context.WithDeadline(a.ctx, a.host.world.gate.justAfter(time.Now().Add(time.Second)).Add(time.Nanosecond))
		before := a.cancel
		a.cancel = func() { cancel(); before() }
	}
	ready := func() bool { return a.status != 0 || a.ended }
	if a.change != nil {
		ready = a.hasEnded
	}
	if err := a.wait(a.ctx, a.from, ready); err != nil {
		a.cancel()
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.change != nil {
		a.lines = a.change(a.lines)
	}
	return &http.Response{StatusCode: a.status, Header: a.header.Clone(), Body: a, ContentLength: -1, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}, nil
}

func (a *reply) Read(into []byte) (n int, err error) {
	if len(a.left) == 0 {
		if err := a.wait(a.ctx, a.from, func() bool { return len(a.lines) > 0 || a.ended }); err != nil {
			return 0, err
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		switch {
		case len(a.lines) > 0 && a.lines[0] == nil:
			return 0, io.ErrUnexpectedEOF
		case len(a.lines) > 0:
			a.left, a.lines = a.lines[0], a.lines[1:]
		case a.host.dead():
			return 0, errReset
		default:
			return 0, io.EOF
		}
	}
	n = copy(into, a.left)
	a.left = a.left[n:]
	return n, nil
}

// Close breaks the connection if the answer has not ended.
func (a *reply) Close() error {
	a.cancel()
	return nil
}

// change does to the lines of an answer what the fault says. A line of nil breaks it off.
func (w *world) change(m message, f fault, dice int, lines [][]byte) [][]byte {
	if m.batch {
		// The lines come in an order that the seed does not decide.
		slices.SortFunc(lines, func(a, b []byte) int { return cmp.Compare(w.number(m.callOf(a), dice), w.number(m.callOf(b), dice)) })
	}
	if len(lines) == 0 {
		return lines
	}
	half := len(lines) / 2
	switch {
	case f == cut:
		return append(slices.Clone(lines[:half]), lines[half][:len(lines[half])/2], nil)
	case f == twice && m.batch:
		return append(slices.Clone(lines), lines...)
	case f == changed && dice%4 == 1 && m.batch && len(lines) > 1: // the answers to two calls are swapped
		numberA, restA, _ := bytes.Cut(lines[0], []byte(" "))
		numberB, restB, _ := bytes.Cut(lines[1], []byte(" "))
		lines[0], lines[1] = slices.Concat(numberB, []byte(" "), restA), slices.Concat(numberA, []byte(" "), restB)
	case f == changed:
		i := max(0, slices.IndexFunc(lines, func(line []byte) bool { return !bytes.Contains(line, []byte(" 200 ")) }))
		lines[i] = swapped(lines[i])
	}
	return lines
}

// swapped turns a line of success into one of a rejection, and any other one into success.
func swapped(line []byte) []byte {
	parts := bytes.SplitN(line, []byte(" "), 3)
	if len(parts) < 3 {
		return nil
	}
	status, from, to := "200", "FAILURE", "SUCCESS"
	if string(parts[1]) == status {
		status, from, to = "409", to, from
	}
	rest := bytes.ReplaceAll(parts[2], []byte(from), []byte(to))
	return slices.Concat(parts[0], []byte(" "+status+" "), rest)
}

// callOf returns the call, in words, that a line answers.
func (m message) callOf(line []byte) string {
	if n, _, _, _, err := wire.DecodeAnswer(line); err == nil && n < len(m.calls) {
		return m.calls[n]
	}
	return ""
}
