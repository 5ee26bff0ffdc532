package clean

import (
	"context"
	"maps"
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/result"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// removal holds the rows of finished transactions that are to be removed.
type removal struct {
	gids   []string
	own    rows // in the log's database
	others []rows
}

func (r *removal) add(b *txn.Branch, gid string) {
	if b.Resident {
		r.own.add(b, gid)
		return
	}
	i := slices.IndexFunc(r.others, func(other rows) bool { return other.db == b.Database })
	if i < 0 {
		i = len(r.others)
		r.others = append(r.others, rows{db: b.Database, kinds: map[*txn.Branch][]string{}})
	}
	r.others[i].add(b, gid)
}

// withKind returns the transactions that have a branch of a kind.
func (r *removal) withKind(b *txn.Branch) (gids []string) {
	for _, in := range append(r.others, r.own) {
		gids = append(gids, in.kinds[b]...)
	}
	return gids
}

// run removes the rows: in the other databases first, then in the log's own. If the Clean
// of a kind of branch fails, it returns that kind.
func (r *removal) run(ctx context.Context, c *Cleaner) (failed *txn.Branch, err error) {
	for _, other := range r.others {
		recent, failedThere, removeErr := other.removeOld(ctx, c)
		if removeErr != nil {
			return failedThere, removeErr
		}
		// The log names a transaction as long as it has rows in another database.
		r.gids = slices.DeleteFunc(r.gids, func(gid string) bool { return slices.Contains(recent, gid) })
	}
	if len(r.gids) == 0 {
		return nil, nil
	}
	err = local.Run(ctx, c.DB, func(tx *gorm.DB) error {
		// Again with a lock: another instance may have removed a transaction meanwhile,
		// and its gid may be in use again.
		old, txErr := c.Log.LockOld(ctx, tx, c.Retention, r.gids)
		if txErr != nil {
			return txErr
		}
		gids := gidsOf(old)
		if txErr = c.Log.Remove(ctx, tx, gids); txErr != nil {
			return txErr
		}
		failed, txErr = r.own.only(gids).remove(ctx, c.Calls, tx)
		return txErr
	})
	return failed, err
}

// rows are the rows of finished transactions in one database.
type rows struct {
	db    *gorm.DB
	gids  []string
	kinds map[*txn.Branch][]string // the gids by kind of branch
}

// add records that gid has a branch in this database. It is called gid by gid.
func (r *rows) add(b *txn.Branch, gid string) {
	r.gids = appendNew(r.gids, gid)
	r.kinds[b] = appendNew(r.kinds[b], gid)
}

func appendNew(gids []string, gid string) []string {
	if len(gids) > 0 && gids[len(gids)-1] == gid {
		return gids
	}
	return append(gids, gid)
}

// only returns the rows of some of the transactions.
func (r *rows) only(gids []string) *rows {
	some := &rows{db: r.db, gids: gids, kinds: make(map[*txn.Branch][]string, len(r.kinds))}
	for b, of := range r.kinds {
		for _, gid := range of {
			if slices.Contains(gids, gid) {
				some.kinds[b] = append(some.kinds[b], gid)
			}
		}
	}
	return some
}

// removeOld removes the rows in a database that is not the log's. It returns the
// transactions whose barrier rows there are too recent.
func (r *rows) removeOld(ctx context.Context, c *Cleaner) (recent []string, failed *txn.Branch, err error) {
	err = local.Run(ctx, r.db, func(tx *gorm.DB) (err error) {
		// By the log, all of them were old before ctx began. A recent barrier row belongs
		// to a new transaction with the same gid.
		var old []string
		if old, recent, err = barrierrows.LockOld(ctx, tx, r.gids, 2*c.CallTimeout); err != nil {
			return err
		}
		failed, err = r.only(old).remove(ctx, c.Calls, tx)
		return err
	})
	return recent, failed, err
}

// remove removes the rows, in the local transaction tx. If the Clean of a kind of branch
// fails, it returns that kind.
func (r *rows) remove(ctx context.Context, calls *call.Caller, tx *gorm.DB) (failed *txn.Branch, err error) {
	byKind := func(a, b *txn.Branch) int { return strings.Compare(a.Kind, b.Kind) }
	for _, b := range slices.SortedFunc(maps.Keys(r.kinds), byKind) {
		if b.Clean == nil {
			continue
		}
		if err := calls.Clean(ctx, tx, b, r.kinds[b]); err != nil {
			return b, err
		}
	}
	if err := result.Remove(ctx, tx, r.gids...); err != nil {
		return nil, err
	}
	return nil, barrierrows.Remove(ctx, tx, r.gids...)
}
