package console

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/tccsaga/tccsaga/saga/embedded"
)

// bulks are the bulk actions that this process runs in the background.
type bulks struct {
	ops    *embedded.Operations
	logger *slog.Logger
	ctx    context.Context
	end    context.CancelFunc

	mu      sync.Mutex
	running map[string]bool
	failed  map[string]string // by id: why the last run has ended early
	closed  bool
	all     sync.WaitGroup
}

// maxRunning is the most bulk actions that one process runs at once.
const maxRunning = 2

var (
	errTooManyBulks = errors.New("too many bulk actions run in this process")
	errClosed       = errors.New("the console is closed")
)

func newBulks(ops *embedded.Operations, logger *slog.Logger) *bulks {
	b := &bulks{ops: ops, logger: logger, running: make(map[string]bool), failed: make(map[string]string)}
	b.ctx, b.end = context.WithCancel(context.Background())
	return b
}

// start runs what is left of a bulk action in the background. It does nothing if it runs already.
func (b *bulks) start(id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return errClosed
	case b.running[id]:
		return nil
	case len(b.running) >= maxRunning:
		return errTooManyBulks
	}
	b.running[id] = true
	delete(b.failed, id)
	b.all.Go(func() { b.run(id) })
	return nil
}

func (b *bulks) run(id string) {
	_, err := b.ops.RunBulk(b.ctx, id, nil)
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.running, id)
	if err != nil && b.ctx.Err() == nil {
		b.logger.Error("console: a bulk action has stopped early, and can be continued", "bulk", id, "error", err)
		if len(b.failed) >= 100 {
			clear(b.failed)
		}
		b.failed[id] = err.Error()
	}
}

// state returns whether this process runs a bulk action, and why its last run has ended early.
func (b *bulks) state(id string) (running bool, failed string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.running[id], b.failed[id]
}

func (b *bulks) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.end()
	b.all.Wait()
}
