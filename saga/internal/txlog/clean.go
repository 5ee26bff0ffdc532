package txlog

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// cleaner removes old transactions.
type cleaner struct{ *store }

type cleanQueries struct {
	take, advance string
	cursor, page  string
	lock          func(int) string
	remove        []func(int) string
}

func cleanStatements(d dialect.Dialect) cleanQueries {
	q := cleanQueries{
		take:    d.SQL(`UPDATE saga_cleaning SET next_at = {after ?} WHERE id = 1 AND next_at <= {now}`),
		advance: d.SQL(`UPDATE saga_cleaning SET after_gid = ?, next_at = {after ?} WHERE id = 1`),
		cursor:  d.SQL(`SELECT after_gid FROM saga_cleaning WHERE id = 1`),
		page: d.SQL(`SELECT gid, COALESCE({micros finished_at}, 0), {micros deadline_at}, {micros now}
			FROM saga_transactions WHERE gid > ? ORDER BY gid LIMIT ?`),
	}
	q.lock = withList(d, `SELECT gid, COALESCE({micros finished_at}, 0), {micros deadline_at}, {micros now}
		FROM saga_transactions WHERE gid IN `, ` {lock}`)
	// The transaction's row comes first: a new transaction with the same gid waits for its
	// lock until the other rows are deleted too.
	for _, table := range []string{"saga_transactions", "saga_branches", "saga_attempts", "saga_acts", "saga_results"} {
		q.remove = append(q.remove, withList(d, `DELETE FROM `+table+` WHERE gid IN `, ``))
	}
	q.remove = append(q.remove, labelStatements(d).remove)
	return q
}

// TakeCleaning reserves the next batch of cleaning for the caller, for the duration of turn.
// It returns false if it is too early or another instance's turn.
func (l cleaner) TakeCleaning(ctx context.Context, turn time.Duration) (bool, error) {
	taken, err := changed(local.Exec(ctx, l.db, l.sql.clean.take, turn.Microseconds()))
	if err != nil {
		return false, fmt.Errorf("log: taking a turn at cleaning: %w", err)
	}
	return taken, nil
}

// Aged reads up to limit transactions after those of the last batch, by gid. It returns the
// gids of those that finished longer than age ago and whose deadlines also passed longer
// than age ago. The next batch begins after last, which is empty at the end of the log. It
// reads along the primary key, so cleaning needs no index of its own.
func (l cleaner) Aged(ctx context.Context, limit int, age time.Duration) (aged []string, last string, err error) {
	cursor, err := scan(ctx, l.db, l.sql.clean.cursor, nil, func(row scanner) (gid string, err error) {
		err = row.Scan(&gid)
		return gid, err
	})
	if err != nil || len(cursor) == 0 {
		return nil, "", err
	}
	seen, err := scan(ctx, l.db, l.sql.clean.page, []any{cursor[0], limit}, func(row scanner) (gid string, err error) {
		var finished, deadline, now int64
		err = row.Scan(&gid, &finished, &deadline, &now)
		if before := now - age.Microseconds(); finished != 0 && finished <= before && deadline <= before {
			aged = append(aged, gid)
		}
		return gid, err
	})
	if err != nil || len(seen) < limit {
		return aged, "", err
	}
	return aged, seen[len(seen)-1], nil
}

// Old is a transaction that may be removed.
type Old struct {
	GID      string
	Finished time.Duration // how long ago
}

// LockOld locks the transactions in the local transaction tx, and returns those that are
// still old, as in [Log.Aged]. A gid may belong to a new transaction meanwhile.
func (l cleaner) LockOld(ctx context.Context, tx *gorm.DB, age time.Duration, gids []string) ([]Old, error) {
	old, err := byGID(ctx, tx, l.sql.clean.lock, gids, func(row scanner) (o struct {
		Old
		keep bool
	}, err error) {
		var finished, deadline, now int64
		err = row.Scan(&o.GID, &finished, &deadline, &now)
		o.Finished = time.Duration(now-finished) * time.Microsecond
		o.keep = finished == 0 || now-finished < age.Microseconds() || now-deadline < age.Microseconds()
		return o, err
	})
	var all []Old
	for _, o := range old {
		if !o.keep {
			all = append(all, o.Old)
		}
	}
	return all, err
}

// Remove deletes transactions that [Log.LockOld] has locked, with their branches, attempts, acts,
// results and labels.
func (l cleaner) Remove(ctx context.Context, tx *gorm.DB, gids []string) error {
	return l.removeFrom(ctx, tx, l.sql.clean.remove, gids)
}

// AdvanceCleaning writes where the next batch begins, and after which pause.
func (l cleaner) AdvanceCleaning(ctx context.Context, last string, pause time.Duration) error {
	if _, err := local.Exec(ctx, l.db, l.sql.clean.advance, last, pause.Microseconds()); err != nil {
		return fmt.Errorf("log: noting how far cleaning has come: %w", err)
	}
	return nil
}
