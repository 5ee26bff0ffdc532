package simulation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// network carries the requests of a process to the host. Each request passes the gate.
type network struct{ from *process }

var (
	errRefused = errors.New("connection refused, on purpose")
	errReset   = errors.New("connection reset, on purpose")
)

// message is a request on its way.
type message struct {
	request *http.Request
	body    []byte
	batch   bool
	calls   []string // in words, in their order
}

func read(r *http.Request) (m message, err error) {
	m.request = r
	if m.body, err = io.ReadAll(r.Body); err != nil {
		return m, err
	}
	kind, query := path.Base(r.URL.Path), r.URL.Query()
	if kind != wire.Calls {
		m.calls = []string{inWords(query.Get("op"), query.Get("gid"), query.Get("branch_id"), kind)}
		return m, nil
	}
	m.batch = true
	calls, err := wire.DecodeBatch(m.body)
	for _, c := range calls {
		m.calls = append(m.calls, inWords(string(c.Op), c.GID, c.BranchID, c.Kind))
	}
	return m, err
}

func inWords(op, gid, branch, kind string) string {
	return fmt.Sprintf("%s of %s/%s, %s", op, gid, branch, kind)
}

// String is the same for every order of the calls, which the seed does not decide.
func (m message) String() string {
	calls := slices.Sorted(slices.Values(m.calls))
	if m.batch {
		return fmt.Sprintf("POST %d calls: %s", len(calls), strings.Join(calls, "; "))
	}
	return "POST " + calls[0]
}

// number is a number that the seed decides, for one of several things that depend on the message.
func (w *world) number(of string, dice int) uint64 {
	hash := fnv.New64a()
	fmt.Fprint(hash, w.seed, dice, of)
	return hash.Sum64()
}

// RoundTrip sends a request, and does what its fault leaves of the exchange.
func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	w, ctx := n.from.world, r.Context()
	m, err := read(r)
	if err != nil {
		return nil, err
	}
	waiting := &call{process: n.from, what: m.String(), travels: true}
	f, err := w.gate.pass(ctx, waiting)
	dice := waiting.dice
	switch {
	case err != nil:
		return nil, err
	case n.from.dead():
		return nil, errReset
	case f == failBefore && dice%2 == 0:
		return nil, errRefused
	case f == failBefore:
		return n.silence(ctx)
	case f == late:
		w.sendLater(m, dice)
		return n.silence(ctx)
	case f == twice && (dice%2 == 0 || !m.batch):
		w.sendLater(m, dice)
	case f == changed && dice%4 == 0:
		m = m.withChange()
	case f == dieAfter:
		_, err := w.deliver(context.Background(), m)
		n.from.die()
		return nil, errors.Join(err, errReset)
	}
	ctx, cancel := context.WithCancel(ctx)
	x, err := w.deliver(ctx, m)
	if err != nil {
		cancel()
		return nil, err
	}
	if f == failAfter {
		err := x.wait(ctx, n.from, x.hasEnded)
		if err == nil && dice%2 == 0 {
			_, err = n.silence(ctx)
		}
		cancel()
		return nil, errors.Join(err, errReset)
	}
	a := &reply{exchange: x, from: n.from, ctx: ctx, cancel: cancel}
	if f == cut || f == twice || f == changed {
		a.change = func(lines [][]byte) [][]byte { return w.change(m, f, dice, lines) }
	}
	return a.response(f == cut && dice%2 == 0)
}

// silence waits until nobody waits for the answer any more.
func (n *network) silence(ctx context.Context) (*http.Response, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-n.from.gone:
		return nil, errReset
	}
}

// withChange changes the first call of a request.
func (m message) withChange() message {
	if m.batch {
		m.body = bytes.Replace(m.body, []byte(`"branch_id":"0`), []byte(`"branch_id":"1`), 1)
	} else {
		m.body = append(bytes.Clone(m.body), ' ')
	}
	return m
}

// sendLater delivers a request after a while. Nobody waits for the answer.
func (w *world) sendLater(m message, dice int) {
	delay := 3 * time.Millisecond
	if dice%4 != 0 {
		delay = time.Duration(w.number(m.String(), dice)%8000) * time.Millisecond
	}
	arrives := w.gate.justAfter(time.Now().Add(delay))
	w.late.Add(1)
	w.left.Go(func() {
		defer w.late.Add(-1)
		time.Sleep(time.Until(arrives))
		if _, err := w.gate.pass(context.Background(), &call{process: w.network, what: m.String(), again: true}); err != nil {
			return
		}
		if x, err := w.deliver(context.Background(), m); err == nil {
			x.wait(context.Background(), w.network, x.hasEnded)
		}
	})
}

// deliver hands a request to the host, if that is up. The request is cancelled when ctx ends.
func (w *world) deliver(ctx context.Context, m message) (*exchange, error) {
	host := w.process(hostNumber)
	if host == nil || host.dead() {
		return nil, errRefused
	}
	x := newExchange(ctx, host)
	r := m.request.Clone(x.ctx)
	r.RequestURI, r.Body = r.URL.RequestURI(), io.NopCloser(bytes.NewReader(m.body))
	r.ContentLength = int64(len(m.body))
	w.left.Go(func() {
		host.host.ServeHTTP(x, r)
		x.end()
	})
	return x, nil
}
