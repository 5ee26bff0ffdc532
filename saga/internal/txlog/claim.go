package txlog

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// Instance is a running orchestrator.
type Instance struct {
	ID, Host string
	PID      int
}

// Renew writes or extends the lease of an instance. One statement per process
// and heartbeat, however many transactions it drives, on a connection of its own.
func (l *Log) Renew(ctx context.Context, instance Instance, lease time.Duration) error {
	_, err := l.heart.Exec(ctx, l.sql.renew, instance.ID, instance.Host, instance.PID, lease.Microseconds(), lease.Microseconds())
	if err != nil {
		return fmt.Errorf("log: renewing the lease: %w", err)
	}
	return nil
}

// Resign ends the lease of an instance and makes the given transactions, which
// it leaves unfinished, due at once.
func (l *Log) Resign(ctx context.Context, instance string, unfinished []string) error {
	return local.Run(ctx, l.db, func(tx *gorm.DB) error {
		if err := l.MakeDue(ctx, tx, instance, unfinished); err != nil {
			return err
		}
		_, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.resign, instance)
		return err
	})
}

// MakeDue makes transactions of an instance that are not finished due at once.
func (l *Log) MakeDue(ctx context.Context, tx *gorm.DB, instance string, gids []string) error {
	for some := range slices.Chunk(gids, 200) {
		arguments := []any{instance}
		for _, gid := range some {
			arguments = append(arguments, gid)
		}
		if _, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.makeDue(len(some)), arguments...); err != nil {
			return fmt.Errorf("log: making transactions due: %w", err)
		}
	}
	return nil
}

// DeleteExpired removes instances whose leases ended longer than age ago.
func (l *Log) DeleteExpired(ctx context.Context, age time.Duration) error {
	_, err := local.Exec(ctx, l.db, l.sql.deleteExpired, -age.Microseconds())
	return err
}

// Claim says what an instance takes over.
type Claim struct {
	Instance string
	Since    time.Time     // due at this time or later
	Page     int           // how many due transactions to look at
	Limit    int           // how many to take over, at most
	Bytes    int           // how many bytes of payloads those may have; one is taken whatever it has
	Due      time.Duration // from now, when they are due again

	// Busy says that this instance drives the transaction right now.
	Busy func(gid string) bool
	// Knows says that this instance can call branches of the kind.
	Knows func(kind string) bool
}

// Claimed is a transaction that was taken over, with all that driving it takes,
// read in the same local transaction.
type Claimed struct {
	Record
	Branches []Branch
	Attempts []Attempt // only if it has failures
}

// Bytes is how many bytes its payloads have.
func (c Claimed) Bytes() (n int64) {
	for _, b := range c.Branches {
		n += int64(len(b.Payload))
	}
	return n
}

// Claims is what came of a Claim.
type Claims struct {
	Claimed []Claimed
	Last    time.Time // due time of the last that was looked at
	Now     time.Time // the database's, when it was looked; zero if nothing is due
	More    bool      // there may be more after it
	Foreign []Foreign // decided, and left to an instance that knows their kinds
}

// Foreign is a decided transaction with a kind of branch that the instance does
// not know.
type Foreign struct {
	GID, Kind string
	Overdue   time.Duration
	Attention bool
}

// candidate is a transaction that is due.
type candidate struct {
	gid, state string
	attention  bool
	due, now   time.Time
	kinds      []string
}

// Claim takes over transactions that are due and whose owner is nobody, the
// instance itself, or an instance without a lease, the longest due first, and
// raises their epochs. One that is decided and has a branch of a kind that the
// instance does not know is left to another. Those that are busy are only put
// off, unless they are undecided past their deadline. Other instances' claims,
// under way at the same time, are stepped around.
func (l *Log) Claim(ctx context.Context, c Claim) (claims Claims, err error) {
	err = local.Run(ctx, l.db, func(tx *gorm.DB) error {
		claims = Claims{}
		found, err := l.candidates(ctx, tx, c)
		if err != nil || len(found) == 0 {
			return err
		}
		last := found[len(found)-1]
		claims.Last, claims.Now, claims.More = last.due, last.now, len(found) == c.Page
		gids := claims.choose(found, c)
		if len(gids) == 0 {
			return nil
		}
		return l.claim(ctx, tx, c, gids, &claims)
	})
	if err != nil {
		return Claims{}, err
	}
	return claims, nil
}

// candidates reads what is due, without a lock, and of which kinds it is.
func (l *Log) candidates(ctx context.Context, tx *gorm.DB, c Claim) ([]candidate, error) {
	found, err := scan(ctx, tx, l.sql.candidates, []any{max(0, c.Since.UnixMicro()), c.Instance, c.Page}, func(row scanner) (one candidate, err error) {
		var attention string
		var due, now int64
		err = row.Scan(&one.gid, &one.state, &attention, &due, &now)
		one.attention, one.due, one.now = attention != "", dialect.Time(due), dialect.Time(now)
		return one, err
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	gids := make([]string, len(found))
	index := make(map[string]int, len(found))
	for i, one := range found {
		gids[i], index[one.gid] = one.gid, i
	}
	type kindOf struct{ gid, kind string }
	kinds, err := byGID(ctx, tx, l.sql.kindsOf, gids, func(row scanner) (k kindOf, err error) {
		err = row.Scan(&k.gid, &k.kind)
		return k, err
	})
	for _, k := range kinds {
		if i, there := index[k.gid]; there {
			found[i].kinds = append(found[i].kinds, k.kind)
		}
	}
	return found, err
}

// choose returns which candidates to claim, and notes which are foreign.
func (claims *Claims) choose(found []candidate, c Claim) (gids []string) {
	for _, one := range found {
		unknown := slices.IndexFunc(one.kinds, func(kind string) bool { return !c.Knows(kind) })
		if one.state != Trying && unknown >= 0 {
			claims.Foreign = append(claims.Foreign, Foreign{one.gid, one.kinds[unknown], one.now.Sub(one.due), one.attention})
			continue
		}
		if len(gids) == c.Limit {
			// The next claim begins here.
			claims.Last, claims.More = one.due, true
			return gids
		}
		gids = append(gids, one.gid)
	}
	return gids
}

// claim locks the chosen ones that are still due, reads their branches, and takes
// them over as far as the bytes go.
func (l *Log) claim(ctx context.Context, tx *gorm.DB, c Claim, gids []string, claims *Claims) error {
	arguments := []any{c.Instance}
	for _, gid := range gids {
		arguments = append(arguments, gid)
	}
	records, err := l.records(ctx, tx, l.sql.claim(len(gids)), arguments...)
	if err != nil {
		return err
	}
	var putOff, ours, failing []string
	for _, r := range records {
		if c.Busy(r.GID) && !(r.State == Trying && r.Expired) {
			putOff = append(putOff, r.GID)
			continue
		}
		ours = append(ours, r.GID)
		if r.Failures > 0 {
			failing = append(failing, r.GID)
		}
	}
	if err := l.postpone(ctx, tx, c.Due, putOff); err != nil || len(ours) == 0 {
		return err
	}
	branches, cut, err := l.branchesWithin(ctx, tx, c.Bytes, ours)
	if err != nil {
		return err
	}
	attempts, err := l.Attempts(ctx, tx, failing...)
	if err != nil {
		return err
	}
	for _, r := range records {
		switch {
		case slices.Contains(putOff, r.GID):
		case cut[r.GID]:
			claims.Last, claims.More = minTime(claims.Last, r.DueAt), true
		default:
			claims.Claimed = append(claims.Claimed, Claimed{r, branches[r.GID], attempts[r.GID]})
		}
	}
	return l.take(ctx, tx, c.Instance, c.Due, claims.Claimed)
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// branchesWithin reads the branches of transactions until they have more bytes
// than are allowed, and says which have been cut. The first is read whatever it
// has.
func (l *Log) branchesWithin(ctx context.Context, tx *gorm.DB, most int, gids []string) (all map[string][]Branch, cut map[string]bool, err error) {
	all, cut = make(map[string][]Branch, len(gids)), map[string]bool{}
	arguments := make([]any, len(gids))
	for i, gid := range gids {
		arguments[i] = gid
	}
	rows, err := tx.Statement.ConnPool.QueryContext(ctx, l.sql.lockedBranches(len(gids)), arguments...)
	if err != nil {
		return nil, nil, fmt.Errorf("log: reading branches: %w", err)
	}
	defer rows.Close()
	bytes, first := 0, ""
	for rows.Next() {
		b, err := scanBranch(rows)
		if err != nil {
			return nil, nil, fmt.Errorf("log: reading branches: %w", err)
		}
		if first == "" {
			first = b.GID
		}
		if bytes += len(b.Payload); bytes > most && b.GID != first {
			delete(all, b.GID)
			break
		}
		all[b.GID] = append(all[b.GID], b)
	}
	if err := rows.Err(); err != nil {
		return nil, nil, fmt.Errorf("log: reading branches: %w", err)
	}
	if bytes > most {
		for _, gid := range gids {
			if _, read := all[gid]; !read {
				cut[gid] = true
			}
		}
	}
	return all, cut, nil
}

// Unclaimed raises a transaction to attention that no instance here can drive.
func (l *Log) Unclaimed(ctx context.Context, gid, why string) (raised bool, err error) {
	raised, err = changed(local.Exec(ctx, l.db, l.sql.unclaimed, why, gid))
	if err != nil {
		return false, fmt.Errorf("log: raising %s to attention: %w", gid, err)
	}
	return raised, nil
}

func (l *Log) postpone(ctx context.Context, tx *gorm.DB, due time.Duration, gids []string) error {
	if len(gids) == 0 {
		return nil
	}
	arguments := []any{due.Microseconds(), due.Microseconds()}
	for _, gid := range gids {
		arguments = append(arguments, gid)
	}
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.postpone(len(gids)), arguments...); err != nil {
		return fmt.Errorf("log: postponing: %w", err)
	}
	return nil
}

func (l *Log) take(ctx context.Context, tx *gorm.DB, instance string, due time.Duration, claimed []Claimed) error {
	if len(claimed) == 0 {
		return nil
	}
	arguments := []any{instance, due.Microseconds()}
	for i := range claimed {
		arguments = append(arguments, claimed[i].GID)
		claimed[i].Epoch++
	}
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.take(len(claimed)), arguments...); err != nil {
		return fmt.Errorf("log: claiming: %w", err)
	}
	return nil
}
