package txlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// bulks writes and reads the bulk actions of operators, and their lists of transactions.
type bulks struct{ *store }

// Results of a target. An empty result says that it was not acted on.
const (
	TargetDone    = "done"
	TargetRefused = "refused"
	TargetFailed  = "failed"
)

// ErrActed says that a target of a bulk action has a result already.
var ErrActed = errors.New("the target of the bulk action has a result already")

// Bulk is a row of saga_bulk_acts. Done, Refused and Failed are those of the targets.
type Bulk struct {
	ID, Act, Who, Why, Query         string
	Total, Done, Refused, Failed     int
	CreatedAt, StartedAt, FinishedAt time.Time // zero where the column is NULL
}

// BulkTarget is a row of saga_bulk_targets.
type BulkTarget struct {
	Number             int
	GID, Result, Error string
	ActedAt            time.Time // zero if it has no result
}

type bulkQueries struct {
	begin, complete    string
	addTargets         func(rows int) string
	start, finish      string
	done, end          string
	get, page, next    string
	counts             string
	targets, open      string
	target             string
	aged, hide, hidden string
	last, removeChunk  string
	remove             string
}

func bulkStatements(d dialect.Dialect) bulkQueries {
	const (
		columns = `SELECT id, act, who, why, query, total, done, refused, failed, {micros created_at},
			COALESCE({micros started_at}, 0), COALESCE({micros finished_at}, 0) FROM saga_bulk_acts WHERE total >= 0`
		target = `SELECT number, gid, result, error, COALESCE({micros acted_at}, 0) FROM saga_bulk_targets WHERE bulk_id = ?`
		of     = `(SELECT COUNT(*) FROM saga_bulk_targets WHERE bulk_id = ? AND result = '`
		old    = `((started_at IS NULL AND created_at < {after ?}) OR finished_at < {after ?})`
	)
	return bulkQueries{
		begin:    d.SQL(`INSERT INTO saga_bulk_acts (id, act, who, why, query, total, created_at) VALUES (?, ?, ?, ?, ?, -1, {now})`),
		complete: d.SQL(`UPDATE saga_bulk_acts SET total = ? WHERE id = ? AND total = -1 AND created_at > {after ?}`),
		addTargets: rowsOf(d, `INSERT INTO saga_bulk_targets (bulk_id, number, gid) VALUES `,
			`(?, ?, ?)`, ``),
		start: d.SQL(`UPDATE saga_bulk_acts SET started_at = {now} WHERE id = ? AND total >= 0 AND started_at IS NULL`),
		finish: d.SQL(`UPDATE saga_bulk_acts SET finished_at = {now}, done = ` + of + TargetDone + `'), refused = ` + of + TargetRefused + `'), failed = ` + of + TargetFailed + `')
			WHERE id = ? AND started_at IS NOT NULL AND finished_at IS NULL AND NOT EXISTS (SELECT 1 FROM saga_bulk_targets WHERE bulk_id = ? AND result = '')`),
		done:        d.SQL(`UPDATE saga_bulk_targets SET result = 'done', acted_at = {now} WHERE bulk_id = ? AND number = ? AND result = ''`),
		end:         d.SQL(`UPDATE saga_bulk_targets SET result = ?, error = ?, acted_at = {now} WHERE bulk_id = ? AND number = ? AND result = ''`),
		get:         d.SQL(columns + ` AND id = ?`),
		page:        d.SQL(columns + ` ORDER BY created_at DESC, id DESC LIMIT ?`),
		next:        d.SQL(columns + ` AND created_at <= {at ?} AND (created_at < {at ?} OR id < ?) ORDER BY created_at DESC, id DESC LIMIT ?`),
		counts:      d.SQL(`SELECT result, COUNT(*) FROM saga_bulk_targets WHERE bulk_id = ? GROUP BY result`),
		targets:     d.SQL(target + ` AND number > ? ORDER BY number LIMIT ?`),
		open:        d.SQL(target + ` AND number > ? AND result = '' ORDER BY number LIMIT ?`),
		target:      d.SQL(target + ` AND number = ? {lock}`),
		aged:        d.SQL(`SELECT id FROM saga_bulk_acts WHERE ` + old + ` LIMIT 100`),
		hide:        d.SQL(`UPDATE saga_bulk_acts SET total = -1 WHERE id = ? AND ` + old),
		hidden:      d.SQL(`SELECT total < 0 FROM saga_bulk_acts WHERE id = ? {lock}`),
		last:        d.SQL(`SELECT COALESCE(MAX(number), 0) FROM saga_bulk_targets WHERE bulk_id = ?`),
		removeChunk: d.SQL(`DELETE FROM saga_bulk_targets WHERE bulk_id = ? AND number > ? AND number <= ?`),
		remove:      d.SQL(`DELETE FROM saga_bulk_acts WHERE id = ? AND total = -1`),
	}
}

// bulkChunk is how many targets one local transaction writes or deletes.
const bulkChunk = 1000

// listTime is how long the writing of a list may take. It is far shorter than the time after
// which a list that nobody started is removed.
const listTime = time.Hour

// WriteBulk writes a bulk action with its list of transactions, in bounded local transactions. The
// total is written last. So nobody runs a list whose writing broke off.
func (l bulks) WriteBulk(ctx context.Context, b Bulk, gids []string) error {
	if _, err := l.run(ctx, l.sql.bulk.begin, b.ID, b.Act, b.Who, b.Why, b.Query); err != nil {
		return err
	}
	for first := 0; first < len(gids); first += bulkChunk {
		chunk := gids[first:min(first+bulkChunk, len(gids))]
		arguments := make([]any, 0, 3*len(chunk))
		for i, gid := range chunk {
			arguments = append(arguments, b.ID, first+i+1, gid)
		}
		if _, err := l.run(ctx, l.sql.bulk.addTargets(len(chunk)), arguments...); err != nil {
			return err
		}
	}
	written, err := l.run(ctx, l.sql.bulk.complete, len(gids), b.ID, -listTime.Microseconds())
	if err == nil && !written {
		err = fmt.Errorf("log: writing the list of a bulk action took longer than %s", listTime)
	}
	return err
}

// StartBulk notes that a person has confirmed the number of transactions, unless that is noted
// already. A list that is started is not removed before it is finished.
func (l bulks) StartBulk(ctx context.Context, id string) error {
	_, err := l.run(ctx, l.sql.bulk.start, id)
	return err
}

// FinishBulk notes the end of a bulk action, with its counts, if every target has a result.
func (l bulks) FinishBulk(ctx context.Context, id string) error {
	_, err := l.run(ctx, l.sql.bulk.finish, id, id, id, id, id)
	return err
}

// EndTarget gives a target that was not acted on a result. If the target has one, that stays.
func (l bulks) EndTarget(ctx context.Context, id string, number int, result, why string) error {
	_, err := l.run(ctx, l.sql.bulk.end, result, why, id, number)
	return err
}

// done marks a target as done, or returns ErrActed.
func (l bulks) done(ctx context.Context, tx *gorm.DB, id string, number int) error {
	marked, err := changed(tx.Statement.ConnPool.ExecContext(ctx, l.sql.bulk.done, id, number))
	if err != nil {
		return fmt.Errorf("log: marking a target of the bulk action %s: %w", id, err)
	}
	if !marked {
		return ErrActed
	}
	return nil
}

// run makes one statement in a local transaction, and reports whether it has changed a row.
func (l bulks) run(ctx context.Context, query string, arguments ...any) (ok bool, err error) {
	err = local.Run(ctx, l.db, func(tx *gorm.DB) (err error) {
		ok, err = changed(tx.Statement.ConnPool.ExecContext(ctx, query, arguments...))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("log: writing a bulk action: %w", err)
	}
	return ok, nil
}

// Bulk reads a bulk action, or returns ErrNotFound. Before its end, it counts the results.
func (l bulks) Bulk(ctx context.Context, id string) (b Bulk, err error) {
	err = local.Run(ctx, l.db, func(tx *gorm.DB) error {
		found, readErr := scan(ctx, tx, l.sql.bulk.get, []any{id}, scanBulk)
		if readErr != nil {
			return readErr
		}
		if len(found) == 0 {
			return ErrNotFound
		}
		b = found[0]
		return l.count(ctx, tx, &b)
	})
	return b, err
}

// Bulks reads bulk actions, the newest first, after a place. The GID of a place is the id of a
// bulk action. It returns where the next page begins, or the zero Place.
func (l bulks) Bulks(ctx context.Context, after Place, limit int) (page []Bulk, next Place, err error) {
	query, arguments := l.sql.bulk.page, []any{limit + 1}
	if (after != Place{}) {
		query, arguments = l.sql.bulk.next, []any{after.Micros, after.Micros, after.GID, limit + 1}
	}
	err = local.Run(ctx, l.db, func(tx *gorm.DB) (err error) {
		if page, err = scan(ctx, tx, query, arguments, scanBulk); err != nil {
			return err
		}
		if next = (Place{}); len(page) > limit {
			page = page[:limit]
			next = Place{page[limit-1].CreatedAt.UnixMicro(), page[limit-1].ID}
		}
		for i := range page {
			if err = l.count(ctx, tx, &page[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return page, next, err
}

func scanBulk(row scanner) (b Bulk, err error) {
	var created, started, finished int64
	err = row.Scan(&b.ID, &b.Act, &b.Who, &b.Why, &b.Query, &b.Total, &b.Done, &b.Refused, &b.Failed, &created, &started, &finished)
	b.CreatedAt, b.StartedAt, b.FinishedAt = dialect.Time(created), dialect.Time(started), dialect.Time(finished)
	return b, err
}

// count counts the results of a bulk action that runs.
func (l bulks) count(ctx context.Context, tx *gorm.DB, b *Bulk) error {
	if b.StartedAt.IsZero() || !b.FinishedAt.IsZero() {
		return nil // the row has them
	}
	type counted struct {
		result string
		n      int
	}
	all, err := scan(ctx, tx, l.sql.bulk.counts, []any{b.ID}, func(row scanner) (c counted, err error) {
		err = row.Scan(&c.result, &c.n)
		return c, err
	})
	for _, c := range all {
		switch c.result {
		case TargetDone:
			b.Done = c.n
		case TargetRefused:
			b.Refused = c.n
		case TargetFailed:
			b.Failed = c.n
		}
	}
	return err
}

// Targets reads the targets of a bulk action after a number, in order. With open, it reads only
// those without a result.
func (l bulks) Targets(ctx context.Context, id string, after, limit int, open bool) (targets []BulkTarget, err error) {
	query := l.sql.bulk.targets
	if open {
		query = l.sql.bulk.open
	}
	err = local.Run(ctx, l.db, func(tx *gorm.DB) (err error) {
		targets, err = scan(ctx, tx, query, []any{id, after, limit}, scanTarget)
		return err
	})
	return targets, err
}

// LockTarget reads a target. It waits for somebody who acts on it now.
func (l bulks) LockTarget(ctx context.Context, id string, number int) (t BulkTarget, err error) {
	err = local.Run(ctx, l.db, func(tx *gorm.DB) error {
		found, readErr := scan(ctx, tx, l.sql.bulk.target, []any{id, number}, scanTarget)
		if readErr == nil && len(found) == 0 {
			return ErrNotFound
		}
		if readErr == nil {
			t = found[0]
		}
		return readErr
	})
	return t, err
}

func scanTarget(row scanner) (t BulkTarget, err error) {
	var at int64
	err = row.Scan(&t.Number, &t.GID, &t.Result, &t.Error, &at)
	t.ActedAt = dialect.Time(at)
	return t, err
}

// RemoveBulks deletes bulk actions that nobody has started for the time unstarted, and those that
// are finished for the time finished. It deletes at most 100 of them, in bounded local
// transactions. A removal that broke off is continued by the next call.
func (l bulks) RemoveBulks(ctx context.Context, unstarted, finished time.Duration) error {
	ages := []any{-unstarted.Microseconds(), -finished.Microseconds()}
	ids, err := scan(ctx, l.db, l.sql.bulk.aged, ages, func(row scanner) (id string, err error) {
		err = row.Scan(&id)
		return id, err
	})
	for _, id := range ids {
		if err = l.removeBulk(ctx, id, ages); err != nil {
			return err
		}
	}
	return err
}

// removeBulk removes a bulk action, if it is still old.
func (l bulks) removeBulk(ctx context.Context, id string, ages []any) error {
	hidden, last := false, 0
	err := local.Run(ctx, l.db, func(tx *gorm.DB) error {
		// From here on, nobody can start it.
		if _, err := tx.Statement.ConnPool.ExecContext(ctx, l.sql.bulk.hide, append([]any{id}, ages...)...); err != nil {
			return err
		}
		rows, err := scan(ctx, tx, l.sql.bulk.hidden, []any{id}, func(row scanner) (hidden bool, err error) {
			err = row.Scan(&hidden)
			return hidden, err
		})
		if hidden = err == nil && len(rows) == 1 && rows[0]; !hidden {
			return err
		}
		numbers, err := scan(ctx, tx, l.sql.bulk.last, []any{id}, func(row scanner) (n int, err error) {
			err = row.Scan(&n)
			return n, err
		})
		if err == nil {
			last = numbers[0]
		}
		return err
	})
	if err != nil || !hidden {
		return err
	}
	for first := 0; first < last; first += bulkChunk {
		if _, err = l.run(ctx, l.sql.bulk.removeChunk, id, first, first+bulkChunk); err != nil {
			return err
		}
	}
	_, err = l.run(ctx, l.sql.bulk.remove, id)
	return err
}
