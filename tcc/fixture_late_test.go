package tcc_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/embedded"
	"github.com/tccsaga/tccsaga/saga/sagatest"
	"github.com/tccsaga/tccsaga/tcc"
)

// holdLate is the payload of a gateway whose Try takes its time.
type holdLate struct{ Account, Cents int }

func (holdLate) Branch() string { return "credit.late" }

// manner is how a slow Try behaves when its context ends.
type manner int

const (
	patiently manner = iota // it gives up, and reserves nothing
	deaf                    // it does not notice, and reserves later
	stray                   // it gives up, and its request arrives later
)

// lateGateway is a branch without a database. A Try waits for the gate.
type lateGateway struct {
	manner manner
	failed error         // of a stray Try, at once, instead of the end of its context
	called chan struct{} // closed by the first Try
	gate   chan struct{}

	mu       sync.Mutex
	calls    []string // effects, in their order
	freed    chan struct{}
	arrivals sync.WaitGroup
}

func newLateGateway(m manner) *lateGateway {
	return &lateGateway{manner: m, called: make(chan struct{}), gate: make(chan struct{}), freed: make(chan struct{})}
}

func (g *lateGateway) effect(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls = append(g.calls, name)
	if name == "free" && slices.Index(g.calls, "free") == len(g.calls)-1 {
		close(g.freed)
	}
}

func (g *lateGateway) so() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.calls, " ")
}

func (g *lateGateway) Try(ctx context.Context, _ holdLate) error {
	close(g.called)
	switch {
	case g.manner == deaf:
		<-g.gate
		g.effect("held")
		return nil
	case g.failed != nil:
		g.arrivals.Go(func() { <-g.gate; g.effect("held") })
		return g.failed
	}
	select {
	case <-g.gate:
		g.effect("held")
		return nil
	case <-ctx.Done():
	}
	if g.manner == stray {
		g.arrivals.Go(func() { <-g.gate; g.effect("held") })
	}
	return ctx.Err()
}

func (g *lateGateway) Confirm(context.Context, holdLate) error { g.effect("used"); return nil }
func (g *lateGateway) Cancel(context.Context, holdLate) error  { g.effect("free"); return nil }

// late is a bench with a slow gateway.
type late struct {
	*bench
	gateway *lateGateway
	dead    *embedded.Engine // an instance that loses its lease
	gid     string
	told    chan error // what the caller of the Try was told
}

func newLate(t *testing.T, db *gorm.DB, m manner, callTimeout time.Duration) *late {
	t.Helper()
	config := quick
	config.CallTimeout = callTimeout
	l := &late{bench: newBench(t, db, config), gateway: newLateGateway(m), gid: sagatest.GID(), told: make(chan error, 1)}
	config = dying()
	config.CallTimeout = callTimeout
	l.dead = l.open(config)
	for _, engine := range []*embedded.Engine{l.orch, l.dead} {
		sagatest.Must(t, tcc.RegisterExternal(engine, l.gateway))
	}
	return l
}

// execute and open call the slow Try, in a plan and in an open transaction.
func (l *late) execute(ctx context.Context, engine saga.Engine, options saga.Options) {
	go func() {
		_, err := tcc.ExecuteWith(ctx, engine, l.gid, options, hold{1, 10}, holdLate{1, 30})
		l.told <- err
	}()
	<-l.gateway.called
}

func (l *late) tryOpen(ctx context.Context, options saga.Options) {
	tx, err := tcc.BeginWith(ctx, l.orch, l.gid, options)
	sagatest.Must(l.t, err)
	sagatest.Must(l.t, tx.Try(ctx, hold{1, 10}))
	go func() { l.told <- tx.Try(ctx, holdLate{1, 30}) }()
	<-l.gateway.called
}

// decided waits until the transaction is decided to be cancelled.
func (l *late) decided() {
	sagatest.Eventually(l.t, "it is decided", func() bool {
		found, err := l.orch.Lookup(l.t.Context(), l.gid)
		return err == nil && found.State == saga.Cancelling
	})
}

// ends checks that the caller was told, the end, and what the gateway saw.
func (l *late) ends(calls string) {
	l.t.Helper()
	if err := <-l.told; !errors.Is(err, saga.ErrCancelled) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, saga.ErrUnknown) {
		l.t.Errorf("the caller of the Try was told %v", err)
	}
	l.reaches(l.gid, saga.Cancelled)
	l.gateway.arrivals.Wait()
	sagatest.Eventually(l.t, "the gateway saw "+calls, func() bool { return l.gateway.so() == calls })
	l.books(l.db, 1, 100, 0, 0)
}
