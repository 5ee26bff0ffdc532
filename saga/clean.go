package saga

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
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
	if err == nil {
		err = o.remove(ctx, aged)
	}
	if err != nil {
		o.warn(ctx, "saga: cleaning, which will be repeated", err)
		return cleanHold
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
// the log's rows in one local transaction.
func (o *Orchestrator) remove(ctx context.Context, gids []string) error {
	branches, err := o.log.Branches(ctx, gids...)
	if err != nil {
		return err
	}
	here := remains{db: o.db, kinds: map[*branch][]string{}}
	var elsewhere []remains
	gids = slices.DeleteFunc(gids, func(gid string) bool { return !o.knowsAll(branches[gid]) })
	for _, gid := range gids {
		for _, b := range branches[gid] {
			known, _ := o.branch(b.Kind)
			if known.Remote != nil {
				continue // its service cleans there
			}
			if known.resident {
				here.add(known, gid)
				continue
			}
			i := slices.IndexFunc(elsewhere, func(r remains) bool { return r.db == known.Database })
			if i < 0 {
				i = len(elsewhere)
				elsewhere = append(elsewhere, remains{db: known.Database, kinds: map[*branch][]string{}})
			}
			elsewhere[i].add(known, gid)
		}
	}
	for _, r := range elsewhere {
		if err := local.Run(ctx, r.db, func(tx *gorm.DB) error { return r.remove(ctx, tx) }); err != nil {
			return err
		}
	}
	if len(gids) == 0 {
		return nil
	}
	here.gids = gids // also those without a resident branch
	return local.Run(ctx, o.db, func(tx *gorm.DB) error {
		if err := o.log.Remove(ctx, tx, gids); err != nil {
			return err
		}
		return here.remove(ctx, tx)
	})
}

// knowsAll says whether all the kinds are registered here; if not, an instance
// that knows them cleans.
func (o *Orchestrator) knowsAll(branches []txlog.Branch) bool {
	for _, b := range branches {
		if _, err := o.branch(b.Kind); err != nil {
			o.config.Logger.Debug("saga: not cleaned here", slog.String("gid", b.GID), slog.Any("error", err))
			return false
		}
	}
	return true
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

func (r *remains) remove(ctx context.Context, tx *gorm.DB) error {
	byKind := func(a, b *branch) int { return strings.Compare(a.Kind, b.Kind) }
	for _, b := range slices.SortedFunc(maps.Keys(r.kinds), byKind) {
		if b.Clean == nil {
			continue
		}
		if err := b.Clean(ctx, tx.WithContext(ctx), r.kinds[b]); err != nil {
			return fmt.Errorf("%s: %w", b.Kind, err)
		}
	}
	return barrier.Remove(ctx, tx, r.gids...)
}
