// Package drive runs the second phase of a transaction: it calls the Confirms or Cancels of
// the branches, until all have succeeded. One pass over the branches is a round.
package drive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/batch"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/commit"
	"github.com/tccsaga/tccsaga/saga/internal/follow"
	"github.com/tccsaga/tccsaga/saga/internal/inflight"
	"github.com/tccsaga/tccsaga/saga/internal/lifetime"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/observe"
	"github.com/tccsaga/tccsaga/saga/internal/pause"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// Parts are what a [Driver] works with.
type Parts struct {
	DB       *gorm.DB // of the log
	Log      *txlog.Log
	LogID    string
	Reader   *follow.Reader
	Calls    *call.Caller
	Shared   *call.Shared
	Commits  *commit.Writer
	Life     *lifetime.Lifetime
	Paused   *pause.Kinds
	InFlight *inflight.Registry
	Logger   *slog.Logger
	Instance string

	CallTimeout            time.Duration
	MinBackoff, MaxBackoff time.Duration
	AttentionAttempts      int
	AttentionAge           time.Duration

	// Again is told of each released transaction that is due again after Next. Postponed says
	// that recovery has postponed it while it was in flight.
	Again func(t *txn.Txn, postponed bool)
	Alarm func(*txn.Txn) // is called when a transaction was raised to attention

	Observe *observe.Notifier
}

// Driver drives decided transactions. It is safe for concurrent use.
type Driver struct {
	Parts
	effects  *batch.Groups[*effectItem] // by the kind of branch and the operation
	finishes *batch.Groups[*finishItem] // by the kinds of branches and the epoch
}

// New returns a Driver.
func New(parts Parts) *Driver {
	d := &Driver{Parts: parts}
	d.finishes = batch.New(parts.Shared.MaxBatch(), parts.Shared.Workers(), d.finishBatch)
	d.effects = batch.New(parts.Shared.MaxBatch(), parts.Shared.Workers(), d.runEffectBatch)
	return d
}

// Drive runs one round of a transaction, releases its entry, and schedules the next round.
// The entry is released first, because recovery postpones transactions in flight.
func (d *Driver) Drive(ctx context.Context, t *txn.Txn, entry *inflight.Entry) saga.State {
	return d.drive(ctx, t, entry, nil)
}

// DriveFor is Drive for a caller who waits. Ended is called when every branch has ended, and the
// end of the transaction is about to be written in a commit of its own. Whatever becomes of that
// commit, the transaction has no other end: another driver would find that every call is a
// duplicate.
func (d *Driver) DriveFor(ctx context.Context, t *txn.Txn, entry *inflight.Entry, ended func(saga.State)) saga.State {
	return d.drive(ctx, t, entry, func(state saga.State) {
		d.InFlight.Ending(entry)
		ended(state)
	})
}

func (d *Driver) drive(ctx context.Context, t *txn.Txn, entry *inflight.Entry, ended func(saga.State)) saga.State {
	state := d.runRound(ctx, t, ended)
	postponed := d.InFlight.Release(entry)
	if t.Next > 0 {
		d.Again(t, postponed)
	}
	return state
}

// runRound calls the Confirm or Cancel of every due branch once, all in parallel. It writes
// the result: the end of the transaction, or the failed attempts and the next due time. It
// returns the state of the transaction after the round.
func (d *Driver) runRound(ctx context.Context, t *txn.Txn, ended func(saga.State)) saga.State {
	r := &round{d: d, txn: t, end: saga.Confirmed, ended: ended}
	if t.State == saga.Cancelling {
		r.end = saga.Cancelled
	}
	// Each call and each commit has a limit. The whole round has one too, because a
	// connection may never answer.
	ctx, cancel := context.WithTimeout(ctx, time.Duration(2*len(t.Steps)+4)*d.CallTimeout)
	defer cancel()
	err := r.run(ctx)
	if ctx.Err() != nil && !r.finished {
		return t.State // interrupted; the log has all that another driver needs
	}
	if !r.finished && !errors.Is(err, txlog.ErrStale) {
		err = errors.Join(err, r.conclude(ctx))
	}
	switch {
	case r.finished:
		d.Observe.Finished(ctx, t.Subject(), r.end, t.Begun)
		return r.end
	case errors.Is(err, txlog.ErrStale) || errors.Is(err, local.ErrCommitUnknown):
		if record, readErr := d.Reader.Locked(ctx, t.GID); readErr == nil {
			if state := saga.State(record.State); errors.Is(err, local.ErrCommitUnknown) && state.Finished() && record.Epoch == t.Epoch {
				d.Observe.Finished(ctx, t.Subject(), state, t.Begun)
			}
			return saga.State(record.State)
		}
	case err != nil:
		d.Logger.Error("saga: writing the result of a round of calls failed; the transaction is due again when the lease ends",
			slog.String("gid", t.GID), slog.Any("error", err))
	}
	return t.State
}

// GatherFinishes delays the next finish batch of a key, for transactions of epoch 1, until
// it has n members. Tests use it.
func (d *Driver) GatherFinishes(key string, n int) { d.finishes.Gather(fmt.Sprint(1, " ", key), n) }

// GatherEffects delays the next batch of the Confirm effects of a kind until it has n
// members. Tests use it.
func (d *Driver) GatherEffects(kind string, n int) {
	d.effects.Gather(kind+" "+string(barrier.Confirm), n)
}
