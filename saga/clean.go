package saga

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

const (
	// cleanPage is how many transactions a batch of cleaning looks at, and so
	// the most that it deletes in one local transaction.
	cleanPage = 500

	// idleShare and busyShare keep cleaning to a share of one connection's
	// time: the pause after a batch is this many times what the batch took,
	// the one where nothing had to be removed and the other where all had, so
	// that it looks around at ease and keeps up with a busy log.
	idleShare, busyShare = 20, 2

	// cleanRest is the longest rest after a round through the whole log. With
	// a short retention it is a tenth of that.
	cleanRest = time.Hour

	// cleanHold is for how long a batch is reserved; if its instance dies,
	// another one goes on then.
	cleanHold = time.Minute
)

// cleaning removes what is finished and older than the retention, a batch at a
// time, until ctx ends. Instances take turns.
func (o *Orchestrator) cleaning(ctx context.Context) {
	if o.config.Retention == Forever {
		return
	}
	for {
		pause := o.cleanBatch(ctx)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-o.stopping:
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// cleanBatch cleans one batch, if it is this instance's turn, and returns for
// how long to pause.
func (o *Orchestrator) cleanBatch(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, cleanHold)
	defer cancel()
	rest := max(min(cleanRest, o.config.Retention/10), o.config.Poll)
	taken, err := o.log.TakeCleaning(ctx, cleanHold)
	if err != nil {
		o.warn(ctx, "saga: cleaning", err)
	}
	if !taken {
		return min(rest, cleanHold)
	}
	began := time.Now()
	aged, last, err := o.log.Aged(ctx, cleanPage, o.config.Retention)
	if err != nil {
		o.warn(ctx, "saga: cleaning, which will be repeated", err)
		return cleanHold
	}
	// What could not be removed is looked at again in the next round.
	if err := o.remove(ctx, aged); err != nil {
		o.warn(ctx, "saga: some finished transactions could not be removed", err)
	}
	share := idleShare - (idleShare-busyShare)*len(aged)/cleanPage
	pause := max(time.Duration(share)*time.Since(began), time.Millisecond)
	if last == "" {
		pause = rest
	}
	if err := o.log.AdvanceCleaning(ctx, last, pause); err != nil {
		o.warn(ctx, "saga: cleaning", err)
		return cleanHold
	}
	return pause
}

// remove deletes finished transactions: first what is in other databases, so
// that whatever happens in between, the log still names it; then the rest and
// the log's rows in one local transaction. Transactions with a kind of branch whose
// Clean fails stay, and hold up no others.
func (o *Orchestrator) remove(ctx context.Context, gids []string) error {
	var all error
	for len(gids) > 0 {
		left, err := o.removal(ctx, gids)
		if err != nil {
			return errors.Join(all, err)
		}
		failed, err := left.everywhere(ctx, o)
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
func (o *Orchestrator) removal(ctx context.Context, gids []string) (*removal, error) {
	r := &removal{here: remains{db: o.db, kinds: map[*branch][]string{}}}
	err := local.Run(ctx, o.db, func(tx *gorm.DB) error {
		old, err := o.log.LockOld(ctx, tx, o.config.Retention, gids)
		if err != nil || len(old) == 0 {
			return err
		}
		r.gids = nil
		for _, t := range old {
			r.gids = append(r.gids, t.GID)
		}
		branches, err := o.log.LockedBranches(ctx, tx, r.gids...)
		if err != nil {
			return err
		}
		r.gids = nil
		for _, t := range old {
			if o.canRemove(t, branches[t.GID]) {
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
			if known, err := o.branch(b.Kind); err == nil && known.Remote == nil { // a service cleans by itself
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
func (o *Orchestrator) canRemove(t txlog.Old, branches []txlog.Branch) bool {
	for _, b := range branches {
		if o.knows(b.Kind) {
			continue
		}
		if t.Finished < 2*o.config.Retention {
			return false
		}
		o.config.Logger.Info("saga: a finished transaction is removed without what its branch keeps elsewhere: nobody knows the kind of branch any more",
			slog.String("gid", t.GID), slog.String("branch", b.ID), slog.String("kind", b.Kind))
	}
	return true
}

// removal is what there is to remove of finished transactions.
type removal struct {
	gids      []string
	branches  map[string][]txlog.Branch
	here      remains
	elsewhere []remains
}

func (r *removal) add(b *branch, gid string) {
	if b.resident {
		r.here.add(b, gid)
		return
	}
	i := slices.IndexFunc(r.elsewhere, func(other remains) bool { return other.db == b.Database })
	if i < 0 {
		i = len(r.elsewhere)
		r.elsewhere = append(r.elsewhere, remains{db: b.Database, kinds: map[*branch][]string{}})
	}
	r.elsewhere[i].add(b, gid)
}

// of returns the transactions that have a branch of a kind.
func (r *removal) of(b *branch) (gids []string) {
	for _, place := range append(r.elsewhere, r.here) {
		gids = append(gids, place.kinds[b]...)
	}
	return gids
}

// everywhere removes. If a kind of branch failed, it is returned.
func (r *removal) everywhere(ctx context.Context, o *Orchestrator) (failed *branch, err error) {
	for _, place := range r.elsewhere {
		var young []string
		err := local.Run(ctx, place.db, func(tx *gorm.DB) (err error) {
			// The log has said that they are old, within the time of ctx. Rows of
			// calls that are under way would be of a new transaction.
			var old []string
			if old, young, err = barrierrows.LockOld(ctx, tx, place.gids, 2*o.config.CallTimeout); err != nil {
				return err
			}
			failed, err = place.only(old).remove(ctx, o.caller, tx)
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
	return failed, local.Run(ctx, o.db, func(tx *gorm.DB) error {
		// Another instance may have removed one meanwhile, and the gid may be in
		// use again.
		old, err := o.log.LockOld(ctx, tx, o.config.Retention, r.gids)
		if err != nil {
			return err
		}
		gids := make([]string, len(old))
		for i, t := range old {
			gids[i] = t.GID
		}
		if err := o.log.Remove(ctx, tx, gids); err != nil {
			return err
		}
		failed, err = r.here.only(gids).remove(ctx, o.caller, tx)
		return err
	})
}

// remains are the rows of finished transactions in one database.
type remains struct {
	db    *gorm.DB
	gids  []string
	kinds map[*branch][]string // the gids by kind of branch
}

// add notes that gid has a branch here; it is called gid by gid.
func (r *remains) add(b *branch, gid string) {
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
	some := &remains{db: r.db, gids: gids, kinds: make(map[*branch][]string, len(r.kinds))}
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
func (r *remains) remove(ctx context.Context, c caller, tx *gorm.DB) (failed *branch, err error) {
	byKind := func(a, b *branch) int { return strings.Compare(a.Kind, b.Kind) }
	for _, b := range slices.SortedFunc(maps.Keys(r.kinds), byKind) {
		if b.Clean == nil {
			continue
		}
		if err := c.cleanKind(ctx, tx, b, r.kinds[b]); err != nil {
			return b, err
		}
	}
	return nil, barrierrows.Remove(ctx, tx, r.gids...)
}

// errKindClean is of a branch whose own Clean failed.
var errKindClean = errors.New("the branch failed to clean")

// errCleaning says that a Clean is still at work that was given up.
var errCleaning = errors.New("its Clean of before has not returned")

// opClean names a Clean in errors.
const opClean barrier.Op = "clean"

// cleanKind calls the Clean of a kind of branch, bounded in time. While one that was
// given up has not returned, it is not called again.
func (c caller) cleanKind(ctx context.Context, tx *gorm.DB, b *branch, gids []string) error {
	if b.Clean == nil {
		return nil
	}
	if !b.cleaning.CompareAndSwap(false, true) {
		return fmt.Errorf("%w: %s: %w", errKindClean, b.Kind, errCleaning)
	}
	gids = slices.Clone(gids)
	err := c.bounded(ctx, Call{Kind: b.Kind, Op: opClean}, func(ctx context.Context) error {
		return b.Clean(ctx, local.Guest(ctx, b.Database, tx), gids)
	}, func() { b.cleaning.Store(false) })
	if !errors.Is(err, errAbandoned) {
		b.cleaning.Store(false)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", errKindClean, b.Kind, err)
	}
	return nil
}
