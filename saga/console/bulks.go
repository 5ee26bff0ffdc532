package console

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/tccsaga/tccsaga/saga"
)

// bulker keeps bulk actions, and acts on their transactions.
type bulker interface {
	FreezeBulk(ctx context.Context, act string, q saga.Query, by saga.Operator) (saga.BulkAction, error)
	RunBulk(ctx context.Context, id string, progress func(saga.BulkAction)) (saga.BulkAction, error)
	Bulk(ctx context.Context, id string) (saga.BulkAction, error)
	Bulks(ctx context.Context, after string, limit int) (page []saga.BulkAction, next string, err error)
	BulkTargets(ctx context.Context, id string, after, limit int) ([]saga.BulkTarget, error)
}

// bulks are the bulk actions that this process runs in the background.
type bulks struct {
	bulker
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

func newBulks(of bulker, logger *slog.Logger) *bulks {
	b := &bulks{bulker: of, logger: logger, running: make(map[string]bool), failed: make(map[string]string)}
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
	_, err := b.RunBulk(b.ctx, id, nil)
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
