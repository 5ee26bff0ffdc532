// Package clean removes what is left of finished transactions after their retention: in the
// engine's databases, which its log names, and in those of a participant, which has only
// barrier rows.
package clean

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/saga/internal/warn"
)

// Forever is a retention that removes nothing.
const Forever = time.Duration(math.MaxInt64)

// Parts are what a [Cleaner] works with.
type Parts struct {
	DB       *gorm.DB // of the log
	Log      *txlog.Log
	Registry *txn.Registry
	Calls    *call.Caller
	Logger   *slog.Logger
	Warn     *warn.Logger
	Stopping <-chan struct{} // closed when nothing new is begun any more

	Retention, CallTimeout time.Duration
	MinRest                time.Duration // after a round through the whole log
}

// Cleaner removes the finished transactions of a log. It is safe for concurrent use.
type Cleaner struct{ Parts }

// New returns a Cleaner.
func New(parts Parts) *Cleaner { return &Cleaner{parts} }

const (
	// page is how many transactions a batch of cleaning looks at, and so
	// the most that it deletes in one local transaction.
	page = 500

	// idleShare and busyShare keep cleaning to a share of one connection's
	// time: the pause after a batch is this many times what the batch took,
	// the one where nothing had to be removed and the other where all had, so
	// that it looks around at ease and keeps up with a busy log.
	idleShare, busyShare = 20, 2

	// longestRest is the longest rest after a round through the whole log. With
	// a short retention it is a tenth of that.
	longestRest = time.Hour

	// hold is for how long a batch is reserved; if its instance dies,
	// another one goes on then.
	hold = time.Minute
)

// Run removes what is finished and older than the retention, a batch at a
// time, until ctx ends. Instances take turns.
func (c *Cleaner) Run(ctx context.Context) {
	if c.Retention == Forever {
		return
	}
	for {
		pause := c.cleanBatch(ctx)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-c.Stopping:
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// cleanBatch cleans one batch, if it is this instance's turn, and returns for
// how long to pause.
func (c *Cleaner) cleanBatch(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, hold)
	defer cancel()
	rest := max(min(longestRest, c.Retention/10), c.MinRest)
	taken, err := c.Log.TakeCleaning(ctx, hold)
	if err != nil {
		c.Warn.Warn(ctx, "saga: cleaning", err)
	}
	if !taken {
		return min(rest, hold)
	}
	began := time.Now()
	aged, last, err := c.Log.Aged(ctx, page, c.Retention)
	if err != nil {
		c.Warn.Warn(ctx, "saga: cleaning, which will be repeated", err)
		return hold
	}
	// What could not be removed is looked at again in the next round.
	if err := c.Remove(ctx, aged); err != nil {
		c.Warn.Warn(ctx, "saga: some finished transactions could not be removed", err)
	}
	share := idleShare - (idleShare-busyShare)*len(aged)/page
	pause := max(time.Duration(share)*time.Since(began), time.Millisecond)
	if last == "" {
		pause = rest
	}
	if err := c.Log.AdvanceCleaning(ctx, last, pause); err != nil {
		c.Warn.Warn(ctx, "saga: cleaning", err)
		return hold
	}
	return pause
}

// Remove deletes finished transactions: first what is in other databases, so
// that whatever happens in between, the log still names it; then the rest and
// the log's rows in one local transaction. Transactions with a kind of branch whose
// Clean fails stay, and hold up no others.
func (c *Cleaner) Remove(ctx context.Context, gids []string) error {
	var all error
	for len(gids) > 0 {
		left, err := c.removal(ctx, gids)
		if err != nil {
			return errors.Join(all, err)
		}
		failed, err := left.everywhere(ctx, c)
		if err == nil {
			return all
		}
		if failed == nil {
			return errors.Join(all, err)
		}
		all = errors.Join(all, err)
		gids = slices.DeleteFunc(left.gids, func(gid string) bool { return slices.Contains(left.of(failed), gid) })
	}
	return all
}

// removal reads what there is to remove of transactions, in the database that
// takes writes.
func (c *Cleaner) removal(ctx context.Context, gids []string) (*removal, error) {
	r := &removal{here: remains{db: c.DB, kinds: map[*txn.Branch][]string{}}}
	err := local.Run(ctx, c.DB, func(tx *gorm.DB) error {
		old, err := c.Log.LockOld(ctx, tx, c.Retention, gids)
		if err != nil || len(old) == 0 {
			return err
		}
		r.gids = nil
		for _, t := range old {
			r.gids = append(r.gids, t.GID)
		}
		branches, err := c.Log.LockedBranches(ctx, tx, r.gids...)
		if err != nil {
			return err
		}
		r.gids = nil
		for _, t := range old {
			if c.canRemove(t, branches[t.GID]) {
				r.gids = append(r.gids, t.GID)
			}
		}
		r.branches = branches
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, gid := range r.gids {
		for _, b := range r.branches[gid] {
			if known, err := c.Registry.Branch(b.Kind); err == nil && known.Remote == nil { // a service cleans by itself
				r.add(known, gid)
			}
		}
	}
	r.here.gids = r.gids // also those without a resident branch
	return r, nil
}

// canRemove says whether the kinds of all branches are registered here; if not,
// an instance that knows them removes the transaction. After twice the retention
// there is none: the kind is retired.
func (c *Cleaner) canRemove(t txlog.Old, branches []txlog.Branch) bool {
	for _, b := range branches {
		if c.Registry.Knows(b.Kind) {
			continue
		}
		if t.Finished < 2*c.Retention {
			return false
		}
		c.Logger.Info("saga: a finished transaction is removed without what its branch keeps elsewhere: nobody knows the kind of branch any more",
			slog.String("gid", t.GID), slog.String("branch", b.ID), slog.String("kind", b.Kind))
	}
	return true
}
