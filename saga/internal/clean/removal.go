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
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// removal is what there is to remove of finished transactions.
type removal struct {
	gids      []string
	branches  map[string][]txlog.Branch
	here      remains
	elsewhere []remains
}

func (r *removal) add(b *txn.Branch, gid string) {
	if b.Resident {
		r.here.add(b, gid)
		return
	}
	i := slices.IndexFunc(r.elsewhere, func(other remains) bool { return other.db == b.Database })
	if i < 0 {
		i = len(r.elsewhere)
		r.elsewhere = append(r.elsewhere, remains{db: b.Database, kinds: map[*txn.Branch][]string{}})
	}
	r.elsewhere[i].add(b, gid)
}

// of returns the transactions that have a branch of a kind.
func (r *removal) of(b *txn.Branch) (gids []string) {
	for _, place := range append(r.elsewhere, r.here) {
		gids = append(gids, place.kinds[b]...)
	}
	return gids
}

// everywhere removes. If a kind of branch failed, it is returned.
func (r *removal) everywhere(ctx context.Context, c *Cleaner) (failed *txn.Branch, err error) {
	for _, place := range r.elsewhere {
		var young []string
		err := local.Run(ctx, place.db, func(tx *gorm.DB) (err error) {
			// The log has said that they are old, within the time of ctx. Rows of
			// calls that are under way would be of a new transaction.
			var old []string
			if old, young, err = barrierrows.LockOld(ctx, tx, place.gids, 2*c.CallTimeout); err != nil {
				return err
			}
			failed, err = place.only(old).remove(ctx, c.Calls, tx)
			return err
		})
		if err != nil {
			return failed, err
		}
		// As long as something of it is left there, the log names it.
		r.gids = slices.DeleteFunc(r.gids, func(gid string) bool { return slices.Contains(young, gid) })
	}
	if len(r.gids) == 0 {
		return nil, nil
	}
	return failed, local.Run(ctx, c.DB, func(tx *gorm.DB) error {
		// Another instance may have removed one meanwhile, and the gid may be in
		// use again.
		old, err := c.Log.LockOld(ctx, tx, c.Retention, r.gids)
		if err != nil {
			return err
		}
		gids := make([]string, len(old))
		for i, t := range old {
			gids[i] = t.GID
		}
		if err := c.Log.Remove(ctx, tx, gids); err != nil {
			return err
		}
		failed, err = r.here.only(gids).remove(ctx, c.Calls, tx)
		return err
	})
}

// remains are the rows of finished transactions in one database.
type remains struct {
	db    *gorm.DB
	gids  []string
	kinds map[*txn.Branch][]string // the gids by kind of branch
}

// add notes that gid has a branch here; it is called gid by gid.
func (r *remains) add(b *txn.Branch, gid string) {
	r.gids = appendNew(r.gids, gid)
	r.kinds[b] = appendNew(r.kinds[b], gid)
}

func appendNew(gids []string, gid string) []string {
	if len(gids) > 0 && gids[len(gids)-1] == gid {
		return gids
	}
	return append(gids, gid)
}

// only returns what remains of some of the transactions.
func (r *remains) only(gids []string) *remains {
	some := &remains{db: r.db, gids: gids, kinds: make(map[*txn.Branch][]string, len(r.kinds))}
	for b, of := range r.kinds {
		for _, gid := range of {
			if slices.Contains(gids, gid) {
				some.kinds[b] = append(some.kinds[b], gid)
			}
		}
	}
	return some
}

// remove removes. If a kind of branch failed, it is returned.
func (r *remains) remove(ctx context.Context, calls *call.Caller, tx *gorm.DB) (failed *txn.Branch, err error) {
	byKind := func(a, b *txn.Branch) int { return strings.Compare(a.Kind, b.Kind) }
	for _, b := range slices.SortedFunc(maps.Keys(r.kinds), byKind) {
		if b.Clean == nil {
			continue
		}
		if err := calls.Clean(ctx, tx, b, r.kinds[b]); err != nil {
			return b, err
		}
	}
	return nil, barrierrows.Remove(ctx, tx, r.gids...)
}
