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
	From     Position      // behind this place in the order of due times
	Page     int           // how many due transactions to look at
	Limit    int           // how many to take over, at most
	Bytes    int           // how many bytes of payloads those may have; one is taken whatever it has
	Due      time.Duration // from now, when they are due again

	// Busy says that this instance drives the transaction right now.
	Busy func(gid string) bool
	// Knows says that this instance can call branches of the kind.
	Knows func(kind string) bool
}

// Position is a place in the order in which transactions come due. The zero
// Position is the front.
type Position struct {
	Due time.Time
	GID string // tells apart those of the same time
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
	Last    Position  // of the last that was looked at
	Now     time.Time // the database's, when it was looked; zero if nothing is due
	More    bool      // there may be more behind it
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
	err = local.Run(ctx, l.db, func(tx *gorm.DB) (err error) {
		claims = Claims{}
		found, err := l.candidates(ctx, tx, c)
		if err != nil || len(found) == 0 {
			return err
		}
		last := found[len(found)-1]
		claims.Last, claims.Now, claims.More = last.position(), last.now, len(found) == c.Page
		gids := claims.choose(found, c)
		if len(gids) == 0 {
			return nil
		}
		cut, err := l.claim(ctx, tx, c, gids, &claims)
		claims.stopBefore(found, c.From, cut)
		return err
	})
	if err != nil {
		return Claims{}, err
	}
	return claims, nil
}

// candidates reads what is due, without a lock, and of which kinds it is.
func (l *Log) candidates(ctx context.Context, tx *gorm.DB, c Claim) ([]candidate, error) {
	from := max(0, c.From.Due.UnixMicro())
	found, err := scan(ctx, tx, l.sql.candidates, []any{from, from, c.From.GID, c.Instance, c.Page}, func(row scanner) (one candidate, err error) {
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

func (c candidate) position() Position { return Position{c.due, c.gid} }

// stopBefore lets the next claim begin at the first of the transactions that are
// cut, if there is one.
func (claims *Claims) stopBefore(found []candidate, from Position, cut map[string]bool) {
	before := from
	for _, one := range found {
		if cut[one.gid] {
			claims.Last, claims.More = before, true
			return
		}
		before = one.position()
	}
}

// choose returns which candidates to claim, and notes which are foreign.
func (claims *Claims) choose(found []candidate, c Claim) (gids []string) {
	before := c.From
	for _, one := range found {
		unknown := slices.IndexFunc(one.kinds, func(kind string) bool { return !c.Knows(kind) })
		if one.state != Trying && unknown >= 0 {
			claims.Foreign = append(claims.Foreign, Foreign{one.gid, one.kinds[unknown], one.now.Sub(one.due), one.attention})
			before = one.position()
			continue
		}
		if len(gids) == c.Limit {
			// The next claim begins here.
			claims.Last, claims.More = before, true
			return gids
		}
		gids = append(gids, one.gid)
		before = one.position()
	}
	return gids
}

// claim locks the chosen ones that are still due, reads their branches, and takes
// them over as far as the bytes go. It returns those that are cut.
func (l *Log) claim(ctx context.Context, tx *gorm.DB, c Claim, gids []string, claims *Claims) (cut map[string]bool, err error) {
	arguments := []any{c.Instance}
	for _, gid := range gids {
		arguments = append(arguments, gid)
	}
	records, err := l.records(ctx, tx, l.sql.claim(len(gids)), arguments...)
	if err != nil {
		return nil, err
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
	if err = l.postpone(ctx, tx, c.Due, putOff); err != nil || len(ours) == 0 {
		return nil, err
	}
	branches, cut, err := l.branchesWithin(ctx, tx, c.Bytes, ours)
	if err != nil {
		return nil, err
	}
	attempts, err := l.Attempts(ctx, tx, failing...)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if !cut[r.GID] && !slices.Contains(putOff, r.GID) {
			claims.Claimed = append(claims.Claimed, Claimed{r, branches[r.GID], attempts[r.GID]})
		}
	}
	return cut, l.take(ctx, tx, c.Instance, c.Due, claims.Claimed)
}

// firstChunk is of how many transactions the branches are read first, before it is
// known how large they are. Each further statement reads twice as many.
const firstChunk = 8

// branchesWithin reads the branches of transactions until they have more bytes
// than are allowed, and says which have been cut. The first is read whatever it
// has. It reads a few at first, because the rest of a result has to be read even if
// nobody wants it.
func (l *Log) branchesWithin(ctx context.Context, tx *gorm.DB, most int, gids []string) (all map[string][]Branch, cut map[string]bool, err error) {
	within := budget{most: most, all: make(map[string][]Branch, len(gids))}
	for rest, chunk := gids, firstChunk; len(rest) > 0; chunk *= 2 {
		some := rest[:min(chunk, len(rest))]
		rest = rest[len(some):]
		if err := l.readWithin(ctx, tx, some, &within); err != nil {
			return nil, nil, fmt.Errorf("log: reading branches: %w", err)
		}
		if !within.spent {
			continue
		}
		cut = map[string]bool{}
		for _, gid := range append(slices.Clone(some), rest...) {
			if _, read := within.all[gid]; !read {
				cut[gid] = true
			}
		}
		break
	}
	return within.all, cut, nil
}

// budget is what of the branches of transactions has been read.
type budget struct {
	most, bytes int
	first       string // transaction, which is read whatever it has
	all         map[string][]Branch
	spent       bool
}

func (l *Log) readWithin(ctx context.Context, tx *gorm.DB, gids []string, within *budget) error {
	arguments := make([]any, len(gids))
	for i, gid := range gids {
		arguments[i] = gid
	}
	rows, err := tx.Statement.ConnPool.QueryContext(ctx, l.sql.lockedBranches(len(gids)), arguments...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		b, err := scanBranch(rows)
		if err != nil {
			return err
		}
		if within.first == "" {
			within.first = b.GID
		}
		if within.bytes += len(b.Payload); within.bytes > within.most && b.GID != within.first {
			delete(within.all, b.GID)
			within.spent = true
			break
		}
		within.all[b.GID] = append(within.all[b.GID], b)
	}
	within.spent = within.spent || within.bytes > within.most
	return rows.Err()
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
