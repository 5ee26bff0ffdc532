package txlog

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/result"
)

// claimer finds due transactions and takes them over.
type claimer struct{ reader }

// Claim describes what an instance takes over.
type Claim struct {
	Instance string
	From     Position      // only transactions after this position
	Page     int           // how many due transactions to read
	Limit    int           // how many to take over at most
	Bytes    int           // bytes of their inputs at most; the first one is taken even if it has more
	Due      time.Duration // when they are due again, from now
	Waiting  Waiting       // for prepared transactions

	// Busy reports whether this instance drives the transaction now.
	Busy func(gid string) bool
	// Knows reports whether the kind of branch is registered in this instance.
	Knows func(kind string) bool
}

// Position is a position in the order of due times. The zero Position is the front.
type Position struct {
	Due time.Time
	GID string // orders transactions with the same due time
}

// Claimed is a transaction that was taken over, with all that its driver needs, read in the
// same local transaction.
type Claimed struct {
	Record
	Branches []Branch
	Attempts []Attempt // only if it has failures
	Results  []result.Result
}

// Bytes returns the size of the inputs and results.
func (c Claimed) Bytes() (n int64) {
	for _, b := range c.Branches {
		n += int64(len(b.Payload))
	}
	for _, r := range c.Results {
		n += int64(len(r.JSON))
	}
	return n
}

// Claims is the result of a Claim.
type Claims struct {
	Claimed []Claimed
	Last    Position  // of the last transaction that was read
	Now     time.Time // the database's time of the read; zero if nothing is due
	More    bool      // there may be more after Last
	Foreign []Foreign // left to an instance that knows their kinds
	Waiting []string  // prepared ones that this claim has raised to attention
}

// Foreign is a transaction to continue, decided or with forward recovery, with a kind of branch
// that is not registered in the instance; or one whose kind of branch that decides is not
// registered.
type Foreign struct {
	GID, Kind string
	Overdue   time.Duration
	Attention bool
}

// candidate is a transaction that is due.
type candidate struct {
	gid, state string
	attention  bool
	forward    bool // it is undecided, and is continued and not cancelled
	due, now   time.Time
	kinds      []string
	deciding   string // the kind of the branch that decides; empty if there is none
}

// missing returns a kind of branch that an instance has to know to continue the transaction,
// and does not. An undecided one is only cancelled, unless a branch decides it.
func (c candidate) missing(knows func(kind string) bool) (kind string, is bool) {
	needed := c.kinds
	if c.state == Trying && !c.forward {
		needed = nil
		if c.deciding != "" {
			needed = []string{c.deciding}
		}
	}
	i := slices.IndexFunc(needed, func(kind string) bool { return !knows(kind) })
	if i < 0 {
		return "", false
	}
	return needed[i], true
}

// Claim takes over due transactions and raises their epochs, in the order of their due
// times. The owner of such a transaction is nobody, the instance itself, or an instance
// without a lease.
//
// It leaves foreign transactions to other instances. It only postpones busy transactions,
// unless they are undecided past their deadline. It only raises prepared ones to attention,
// because nobody presumes their abort. It skips transactions that another
// instance is claiming at the same time.
func (l claimer) Claim(ctx context.Context, c Claim) (Claims, error) {
	var claims Claims
	err := local.Run(ctx, l.db, func(tx *gorm.DB) error {
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
		leftOut, err := l.claim(ctx, tx, c, gids, &claims)
		claims.stopBefore(found, c.From, leftOut)
		return err
	})
	if err != nil {
		return Claims{}, err
	}
	return claims, nil
}

// candidates reads the due transactions and their kinds of branches, without a lock.
func (l claimer) candidates(ctx context.Context, tx *gorm.DB, c Claim) ([]candidate, error) {
	from := max(0, c.From.Due.UnixMicro())
	found, err := scan(ctx, tx, l.sql.candidates, []any{from, from, c.From.GID, c.Instance, c.Page}, func(row scanner) (one candidate, err error) {
		var attention string
		var due, now int64
		err = row.Scan(&one.gid, &one.state, &attention, &one.forward, &due, &now)
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
	type kindOf struct {
		gid, kind string
		decides   bool
	}
	kinds, err := byGID(ctx, tx, l.sql.kindsOf, gids, func(row scanner) (k kindOf, err error) {
		err = row.Scan(&k.gid, &k.kind, &k.decides)
		return k, err
	})
	for _, k := range kinds {
		if i, there := index[k.gid]; there {
			found[i].kinds = append(found[i].kinds, k.kind)
			if k.decides {
				found[i].deciding = k.kind
			}
		}
	}
	return found, err
}

func (c candidate) position() Position { return Position{c.due, c.gid} }

// stopBefore makes the next claim begin at the first transaction that was left out, if there
// is one.
func (claims *Claims) stopBefore(found []candidate, from Position, leftOut map[string]bool) {
	before := from
	for _, one := range found {
		if leftOut[one.gid] {
			claims.Last, claims.More = before, true
			return
		}
		before = one.position()
	}
}

// choose returns the candidates to claim, and adds the foreign ones to the Claims.
func (claims *Claims) choose(found []candidate, c Claim) (gids []string) {
	before := c.From
	for _, one := range found {
		if kind, is := one.missing(c.Knows); is {
			claims.Foreign = append(claims.Foreign, Foreign{one.gid, kind, one.now.Sub(one.due), one.attention})
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

// claim locks the chosen transactions that are still due, reads their branches, and takes
// over as many as the limit of bytes allows. It returns those that it left out.
func (l claimer) claim(ctx context.Context, tx *gorm.DB, c Claim, gids []string, claims *Claims) (leftOut map[string]bool, err error) {
	arguments := []any{c.Instance}
	for _, gid := range gids {
		arguments = append(arguments, gid)
	}
	records, err := l.records(ctx, tx, l.sql.claim(len(gids)), arguments...)
	if err != nil {
		return nil, err
	}
	var busy, ours, failing, waiting []string
	for _, r := range records {
		if r.Waits() {
			waiting = append(waiting, r.GID)
			if r.Attention == "" {
				claims.Waiting = append(claims.Waiting, r.GID)
			}
			continue
		}
		if c.Busy(r.GID) && !(r.State == Trying && r.Expired) {
			busy = append(busy, r.GID)
			continue
		}
		ours = append(ours, r.GID)
		if r.Failures > 0 {
			failing = append(failing, r.GID)
		}
	}
	if err = l.keepWaiting(ctx, tx, c.Waiting, waiting); err != nil {
		return nil, err
	}
	if err = l.postpone(ctx, tx, c.Due, busy); err != nil || len(ours) == 0 {
		return nil, err
	}
	branches, leftOut, err := l.branchesWithin(ctx, tx, c.Bytes, ours)
	if err != nil {
		return nil, err
	}
	attempts, err := l.Attempts(ctx, tx, failing...)
	if err != nil {
		return nil, err
	}
	var ordered []string
	for gid, all := range branches {
		if Ordered(all) {
			ordered = append(ordered, gid)
		}
	}
	slices.Sort(ordered) // the same statement each time, for the simulation
	results, err := l.Results(ctx, tx, ordered...)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if !leftOut[r.GID] && !slices.Contains(busy, r.GID) && !slices.Contains(waiting, r.GID) {
			claims.Claimed = append(claims.Claimed, Claimed{r, branches[r.GID], attempts[r.GID], results[r.GID]})
		}
	}
	return leftOut, l.take(ctx, tx, c.Instance, c.Due, claims.Claimed)
}

// Unclaimed raises a transaction to attention that no running instance can drive.
func (l claimer) Unclaimed(ctx context.Context, gid, why string) (raised bool, err error) {
	raised, err = changed(local.Exec(ctx, l.db, l.sql.unclaimed, why, gid))
	if err != nil {
		return false, fmt.Errorf("log: raising %s to attention: %w", gid, err)
	}
	return raised, nil
}

func (l claimer) postpone(ctx context.Context, tx *gorm.DB, due time.Duration, gids []string) error {
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

func (l claimer) take(ctx context.Context, tx *gorm.DB, instance string, due time.Duration, claimed []Claimed) error {
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

// MakeCancelDue makes a transaction due now if it is being cancelled. Its failed branches
// still wait for their next attempts.
func (l claimer) MakeCancelDue(ctx context.Context, gid string) error {
	if _, err := local.Exec(ctx, l.db, l.sql.operator.cancelDue, gid); err != nil {
		return fmt.Errorf("log: making the cancel of %s due: %w", gid, err)
	}
	return nil
}
