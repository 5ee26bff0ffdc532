package call

import (
	"context"
	"sync"
	"time"

	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// Watch gives up a shared local transaction when a call in it takes too long.
type Watch struct {
	limit  time.Duration
	fired  chan struct{} // closed when the transaction has been given up
	cancel context.CancelCauseFunc

	mu sync.Mutex
	tx *local.Tx
}

func (w *Watch) setTx(tx *local.Tx) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tx = tx
}

// start starts the limit for the calls that follow. The caller has to call stop after
// them.
func (w *Watch) start() (stop func()) {
	timer := time.AfterFunc(w.limit, w.giveUp)
	return func() { timer.Stop() }
}

func (w *Watch) giveUp() {
	w.mu.Lock()
	tx := w.tx
	w.mu.Unlock()
	w.cancel(ErrSlow)
	aborted := make(chan struct{})
	go func() { tx.Abort(ErrSlow); close(aborted) }()
	select {
	case <-aborted:
	case <-time.After(returnGrace):
	}
	close(w.fired)
}
