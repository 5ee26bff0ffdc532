// Package inputs keeps the inputs of branches in the table saga_inputs, for a service that
// asks the engine for outcomes. The row of a branch is written in the local transaction of
// its Try, and removed in that of its Confirm or Cancel. So it is there if and only if the
// branch is in doubt.
package inputs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/dialect"
	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// ErrNotText is wrapped by the error of a Keep whose payload is not UTF-8: a text column
// would not return the same bytes.
var ErrNotText = errors.New("the payload is not UTF-8")

// queries are the statements in one dialect. Those without a comment take a gid and a
// branch id.
type queries struct {
	keep     string // takes a gid, a branch id, a payload and microseconds
	payload  string
	remove   string
	orphans  func(gids int) string // removes rows; takes gids
	due      string                // takes a number of rows
	postpone string                // takes microseconds, a gid and a branch id
}

var statements = dialect.Each(func(d dialect.Dialect) queries {
	const where = ` WHERE gid = ? AND branch_id = ?`
	again := ` ON CONFLICT (gid, branch_id) DO UPDATE SET payload = excluded.payload, tried_at = excluded.tried_at, ask_at = excluded.ask_at`
	skip := ` FOR UPDATE SKIP LOCKED`
	switch d {
	case dialect.MySQL:
		again = ` ON DUPLICATE KEY UPDATE payload = VALUES(payload), tried_at = VALUES(tried_at), ask_at = VALUES(ask_at)`
	case dialect.SQLite:
		skip = ``
	}
	return queries{
		keep:    d.SQL(`INSERT INTO saga_inputs (gid, branch_id, payload, tried_at, ask_at) VALUES (?, ?, ?, {now}, {after ?})` + again),
		payload: d.SQL(`SELECT payload FROM saga_inputs` + where),
		remove:  d.SQL(`DELETE FROM saga_inputs` + where),
		orphans: dialect.Remembered(func(gids int) string {
			return d.SQL(`DELETE FROM saga_inputs WHERE gid IN (?` + strings.Repeat(`, ?`, gids-1) + `) AND NOT EXISTS
				(SELECT 1 FROM saga_barrier WHERE saga_barrier.gid = saga_inputs.gid AND saga_barrier.branch_id = saga_inputs.branch_id)`)
		}),
		due: d.SQL(`SELECT gid, branch_id, {micros now} - {micros tried_at} FROM saga_inputs WHERE ask_at <= {start}
			ORDER BY ask_at LIMIT ?` + skip),
		postpone: d.SQL(`UPDATE saga_inputs SET ask_at = {after ?}` + where),
	}
})

// Keep writes the input of a branch, in the local transaction tx of its Try. The outcome is
// asked for after the time after.
func Keep(ctx context.Context, tx *gorm.DB, key barrier.Key, payload []byte, after time.Duration) error {
	if !utf8.Valid(payload) {
		return fmt.Errorf("keep the input of %s: %w", key, ErrNotText)
	}
	return exec(ctx, tx, "keep the input of "+key.String(), func(q queries) string { return q.keep }, key.GID, key.BranchID, string(payload), after.Microseconds())
}

// Remove removes the input of a branch, in the local transaction tx.
func Remove(ctx context.Context, tx *gorm.DB, key barrier.Key) error {
	return exec(ctx, tx, "remove the input of "+key.String(), func(q queries) string { return q.remove }, key.GID, key.BranchID)
}

// RemoveOrphans removes the inputs of branches of transactions that have no barrier row, in
// the local transaction tx. A participant that does not ask may have left them.
func RemoveOrphans(ctx context.Context, tx *gorm.DB, gids []string) error {
	if len(gids) == 0 {
		return nil
	}
	arguments := make([]any, len(gids))
	for i, gid := range gids {
		arguments[i] = gid
	}
	return exec(ctx, tx, "remove inputs without a barrier row", func(q queries) string { return q.orphans(len(gids)) }, arguments...)
}

func exec(ctx context.Context, tx *gorm.DB, doing string, statement func(queries) string, arguments ...any) error {
	d, err := dialect.Of(tx)
	if err != nil {
		return err
	}
	if _, err := tx.Statement.ConnPool.ExecContext(ctx, statement(statements[d]), arguments...); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// Payload returns the input of a branch, in the local transaction tx. It returns false if
// there is none: the branch is not in doubt.
func Payload(ctx context.Context, tx *gorm.DB, key barrier.Key) (payload []byte, found bool, err error) {
	d, err := dialect.Of(tx)
	if err != nil {
		return nil, false, err
	}
	rows, err := tx.Statement.ConnPool.QueryContext(ctx, statements[d].payload, key.GID, key.BranchID)
	if err != nil {
		return nil, false, fmt.Errorf("read the input of %s: %w", key, err)
	}
	defer rows.Close()
	if !rows.Next() {
		return nil, false, rows.Err()
	}
	if err := rows.Scan(&payload); err != nil {
		return nil, false, fmt.Errorf("read the input of %s: %w", key, err)
	}
	return payload, true, rows.Err()
}

// Claim returns at most most branches in the database db for which it is time to ask, those
// that have waited longest first. It moves the time of the next question forward in the same
// local transaction, so that another process takes other branches. Pause returns the time
// until then from the time since the Try.
func Claim(ctx context.Context, db *gorm.DB, most int, pause func(since time.Duration) time.Duration) (keys []barrier.Key, err error) {
	d, err := dialect.Of(db)
	if err != nil {
		return nil, err
	}
	err = local.Run(ctx, db, func(tx *gorm.DB) error {
		var since []time.Duration
		keys, since, err = due(ctx, tx, statements[d].due, most)
		if err != nil {
			return fmt.Errorf("find inputs: %w", err)
		}
		for i, key := range keys {
			_, err = tx.Statement.ConnPool.ExecContext(ctx, statements[d].postpone, pause(since[i]).Microseconds(), key.GID, key.BranchID)
			if err != nil {
				return fmt.Errorf("claim the input of %s: %w", key, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}

func due(ctx context.Context, tx *gorm.DB, query string, most int) (keys []barrier.Key, since []time.Duration, err error) {
	rows, err := tx.Statement.ConnPool.QueryContext(ctx, query, most)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var key barrier.Key
		var micros int64
		if err := rows.Scan(&key.GID, &key.BranchID, &micros); err != nil {
			return nil, nil, err
		}
		keys, since = append(keys, key), append(since, time.Duration(micros)*time.Microsecond)
	}
	return keys, since, rows.Err()
}
