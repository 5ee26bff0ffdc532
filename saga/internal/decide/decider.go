// Package decide runs the first phase of a transaction: its Trys and its decision, alone or
// in a batch.
package decide

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/batch"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/commit"
	"github.com/tccsaga/tccsaga/saga/internal/follow"
	"github.com/tccsaga/tccsaga/saga/internal/lifetime"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/observe"
	"github.com/tccsaga/tccsaga/saga/internal/pause"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/saga/internal/warn"
)

// Parts are what a [Decider] works with.
type Parts struct {
	DB       *gorm.DB // of the log
	Log      *txlog.Log
	Reader   *follow.Reader
	Calls    *call.Caller
	Shared   *call.Shared
	Commits  *commit.Writer
	Life     *lifetime.Lifetime
	Warn     *warn.Logger
	Paused   *pause.Kinds
	Logger   *slog.Logger
	Instance string
	Lease    time.Duration

	MinBackoff, MaxBackoff time.Duration // of the Trys of a transaction with forward recovery, and of questions

	AttentionAttempts int
	AttentionAge      time.Duration
	Alarm             func(*txn.Txn) // is called when a transaction was raised to attention

	Observe *observe.Notifier
}

// Decider decides transactions, each alone or in a batch. It is safe for concurrent use.
type Decider struct {
	Parts
	batches *batch.Groups[*item] // by the kinds of branches
}

// New returns a Decider.
func New(parts Parts) *Decider {
	d := &Decider{Parts: parts}
	d.batches = batch.New(parts.Shared.MaxBatch(), parts.Shared.Workers(), d.decideBatch)
	return d
}

// Decision is the result of the first phase.
type Decision struct {
	saga.Outcome
	Cause error // why it is cancelled, or why the decision is not known
	Taken bool  // another instance drives the transaction
}

// LocalWork is work of the user in the local transaction that decides; nil for none.
type LocalWork func(ctx context.Context, tx *gorm.DB) error

// Decide runs the first phase of a plan: it tries the branches and decides. If the gid is in
// use, the Cause wraps [txlog.ErrExists].
func (d *Decider) Decide(ctx context.Context, t *txn.Txn, start txlog.Start, work LocalWork) Decision {
	if t.TryAttempts != 0 {
		// It continues without its caller.
		var cancel context.CancelFunc
		ctx, cancel = d.Life.Detach(ctx)
		defer cancel()
	}
	e := &execution{d: d, txn: t, start: start, work: work}
	cause := e.decide(ctx)
	e.tell(ctx)
	return Decision{Outcome: e.outcome(), Cause: cause, Taken: e.taken}
}

// DecideIn writes a plan of resident branches as decided in the local transaction tx of the
// user, tries its branches there, and confirms those whose Confirm is in the same commit. It
// returns the state that the transaction has if the user commits. If Confirms are left, it is
// due after due. Tx is a handle of [local.Guard].
func (d *Decider) DecideIn(ctx context.Context, tx *gorm.DB, t *txn.Txn, start txlog.Start, due time.Duration) (saga.State, error) {
	start = startConfirmed(start, t, due)
	if err := d.Log.Insert(ctx, tx, start); err != nil {
		return "", err
	}
	tried, confirmed := requestsOf(t, t.Before(), true)
	err := barrierrows.TryBatch(ctx, tx, tried, confirmed)
	if errors.Is(err, barrierrows.ErrNotAll) {
		return "", txn.Invalid("the barrier has rows of an earlier transaction with this gid; take a new gid")
	}
	if err != nil {
		return "", err
	}
	for _, op := range []barrier.Op{barrier.Try, barrier.Confirm} {
		for i, s := range t.Before() {
			if op == barrier.Confirm && !s.EndsWithDecision() {
				continue
			}
			called := t.Call(s, op)
			if op == barrier.Try && s.Branch.Action {
				called.Result = &s.Result
			}
			calling, observed := d.Observe.Call(ctx, called, false)
			err := d.Calls.WorkInLog(calling, tx, s.Branch, called)
			d.ended(observed, s.Branch, op, barrier.Run, err)
			if err != nil {
				return "", &txn.BranchError{Index: i, ID: s.ID, Kind: s.Kind, Err: err}
			}
		}
	}
	return saga.State(start.State), local.Intact(ctx, tx)
}

// TryAll tries steps in order, in the local transaction tx.
func (d *Decider) TryAll(ctx context.Context, tx *gorm.DB, t *txn.Txn, steps []*txn.Step) error {
	forget(steps) // of an earlier run
	for i, s := range steps {
		try := t.Call(s, barrier.Try)
		if s.Branch.Action {
			try.Result = &s.Result
		}
		calling, observed := d.Observe.Call(ctx, try, false)
		verdict, err := d.Calls.CallInLog(calling, tx, s.Branch, try)
		d.ended(observed, s.Branch, barrier.Try, verdict, err)
		if err != nil {
			forget(steps)
			return &txn.BranchError{Index: i, ID: s.ID, Kind: s.Kind, Err: err}
		}
	}
	return nil
}

// forget removes the results of steps whose Trys are rolled back.
func forget(steps []*txn.Step) {
	for _, s := range steps {
		s.Result = nil
	}
}

// MakeCancelDue makes a transaction that is being cancelled due now, because a Try has ended
// and its Cancel may have waited for that.
func (d *Decider) MakeCancelDue(ctx context.Context, gid string) {
	ctx, cancel := d.Life.DetachCall(ctx)
	defer cancel()
	if err := d.Log.MakeCancelDue(ctx, gid); err != nil {
		d.Warn.Warn(ctx, "saga: making a cancel due failed; it waits for its next attempt", err, slog.String("gid", gid))
	}
}

// Gather delays the next batch of a key, as [call.Shared.Key] returns it, until it has n
// members. Tests use it.
func (d *Decider) Gather(key string, n int) { d.batches.Gather(key, n) }

// Waiting returns how many members wait for a batch of a key. Tests use it.
func (d *Decider) Waiting(key string) int { return d.batches.Waiting(key) }
