package barrierrows

import (
	"strings"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// queries are the statements on barrier rows in one dialect.
type queries struct {
	tryAll     func(tries) string
	confirmAll func(confirms) string // takes a caller, branch ids, then gids
	triedAll   func(gids int) string // takes a branch id, then gids
	look       string                // takes a gid and a branch id

	// mark takes an operation, a name, microseconds, a gid and a branch id; the others
	// take a gid, a branch id and a name.
	mark, unmark, unmarkTry, giveUpTry string
}

// tries is how many rows an insert has, of branches that are tried, and of
// those that are confirmed too.
type tries struct{ tried, confirmed int }

// confirms is how many branch ids, and how many gids, an update names.
type confirms struct{ branches, gids int }

var statements = dialect.Each(func(d dialect.Dialect) queries {
	const where = ` WHERE gid = ? AND branch_id = ?`
	return queries{
		triedAll: dialect.Remembered(func(gids int) string {
			return d.SQL(`SELECT gid, state, caller, kind, input FROM saga_barrier WHERE branch_id = ? AND gid IN (?` + strings.Repeat(`, ?`, gids-1) + `) ORDER BY gid {lock}`)
		}),
		tryAll: dialect.Remembered(func(n tries) string {
			rows := strings.Repeat(`, (?, ?, 'tried', ?, ?, ?, {now}, NULL)`, n.tried) + strings.Repeat(`, (?, ?, 'confirmed', ?, ?, ?, {now}, {now})`, n.confirmed)
			return d.SQL(`INSERT INTO saga_barrier (gid, branch_id, state, caller, kind, input, tried_at, confirmed_at) VALUES ` + rows[2:])
		}),
		confirmAll: dialect.Remembered(func(n confirms) string {
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
