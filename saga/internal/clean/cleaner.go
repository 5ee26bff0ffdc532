// Package clean removes finished transactions after their retention. An engine removes them
// from its log, with their barrier rows and the data of their branches in every database. A
// participant has no log and removes barrier rows and the data of branches.
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
	Stopping <-chan struct{} // closed when the engine begins to stop

	Retention, CallTimeout time.Duration
	MinRest                time.Duration // between two passes through the whole log
}

// Cleaner removes the finished transactions of a log. It is safe for concurrent use.
type Cleaner struct{ Parts }

// New returns a Cleaner.
func New(parts Parts) *Cleaner { return &Cleaner{parts} }

const (
	// page is how many transactions a batch of cleaning reads, and the most that it
	// deletes in one local transaction.
	page = 500

	// idleFactor and busyFactor limit cleaning to a part of one connection's time: the
	// pause after a batch is the time of the batch times idleFactor if it removed
	// nothing, times busyFactor if it removed all, and in between otherwise. So cleaning
	// is slow in a log with nothing to remove, and fast enough in a busy one.
	idleFactor, busyFactor = 20, 2

	// maxRest is the longest rest between two passes through the whole log. With a short
	// retention it is a tenth of that.
	maxRest = time.Hour

	// unstarted is how long the list of a bulk action stays that nobody starts.
	unstarted = 24 * time.Hour

	// turn is how long an instance reserves a batch. If it dies, another instance takes
	// the next batch after that time.
	turn = time.Minute
)

// Run removes finished transactions that are older than the retention, batch by batch, until
// ctx ends. Instances take turns.
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

// cleanBatch cleans one batch, if it is this instance's turn. It returns the pause before
// the next batch.
func (c *Cleaner) cleanBatch(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, turn)
	defer cancel()
	rest := max(min(maxRest, c.Retention/10), c.MinRest)
	taken, err := c.Log.TakeCleaning(ctx, turn)
	if err != nil {
		c.Warn.Warn(ctx, "saga: cleaning failed, and will be repeated", err)
	}
	if !taken {
		return min(rest, turn)
	}
	began := time.Now()
	aged, last, err := c.Log.Aged(ctx, page, c.Retention)
	if err != nil {
		c.Warn.Warn(ctx, "saga: cleaning failed, and will be repeated", err)
		return turn
	}
	// A transaction that could not be removed is read again in the next pass.
	if err := c.Remove(ctx, aged); err != nil {
		c.Warn.Warn(ctx, "saga: some finished transactions could not be removed", err)
	}
	factor := idleFactor - (idleFactor-busyFactor)*len(aged)/page
	pause := max(time.Duration(factor)*time.Since(began), time.Millisecond)
	if last == "" {
		pause = rest
		if err := c.Log.RemoveBulks(ctx, unstarted, c.Retention); err != nil {
			c.Warn.Warn(ctx, "saga: some old bulk actions could not be removed", err)
		}
	}
	if err := c.Log.AdvanceCleaning(ctx, last, pause); err != nil {
		c.Warn.Warn(ctx, "saga: cleaning failed, and will be repeated", err)
		return turn
	}
	return pause
}

// Remove deletes finished transactions: first the rows in other databases, which the log
// still names if the process dies in between, and then the rows in the log's database, in
// one local transaction. If the Clean of a kind of branch fails, the transactions with that
// kind stay, and the others are removed.
func (c *Cleaner) Remove(ctx context.Context, gids []string) error {
	var all error
	for len(gids) > 0 {
		r, err := c.removal(ctx, gids)
		if err != nil {
			return errors.Join(all, err)
		}
		failed, err := r.run(ctx, c)
		if err == nil {
			return all
		}
		if failed == nil {
			return errors.Join(all, err)
		}
		all = errors.Join(all, err)
		gids = slices.DeleteFunc(r.gids, func(gid string) bool { return slices.Contains(r.withKind(failed), gid) })
	}
	return all
}

// removal reads which rows the transactions have, in the database that takes writes.
func (c *Cleaner) removal(ctx context.Context, gids []string) (*removal, error) {
	r := &removal{own: rows{db: c.DB, kinds: map[*txn.Branch][]string{}}}
	var branches map[string][]txlog.Branch
	err := local.Run(ctx, c.DB, func(tx *gorm.DB) (err error) {
		r.gids, branches, err = c.removable(ctx, tx, gids)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, gid := range r.gids {
		for _, b := range branches[gid] {
			if known, err := c.Registry.Branch(b.Kind); err == nil && known.Database != nil { // another service cleans by itself
				r.add(known, gid)
			}
		}
	}
	r.own.gids = r.gids // also those without a resident branch
	return r, nil
}

// removable locks those of the transactions that may be removed, and reads their branches.
func (c *Cleaner) removable(ctx context.Context, tx *gorm.DB, gids []string) (removable []string, branches map[string][]txlog.Branch, err error) {
	old, err := c.Log.LockOld(ctx, tx, c.Retention, gids)
	if err != nil || len(old) == 0 {
		return nil, nil, err
	}
	branches, err = c.Log.LockedBranches(ctx, tx, gidsOf(old)...)
	if err != nil {
		return nil, nil, err
	}
	for _, t := range old {
		if c.canRemove(t, branches[t.GID]) {
			removable = append(removable, t.GID)
		}
	}
	return removable, branches, nil
}

func gidsOf(old []txlog.Old) []string {
	gids := make([]string, len(old))
	for i, t := range old {
		gids[i] = t.GID
	}
	return gids
}

// canRemove reports whether this instance may remove a transaction. It may if the kinds of
// all branches are registered here; otherwise an instance that knows them removes it. If it
// is still there after twice the retention, there is no such instance, because the kind is
// retired.
func (c *Cleaner) canRemove(t txlog.Old, branches []txlog.Branch) bool {
	for _, b := range branches {
		if c.Registry.Knows(b.Kind) {
			continue
		}
		if t.Finished < 2*c.Retention {
			return false
		}
		c.Logger.Info("saga: a finished transaction is removed, but not the data of its branch: no instance knows the kind of branch",
			slog.String("gid", t.GID), slog.String("branch", b.ID), slog.String("kind", b.Kind))
	}
	return true
}
