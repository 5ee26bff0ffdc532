package call

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/batch"
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// gatherer gathers calls that are made at the same time, and are of the same kind and
// operation, into shared local transactions of the branch's database. It is safe for
// concurrent use.
//
// A call of a batch has the same verdict and the same error as alone: if the barrier turns a
// call away, or a call fails, it is made again alone. There is one exception, a failed Try of
// a branch that tries many at once: such a failure has no effect.
type gatherer struct {
	calls    *Caller
	maxBatch int

	mu     sync.Mutex
	places map[*gorm.DB]*place
	closed bool
}

// place is a database in which calls are gathered.
type place struct {
	shared *Shared
	groups *batch.Groups[*gathered] // by the kind of branch, the operation, the branch id and the caller
	log    Log                      // takes part in the local transactions; nil if it does not
}

// gathered is a call that waits for its batch.
type gathered struct {
	ctx    context.Context
	in     *place
	branch *txn.Branch
	call   saga.Call
	result json.RawMessage // of an action's Try
	found  barrier.Verdict // set with done
	err    error
	done   chan struct{}
}

func newGatherer(c *Caller, maxBatch int) *gatherer {
	return &gatherer{calls: c, maxBatch: maxBatch, places: make(map[*gorm.DB]*place)}
}

// in returns the place of a database.
func (g *gatherer) in(db *gorm.DB) (*place, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.places[db]; p != nil {
		return p, nil
	}
	shared, err := NewShared(db, g.calls, g.maxBatch)
	if err != nil {
		return nil, err
	}
	if g.closed {
		shared.Close()
	}
	p := &place{shared: shared, groups: batch.New(g.maxBatch, shared.Workers(), g.write)}
	g.places[db] = p
	return p, nil
}

// close closes the connections that are kept for shared local transactions.
func (g *gatherer) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, p := range g.places {
		p.shared.Close()
	}
}

// gathers reports whether a call may share a local transaction now.
func gathers(b *txn.Branch, call saga.Call) bool {
	switch call.Op {
	case barrier.Try, barrier.Confirm:
	case barrier.Cancel:
		if b.Action { // it may have to read its own result
			return false
		}
	default:
		return false
	}
	return b.Effect(call.Op) == nil && len(call.Payload) <= sharedBytes && !b.Backoff.Active()
}

// call makes a call in a batch. It returns batch.ErrAlone if the call has to be made alone.
func (g *gatherer) call(ctx context.Context, b *txn.Branch, call saga.Call) (barrier.Verdict, error) {
	p, err := g.in(b.Database)
	if err != nil {
		return "", err
	}
	return p.call(ctx, b, call)
}

func (p *place) call(ctx context.Context, b *txn.Branch, call saga.Call) (barrier.Verdict, error) {
	m := &gathered{ctx: ctx, in: p, branch: b, call: call, done: make(chan struct{})}
	p.groups.Add(groupOf(call), m)
	select {
	case <-m.done:
	case <-ctx.Done():
		// Its batch has a limit of its own. If the call has no end before, its outcome is not known.
		select {
		case <-m.done:
		case <-time.After(returnGrace):
			return "", context.Cause(ctx)
		}
	}
	if m.err == nil && call.Result != nil {
		*call.Result = m.result
	}
	return m.found, m.err
}

// failure returns the error of a failed Try without an effect.
func (p *place) failure(call saga.Call, err error) error {
	if p.log != nil {
		return &txn.BranchError{ID: call.BranchID, Kind: call.Kind, Err: err}
	}
	return err
}

// groupOf returns the key of the batches of a call. Calls of one batch have the same branch id
// and caller, so that one statement names them.
func groupOf(call saga.Call) string {
	return strings.Join([]string{call.Kind, string(call.Op), call.BranchID, call.Caller}, " ")
}

// write makes the calls of a batch.
func (g *gatherer) write(all []*gathered) {
	kept := all[:0]
	for _, m := range all {
		if m.err = local.Expired(m.ctx); m.err != nil {
			close(m.done)
		} else {
			kept = append(kept, m)
		}
	}
	// Parallel batches lock rows in the same order, and wait instead of deadlocking.
	slices.SortFunc(kept, func(a, b *gathered) int {
		return cmp.Or(bytes.Compare(a.call.Payload, b.call.Payload), cmp.Compare(a.call.GID, b.call.GID))
	})
	never := func(error) bool { return false }
	look := false
	write := func(some []*gathered) error { return g.writeShared(some, &look) }
	batch.Write(kept, write, never, func(m *gathered, err error) {
		if m.err == nil {
			m.err = err
		}
		close(m.done)
	})
}

// run makes calls in one local transaction. The failures are those of Trys without an effect.
func (g *gatherer) run(ctx context.Context, all []*gathered, look bool) (failures []error, err error) {
	first := all[0]
	err = first.in.shared.Run(ctx, len(all), []*txn.Branch{first.branch}, func(ctx context.Context, tx *gorm.DB, w *Watch) (err error) {
		run := &gatheredRun{calls: g.calls, in: first.in, tx: tx, watch: w, all: all, look: look}
		failures, err = run.run(ctx)
		return err
	})
	return failures, err
}

// writeShared makes calls in one local transaction. Look says that the barrier has turned a call
// of the batch away, so that its rows are read first.
func (g *gatherer) writeShared(all []*gathered, look *bool) error {
	shared := jitter.Inherit(context.Background(), all[0].ctx)
	ctx, cancel := context.WithTimeout(g.calls.observe.Attach(shared), g.calls.timeout)
	defer cancel()
	failures, err := g.run(ctx, all, *look)
	if errors.Is(err, errLook) {
		*look = true
		failures, err = g.run(ctx, all, true)
	}
	if err != nil {
		return err
	}
	for i, m := range all {
		if failures != nil && failures[i] != nil {
			m.err = m.in.failure(m.call, failures[i])
		}
		if m.found == "" {
			m.found = barrier.Run
		}
	}
	g.calls.observe.Batch(ctx, batchCalls, len(all))
	return nil
}
