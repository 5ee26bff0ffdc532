package txlog

import (
	"context"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
	"github.com/tccsaga/tccsaga/saga/internal/result"
)

// reader reads transactions.
type reader struct{ *store }

// Get reads a transaction in the local transaction tx, or returns ErrNotFound.
func (l reader) Get(ctx context.Context, tx *gorm.DB, gid string) (Record, error) {
	return l.get(ctx, tx, l.sql.get, gid)
}

// GetLocked reads a transaction with a locking read, in the local transaction tx. It waits
// for a COMMIT that is under way, so the result is certain even if that COMMIT was not
// answered.
func (l reader) GetLocked(ctx context.Context, tx *gorm.DB, gid string) (Record, error) {
	return l.get(ctx, tx, l.sql.getLocked, gid)
}

func (l reader) get(ctx context.Context, db *gorm.DB, query, gid string) (Record, error) {
	records, err := l.records(ctx, db, query, gid)
	if err != nil {
		return Record{}, err
	}
	if len(records) == 0 {
		return Record{}, ErrNotFound
	}
	return records[0], nil
}

// States returns the states of the transactions with the given gids; those that do not exist
// are left out.
func (l reader) States(ctx context.Context, tx *gorm.DB, gids []string) (map[string]string, error) {
	if len(gids) == 0 {
		return nil, nil
	}
	query := l.sql.dialect.SQL("SELECT gid, state FROM saga_transactions WHERE gid IN " + in(len(gids)))
	arguments := make([]any, len(gids))
	for i, gid := range gids {
		arguments[i] = gid
	}
	found, err := scan(ctx, tx, query, arguments, func(row scanner) (s [2]string, err error) {
		err = row.Scan(&s[0], &s[1])
		return s, err
	})
	states := make(map[string]string, len(found))
	for _, s := range found {
		states[s[0]] = s[1]
	}
	return states, err
}

func (l reader) records(ctx context.Context, db *gorm.DB, query string, arguments ...any) ([]Record, error) {
	return scan(ctx, db, query, arguments, func(row scanner) (r Record, err error) {
		var created, deadline, due, decided, finished, paused, prepared, now int64
		err = row.Scan(&r.GID, &r.Pattern, &r.State, &r.Digest, &r.Reason, &r.Code, &r.BranchID, &r.DecidedBy, &r.Attention, &r.Owner, &r.Epoch,
			&r.Failures, &r.TryAttempts, &r.Parent, &created, &deadline, &due, &decided, &finished, &paused, &prepared, &r.Trace, &now, &r.Expired)
		r.CreatedAt, r.DeadlineAt, r.DueAt = dialect.Time(created), dialect.Time(deadline), dialect.Time(due)
		r.DecidedAt, r.FinishedAt, r.PausedAt, r.PreparedAt = dialect.Time(decided), dialect.Time(finished), dialect.Time(paused), dialect.Time(prepared)
		if r.Forward() {
			r.Left = time.Duration(deadline-now) * time.Microsecond
		}
		r.SinceBegin = time.Duration(now-created) * time.Microsecond
		if decided != 0 {
			r.SinceDecision = time.Duration(now-decided) * time.Microsecond
		}
		return r, err
	})
}

// InUse returns which of the gids are in the log, in the local transaction tx.
func (l reader) InUse(ctx context.Context, tx *gorm.DB, gids []string) (map[string]bool, error) {
	found, err := byGID(ctx, tx, l.sql.inUse, gids, func(row scanner) (gid string, err error) {
		err = row.Scan(&gid)
		return gid, err
	})
	inUse := make(map[string]bool, len(found))
	for _, gid := range found {
		inUse[gid] = true
	}
	return inUse, err
}

// Shown returns the digests of those transactions that are committed, decided to be
// confirmed, owned by the instance, and claimed by nobody since they were begun.
func (l reader) Shown(ctx context.Context, instance string, gids []string) (digests map[string]string, err error) {
	arguments := []any{instance}
	for _, gid := range gids {
		arguments = append(arguments, gid)
	}
	type shown struct{ gid, digest string }
	found, err := scan(ctx, l.db, l.sql.shown(len(gids)), arguments, func(row scanner) (s shown, err error) {
		err = row.Scan(&s.gid, &s.digest)
		return s, err
	})
	digests = make(map[string]string, len(found))
	for _, s := range found {
		digests[s.gid] = s.digest
	}
	return digests, err
}

// BranchesIn reads the branches of transactions, in order, in the local
// transaction tx.
func (l reader) BranchesIn(ctx context.Context, tx *gorm.DB, gids ...string) (map[string][]Branch, error) {
	return l.branchesOf(ctx, tx, l.sql.branches, gids)
}

// LockAll locks and reads transactions with their branches, by gid, in the order of their gids.
// It leaves out those that do not exist. It reads no attempts and no results.
func (l reader) LockAll(ctx context.Context, tx *gorm.DB, gids ...string) (map[string]Claimed, error) {
	arguments := make([]any, len(gids))
	for i, gid := range gids {
		arguments[i] = gid
	}
	records, err := l.records(ctx, tx, l.sql.allLocked(len(gids)), arguments...)
	if err != nil {
		return nil, err
	}
	branches, err := l.LockedBranches(ctx, tx, gids...)
	if err != nil {
		return nil, err
	}
	all := make(map[string]Claimed, len(records))
	for _, r := range records {
		all[r.GID] = Claimed{Record: r, Branches: branches[r.GID]}
	}
	return all, nil
}

// LockedBranches is BranchesIn with a locking read. That goes to the database that takes
// writes, and not to a replica.
func (l reader) LockedBranches(ctx context.Context, tx *gorm.DB, gids ...string) (map[string][]Branch, error) {
	return l.branchesOf(ctx, tx, l.sql.lockedBranches, gids)
}

func (l reader) branchesOf(ctx context.Context, tx *gorm.DB, query func(int) string, gids []string) (map[string][]Branch, error) {
	all := make(map[string][]Branch, len(gids))
	branches, err := byGID(ctx, tx, query, gids, scanBranch)
	for _, b := range branches {
		all[b.GID] = append(all[b.GID], b)
	}
	return all, err
}

func scanBranch(row scanner) (b Branch, err error) {
	var done int64
	err = row.Scan(&b.GID, &b.ID, &b.Kind, &b.Payload, &b.Stage, &b.Role, &done, &b.Tried)
	b.DoneAt = dialect.Time(done)
	return b, err
}

// Attempts reads the failed attempts of transactions, in order, in the local
// transaction tx.
func (l reader) Attempts(ctx context.Context, tx *gorm.DB, gids ...string) (map[string][]Attempt, error) {
	all := make(map[string][]Attempt, len(gids))
	attempts, err := byGID(ctx, tx, l.sql.attempts, gids, func(row scanner) (a Attempt, err error) {
		var failed, next, now int64
		err = row.Scan(&a.GID, &a.BranchID, &a.Operation, &a.Number, &a.Error, &a.Code, &a.Instance, &failed, &next, &now)
		a.FailedAt, a.NextAt = dialect.Time(failed), dialect.Time(next)
		a.Wait = time.Duration(next-now) * time.Microsecond
		return a, err
	})
	for _, a := range attempts {
		all[a.GID] = append(all[a.GID], a)
	}
	return all, err
}

// Results reads the results of the Trys of transactions, in the local transaction tx.
func (l reader) Results(ctx context.Context, tx *gorm.DB, gids ...string) (map[string][]result.Result, error) {
	found, err := result.Of(ctx, tx, gids...)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	all := make(map[string][]result.Result, len(gids))
	for _, r := range found {
		all[r.GID] = append(all[r.GID], r)
	}
	return all, nil
}

// Filter narrows a List.
type Filter struct {
	States        []string // any of these; none is all
	Pattern       string
	Prefix        string // of the gid
	Unfinished    bool   // only those that are not finished
	Attention     bool   // only those that were raised to attention
	CreatedAfter  time.Time
	CreatedBefore time.Time
	After         string // only greater gids, for the next page
	Limit         int
}

// List reads transactions by gid.
func (l reader) List(ctx context.Context, f Filter) ([]Record, error) {
	query, arguments := l.listQuery(f)
	return l.records(ctx, l.db, query, arguments...)
}

func (l reader) listQuery(f Filter) (query string, arguments []any) {
	var where []string
	add := func(condition string, values ...any) {
		where = append(where, condition)
		arguments = append(arguments, values...)
	}
	if f.After != "" {
		add("gid > ?", f.After)
	}
	if f.Prefix != "" {
		// The range uses the primary key; SUBSTR selects the gids with the prefix.
		add("gid >= ? AND SUBSTR(gid, 1, ?) = ?", f.Prefix, len(f.Prefix), f.Prefix)
	}
	if len(f.States) > 0 {
		states := make([]any, len(f.States))
		for i, state := range f.States {
			states[i] = state
		}
		add("state IN "+in(len(states)), states...)
	}
	if f.Pattern != "" {
		add("pattern = ?", f.Pattern)
	}
	if f.Unfinished {
		add("due_at IS NOT NULL")
	}
	if f.Attention {
		// These are not finished, so the index on due_at has them.
		add("due_at IS NOT NULL AND attention <> ''")
	}
	if !f.CreatedAfter.IsZero() {
		add("{micros created_at} > ?", f.CreatedAfter.UnixMicro())
	}
	if !f.CreatedBefore.IsZero() {
		add("{micros created_at} < ?", f.CreatedBefore.UnixMicro())
	}
	query = selectRecords
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	query += fmt.Sprintf(" ORDER BY gid LIMIT %d", f.Limit)
	return l.sql.dialect.SQL(query), arguments
}

// Named returns a branch of a transaction, with a locking read. It returns false if there
// is none.
func (l reader) Named(ctx context.Context, tx *gorm.DB, gid, branchID string) (Branch, bool, error) {
	branches, err := l.LockedBranches(ctx, tx, gid)
	for _, b := range branches[gid] {
		if b.ID == branchID {
			return b, true, err
		}
	}
	return Branch{}, false, err
}
