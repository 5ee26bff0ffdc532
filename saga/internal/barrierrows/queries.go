package barrierrows

import (
	"strings"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// queries are the statements on barrier rows in one dialect.
type queries struct {
	tryBatch     func(tryRows) string
	confirmBatch func(confirmRows) string // takes a caller, branch ids, then gids

	// These take a branch id, then gids.
	lookBatch, confirmTried, cancelTried, untry func(gids int) string

	confirmMatching func(rows int) string // takes a caller, a kind, a branch id, gids, then gids with inputs
	suspendBatch    func(rows int) string
	look            string // takes a gid and a branch id

	// mark takes an operation, a name, microseconds, a gid and a branch id; the others
	// take a gid, a branch id and a name.
	mark, unmark, unmarkTry, giveUpTry string
}

// tryRows counts the rows of an insert: those of branches that are only tried, and those
// of branches that are also confirmed.
type tryRows struct{ tried, confirmed int }

// confirmRows counts the branch ids and the gids of an update.
type confirmRows struct{ branches, gids int }

var statements = dialect.Each(func(d dialect.Dialect) queries {
	const where = ` WHERE gid = ? AND branch_id = ?`
	ofGIDs := func(before, after string) func(int) string {
		return dialect.Remembered(func(gids int) string {
			return d.SQL(before + ` WHERE branch_id = ? AND gid IN (?` + strings.Repeat(`, ?`, gids-1) + `)` + after)
		})
	}
	return queries{
		lookBatch:    ofGIDs(`SELECT gid, state, caller, kind, input FROM saga_barrier`, ` ORDER BY gid {lock}`),
		confirmTried: ofGIDs(`UPDATE saga_barrier SET state = 'confirmed', confirmed_at = {now}`, ` AND state = 'tried'`),
		cancelTried:  ofGIDs(`UPDATE saga_barrier SET state = 'cancelled', cancelled_at = {now}`, ` AND state = 'tried'`),
		untry:        ofGIDs(`DELETE FROM saga_barrier`, ` AND state = 'tried'`),
		confirmMatching: dialect.Remembered(func(rows int) string {
			values := ""
			if d == dialect.SQLite {
				values = "VALUES "
			}
			return d.SQL(`UPDATE saga_barrier SET state = 'confirmed', confirmed_at = {now} WHERE caller IN (?, '') AND kind IN (?, '')
				AND branch_id = ? AND gid IN (?` + strings.Repeat(`, ?`, rows-1) + `) AND state = 'tried' AND (gid, input) IN (` + values + `(?, ?)` + strings.Repeat(`, (?, ?)`, rows-1) + `)`)
		}),
		suspendBatch: dialect.Remembered(func(rows int) string {
			return d.SQL(`INSERT INTO saga_barrier (gid, branch_id, state, caller, kind, input, cancelled_at) VALUES ` +
				strings.Repeat(`, (?, ?, 'suspended', ?, ?, ?, {now})`, rows)[2:])
		}),
		tryBatch: dialect.Remembered(func(n tryRows) string {
			rows := strings.Repeat(`, (?, ?, 'tried', ?, ?, ?, {now}, NULL)`, n.tried) + strings.Repeat(`, (?, ?, 'confirmed', ?, ?, ?, {now}, {now})`, n.confirmed)
			return d.SQL(`INSERT INTO saga_barrier (gid, branch_id, state, caller, kind, input, tried_at, confirmed_at) VALUES ` + rows[2:])
		}),
		confirmBatch: dialect.Remembered(func(n confirmRows) string {
			return d.SQL(`UPDATE saga_barrier SET state = 'confirmed', confirmed_at = {now}
				WHERE state = 'tried' AND caller IN (?, '') AND branch_id IN (?` + strings.Repeat(`, ?`, n.branches-1) +
				`) AND gid IN (?` + strings.Repeat(`, ?`, n.gids-1) + `)`)
		}),
		look: d.SQL(`SELECT branch_id, state, caller, kind, input, call_op, call_by, COALESCE({micros call_since}, 0), COALESCE({micros call_until}, 0),
			COALESCE({micros call_until} - {micros now}, 0) FROM saga_barrier` + where + ` {lock}`),
		mark:      d.SQL(`UPDATE saga_barrier SET call_op = ?, call_by = ?, call_since = {now}, call_until = {after ?}` + where),
		unmark:    d.SQL(`UPDATE saga_barrier SET call_op = '', call_until = {now}` + where + ` AND call_op <> '' AND call_by = ?`),
		unmarkTry: d.SQL(`UPDATE saga_barrier SET call_op = '', call_until = {now}` + where + ` AND call_op = 'try' AND call_by = ? AND state = 'tried'`),
		giveUpTry: d.SQL(`UPDATE saga_barrier SET call_until = {now}` + where + ` AND call_op = 'try' AND call_by = ? AND state = 'tried'`),
	}
})
