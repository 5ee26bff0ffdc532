// Package recovery finds due transactions, takes them over, and drives them. A transaction is
// due at its deadline, for a retry, or because the instance that drove it is gone.
package recovery

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/inflight"
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
	"github.com/tccsaga/tccsaga/saga/internal/lifetime"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/observe"
	"github.com/tccsaga/tccsaga/saga/internal/result"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/saga/internal/warn"
)

// Parts are what a [Recovery] works with.
type Parts struct {
	DB       *gorm.DB // of the log
	Log      *txlog.Log
	Builder  *txn.Builder
	Life     *lifetime.Lifetime
	InFlight *inflight.Registry
	Warn     *warn.Logger
	Instance string
	Stopping <-chan struct{} // closed when the engine begins to stop

	Lease, PollEvery, CallTimeout, AttentionAge time.Duration

	Workers  int // the most transactions that are driven at once
	MaxBytes int // of the inputs of one transaction; twice as many, and one transaction more, are driven at once

	Continue func(ctx context.Context, t *txn.Txn, left time.Duration) (drive bool) // runs the first phase of a transaction with forward recovery; drive says that it is decided, and that this instance drives it

	Ask func(ctx context.Context, t *txn.Txn) (committed bool, err error) // asks the branch that decides; after an error, Next says when it is due

	Drive func(context.Context, *txn.Txn, *inflight.Entry) saga.State // drives a transaction once, and releases its entry
	Alarm func(*txn.Txn)                                              // tells that a transaction was raised to attention

	Observe *observe.Notifier
}

// Recovery takes over due transactions. It is safe for concurrent use.
type Recovery struct {
	Parts
	wake    *Waker
	driving atomic.Int64 // bytes of the inputs of the claimed transactions that are driven
}

// New returns a Recovery. It polls the log early when wake asks for it.
func New(parts Parts, wake *Waker) *Recovery { return &Recovery{Parts: parts, wake: wake} }

// Waker asks for a poll before the next regular one. It is safe for concurrent use.
type Waker struct {
	c       chan struct{}
	regular time.Duration // between two regular polls

	mu    sync.Mutex
	pause time.Duration // before the poll that Soon asks for next
	timer *time.Timer   // of that poll; nil if there is none
}

// NewWaker returns a Waker. The log is polled at least every regular.
func NewWaker(regular time.Duration) *Waker {
	return &Waker{c: make(chan struct{}, 1), regular: regular}
}

// firstPause is the pause before the first poll of Soon.
const firstPause = time.Millisecond

// Soon asks for polls with growing pauses, until the pause is as long as the one between
// regular polls. It is for a transaction that a caller is about to commit.
func (w *Waker) Soon() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.timer == nil:
		w.timer = time.AfterFunc(firstPause, w.pollSoon)
	case w.pause > firstPause: // a poll that is due in firstPause is not put off
		w.timer.Reset(firstPause)
	}
	w.pause = firstPause
}

func (w *Waker) pollSoon() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer == nil {
		return // Soon was called while the last poll was asked for
	}
	w.wake()
	if w.pause *= 2; w.pause >= w.regular {
		w.timer = nil
		return
	}
	w.timer.Reset(w.pause)
}

// After asks for a poll after d.
func (w *Waker) After(d time.Duration) { time.AfterFunc(d, w.wake) }

func (w *Waker) wake() {
	select {
	case w.c <- struct{}{}:
	default:
	}
}

const (
	// claimBatch is the most transactions that one claim takes over. The claim reads
	// minPage plus twice as many due transactions, at most claimPage, because some are
	// for other instances.
	claimBatch, claimPage, minPage = 500, 1000, 50

	// idleFactor multiplies the time of a sweep in which this instance could drive
	// nothing. The pause after it is at least that long.
	idleFactor = 10

	// slotDelay is the time between the moment a slot becomes free and the next claim.
	// Other slots become free meanwhile, and one claim fills them all.
	slotDelay = 2 * time.Millisecond
)

// Poll claims due transactions and drives them, until ctx ends or the engine stops.
func (r *Recovery) Poll(ctx context.Context) {
	slots := make(chan struct{}, r.Workers)
	var current sweep
	for {
		more := r.claim(ctx, slots, &current)
		pause := time.Duration(0)
		if !more {
			// Jitter spreads the polls of instances that started together.
			pause = max(r.PollEvery/2, idleFactor*current.idle) + jitter.UpTo(ctx, r.PollEvery/2+1)
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

// Again asks for a poll when a released transaction is due again. If a claim has postponed the
// transaction while it was in flight, its due time is lost: that of its next attempt, or that of
// an operator's retry. Then Again makes it due now. The branches know when they are due.
func (r *Recovery) Again(t *txn.Txn, postponed bool) {
	if postponed {
		go r.MakeDue([]string{t.GID})
		return
	}
	r.wake.After(t.Next)
}

// MakeDue makes transactions due that were postponed: while the circuit of a kind was open, or
// while they were in flight. It concerns only those that this instance still owns.
func (r *Recovery) MakeDue(gids []string) {
	ctx, cancel := r.Life.DetachCall(r.Life.Context())
	defer cancel()
	for chunk := range slices.Chunk(gids, claimBatch) {
		err := local.Run(ctx, r.DB, func(tx *gorm.DB) error { return r.Log.MakeDue(ctx, tx, r.Instance, chunk) })
		if err != nil {
			r.Warn.Warn(ctx, "saga: making postponed transactions due failed; they wait for their backoff", err)
			return
		}
		r.wake.After(0)
	}
}

// decideAndDrive continues a claimed transaction: if it is undecided, its first phase with
// forward recovery, or with what the branch that decides says, or else with a decision to
// cancel. Then it runs one round of calls.
func (r *Recovery) decideAndDrive(ctx context.Context, record txlog.Record, t *txn.Txn, entry *inflight.Entry) {
	if record.Forward() && !record.Expired && t.Known() {
		if !r.Continue(ctx, t, record.Left) {
			r.leave(t, entry)
			return
		}
	}
	if t.State == saga.Trying {
		committed, err := false, error(nil)
		if t.Deciding() != nil {
			if committed, err = r.Ask(ctx, t); err != nil {
				r.leave(t, entry)
				return
			}
		}
		foreign := !t.Known()
		decision, err := r.decide(ctx, record, t, committed)
		if err != nil {
			r.InFlight.Release(entry)
			r.Warn.Warn(ctx, "saga: deciding an undecided transaction failed; it is due again later", err, slog.String("gid", t.GID))
			return
		}
		state := saga.State(decision.State)
		t.Decide(state)
		r.Observe.Decided(ctx, t.Subject(), state, decision.By, decision.Code, t.Begun)
		if record.Paused() || foreign {
			r.InFlight.Release(entry)
			return
		}
	}
	r.Drive(ctx, t, entry)
}

// leave releases an undecided transaction until it is due again.
func (r *Recovery) leave(t *txn.Txn, entry *inflight.Entry) {
	postponed := r.InFlight.Release(entry)
	if t.Next > 0 {
		r.Again(t, postponed)
	}
}

// decide decides a transaction that is undecided. Committed says that its branch that decides
// has committed. A foreign transaction has a kind of branch that is not registered here. It is
// left without an owner, and another instance drives it.
func (r *Recovery) decide(ctx context.Context, record txlog.Record, t *txn.Txn, committed bool) (txlog.Decision, error) {
	decision := r.presumeAbort(record)
	decision.ByBranch = t.Deciding() != nil
	if committed {
		decision.State, decision.By, decision.Reason, decision.Code = txlog.Confirming, txlog.ByRecovery, "", ""
	}
	if !t.Known() {
		decision.Owner, decision.Due = "", 0
	}
	ctx, cancel := context.WithTimeout(ctx, r.CallTimeout)
	defer cancel()
	err := local.Run(ctx, r.DB, func(tx *gorm.DB) error {
		if s := t.Deciding(); committed && s.Result != nil {
			if err := result.Put(ctx, tx, t.Results([]*txn.Step{s})...); err != nil {
				return err
			}
		}
		return r.Log.Decide(ctx, tx, decision)
	})
	return decision, err
}

// presumeAbort returns the decision to cancel: the deadline has passed, or the process that
// executed the transaction is gone.
func (r *Recovery) presumeAbort(record txlog.Record) txlog.Decision {
	decision := txlog.Decision{GID: record.GID, Epoch: record.Epoch, State: txlog.Cancelling,
		By: txlog.ByDeadline, Reason: "it was undecided at its deadline", Code: saga.CodeDeadline, Owner: r.Instance, Due: r.Lease}
	if record.Owner != "" && !record.Expired {
		decision.By, decision.Reason, decision.Code = txlog.ByRecovery, "the process that executed it was gone before the decision", saga.CodeGone
	}
	return decision
}
