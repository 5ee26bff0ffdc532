package clean

import (
	"context"
	"errors"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/inputs"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/result"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// Hosted removes old transactions from every database of a participant: their barrier rows
// and the data of their branches. A transaction is old in a database if all its branches
// there have been final for longer than age. The databases are those of the registry. It
// returns the number of removed transactions and the first failure.
func Hosted(ctx context.Context, registry *txn.Registry, calls *call.Caller, age time.Duration) (removed int, err error) {
	for _, in := range registry.Databases() {
		n, failed := database(in).clean(ctx, calls, age)
		removed += n
		if failed != nil && err == nil {
			err = failed
		}
	}
	return removed, err
}

// database is a database with the kinds of its branches.
type database txn.Database

func (d database) clean(ctx context.Context, c *call.Caller, age time.Duration) (removed int, err error) {
	var failed error
	for after := (barrierrows.Cursor{}); ; {
		var gids []string
		gids, after, err = barrierrows.Old(ctx, d.DB, after, age)
		if err != nil {
			return removed, err
		}
		for batch := range slices.Chunk(gids, page) {
			n, err := d.cleanBatch(ctx, c, batch, age)
			removed += n
			if err != nil && failed == nil {
				failed = err
			}
			if err != nil && (!errors.Is(err, call.ErrClean) || ctx.Err() != nil) {
				return removed, failed
			}
		}
		if after.Done() {
			return removed, failed
		}
	}
}

// cleanBatch removes the transactions of a batch. If the Clean of a kind of branch fails,
// the transactions with that kind stay.
func (d database) cleanBatch(ctx context.Context, c *call.Caller, batch []string, age time.Duration) (removed int, err error) {
	run := cleanRun{database: d, calls: c, age: age, failed: map[string]bool{}}
	for {
		n, again := run.remove(ctx, batch)
		if again == nil || !errors.Is(again, call.ErrClean) || ctx.Err() != nil {
			return n, errors.Join(err, again)
		}
		err = errors.Join(err, again)
	}
}

// cleanRun removes transactions of one database.
type cleanRun struct {
	database
	calls  *call.Caller
	age    time.Duration
	failed map[string]bool // kinds whose Clean has failed
}

// remove removes those transactions of a batch that are still old. It reads their barrier
// rows with a lock, because Old has read them without one, perhaps from a replica.
func (r *cleanRun) remove(ctx context.Context, batch []string) (removed int, err error) {
	log, err := txlog.New(r.DB)
	if err != nil {
		return 0, err
	}
	err = local.Run(ctx, r.DB, func(tx *gorm.DB) error {
		removed = 0 // of an earlier run
		gids, _, txErr := barrierrows.LockOld(ctx, tx, batch, r.age)
		if txErr != nil {
			return txErr
		}
		// After the lock: a transaction that uses one of these gids has committed its row
		// of the log, or it waits for the lock and finds no barrier row afterwards.
		inUse, txErr := log.InUse(ctx, tx, gids)
		if txErr != nil {
			return txErr
		}
		kinds, txErr := barrierrows.Kinds(ctx, tx, gids)
		if txErr != nil {
			return txErr
		}
		gids = slices.DeleteFunc(gids, func(gid string) bool { return inUse[gid] || r.hasFailed(kinds[gid]) })
		if len(gids) == 0 {
			return nil
		}
		if txErr = r.cleanKinds(ctx, tx, gids, kinds); txErr != nil {
			return txErr
		}
		removed = len(gids)
		if txErr = result.Remove(ctx, tx, gids...); txErr != nil {
			return txErr
		}
		if txErr = barrierrows.RemoveOld(ctx, tx, gids, r.age); txErr != nil {
			return txErr
		}
		return inputs.RemoveOrphans(ctx, tx, gids)
	})
	if err != nil {
		return 0, err
	}
	return removed, nil
}

// cleanKinds calls the Clean of each kind of branch with its own transactions.
func (r *cleanRun) cleanKinds(ctx context.Context, tx *gorm.DB, gids []string, kinds map[string][]string) error {
	for _, b := range r.Kinds {
		own := slices.DeleteFunc(slices.Clone(gids), func(gid string) bool { return !ofKind(kinds[gid], b.Kind) })
		if len(own) == 0 {
			continue
		}
		if err := r.calls.Clean(ctx, tx, b, own); err != nil {
			r.failed[b.Kind] = true
			return err
		}
	}
	return nil
}

// ofKind reports whether one of the rows of a transaction is of a kind. Rows of an early
// version have no kind and may be of any.
func ofKind(kinds []string, kind string) bool {
	return slices.Contains(kinds, kind) || slices.Contains(kinds, "")
}

func (r *cleanRun) hasFailed(kinds []string) bool {
	for kind := range r.failed {
		if ofKind(kinds, kind) {
			return true
		}
	}
	return false
}
