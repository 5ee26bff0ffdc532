// Package recovery finds transactions that are due - deadlines, retries, and the work of
// instances that are gone - takes them over, and drives them.
package recovery

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/drive"
	"github.com/tccsaga/tccsaga/saga/internal/inflight"
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
	"github.com/tccsaga/tccsaga/saga/internal/lifetime"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/saga/internal/warn"
)

// Parts are what a [Recovery] works with.
type Parts struct {
	DB       *gorm.DB // of the log
	Log      *txlog.Log
	Builder  *txn.Builder
	Driver   *drive.Driver
	Life     *lifetime.Lifetime
	InFlight *inflight.Registry
	Warn     *warn.Logger
	Instance string
	Stopping <-chan struct{} // closed when nothing new is begun any more

	Lease, PollEvery, CallTimeout, AttentionAge time.Duration

	Workers  int // the most transactions that are driven at once
	MaxBytes int // of one transaction; twice as many are driven at once, and one transaction more
}

// Recovery takes over due transactions. It is safe for concurrent use.
type Recovery struct {
	Parts
	wake    *Waker
	driving atomic.Int64 // bytes of payloads of what was claimed and is driven
}

// New returns a Recovery that wake wakes.
func New(parts Parts, wake *Waker) *Recovery { return &Recovery{Parts: parts, wake: wake} }

// Waker asks for a look at the log before its next turn. It is safe for concurrent use.
type Waker struct {
	c    chan struct{}
	most time.Duration // between two looks that Soon asks for

	mu    sync.Mutex
	pause time.Duration // until the next look of Soon
	timer *time.Timer   // of Soon; nil if none is due
}

// NewWaker returns a Waker for a log that is looked at every poll in any case.
func NewWaker(poll time.Duration) *Waker {
	return &Waker{c: make(chan struct{}, 1), most: poll}
}

// firstLook is the pause before the first look of Soon.
const firstLook = time.Millisecond

// Soon asks for looks with growing pauses, until the pause is as long as that of the
// poll: for a transaction that a caller is about to commit.
func (w *Waker) Soon() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pause = firstLook
	if w.timer == nil {
		w.timer = time.AfterFunc(w.pause, w.look)
	}
}

func (w *Waker) look() {
	w.After(0)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pause *= 2; w.pause >= w.most {
		w.timer = nil
		return
	}
	w.timer = time.AfterFunc(w.pause, w.look)
}

// After asks after d.
func (w *Waker) After(d time.Duration) {
	time.AfterFunc(d, func() {
		select {
		case w.c <- struct{}{}:
		default:
		}
	})
}

const (
	// claimBatch is the most transactions that one claim takes over. It looks at
	// twice as many that are due, at claimPage at the most, and at minPage more,
	// because some are for other instances.
	claimBatch, claimPage, minPage = 500, 1000, 50

	// idleClaims is how many times longer than it took the pause after a sweep is
	// that has found nothing that this instance can drive.
	idleClaims = 10

	// regain is how long a free slot waits for others that become free at the
	// same time, so that one claim fills them all.
	regain = 2 * time.Millisecond
)

// Poll claims due transactions and drives them, until ctx ends or Stop begins.
func (r *Recovery) Poll(ctx context.Context) {
	slots := make(chan struct{}, r.Workers)
	var sweep sweep
	for {
		more := r.claim(ctx, slots, &sweep)
		pause := time.Duration(0)
		if !more {
			// Jitter keeps instances that started together from asking together.
			pause = max(r.PollEvery/2, idleClaims*sweep.vain) + jitter.UpTo(ctx, r.PollEvery/2+1)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-r.Stopping:
			timer.Stop()
			return
		case <-r.wake.c:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// MakeDue makes transactions due that were put off while the circuit of a kind was
// open, as far as they are still this instance's.
func (r *Recovery) MakeDue(gids []string) {
	ctx, cancel := r.Life.DetachCall(r.Life.Context())
	defer cancel()
	for some := range slices.Chunk(gids, claimBatch) {
		err := local.Run(ctx, r.DB, func(tx *gorm.DB) error { return r.Log.MakeDue(ctx, tx, r.Instance, some) })
		if err != nil {
			r.Warn.Warn(ctx, "saga: making postponed transactions due, which are called after their backoff now", err)
			return
		}
		r.wake.After(0)
	}
}

// resume brings a claimed transaction on: to its decision, if nobody has made
// it, and then through one round of calls.
func (r *Recovery) resume(ctx context.Context, record txlog.Record, t *txn.Txn, entry *inflight.Entry) {
	if t.State == saga.Trying {
		strange := !t.Known()
		if err := r.presumeAbort(ctx, record, strange); err != nil {
			r.InFlight.Release(entry)
			r.Warn.Warn(ctx, "saga: cancelling an undecided transaction", err)
			return
		}
		t.State = saga.Cancelling
		if record.Paused() || strange {
			r.InFlight.Release(entry)
			return
		}
	}
	r.Driver.Drive(ctx, t, entry)
}

// presumeAbort cancels a transaction that nobody decided: its deadline has
// passed, or the process that executed it is gone. A strange one has kinds of
// branches that this instance does not know: another one drives it.
func (r *Recovery) presumeAbort(ctx context.Context, record txlog.Record, strange bool) error {
	decision := txlog.Decision{GID: record.GID, Epoch: record.Epoch, State: txlog.Cancelling,
		By: txlog.ByDeadline, Reason: "it was undecided at its deadline", Code: saga.CodeDeadline, Owner: r.Instance, Due: r.Lease}
	if record.Owner != "" && !record.Expired {
		decision.By, decision.Reason, decision.Code = txlog.ByRecovery, "the process that executed it was gone before the decision", saga.CodeGone
	}
	if strange {
		decision.Owner, decision.Due = "", 0
	}
	ctx, cancel := context.WithTimeout(ctx, r.CallTimeout)
	defer cancel()
	return local.Run(ctx, r.DB, func(tx *gorm.DB) error { return r.Log.Decide(ctx, tx, decision) })
}
