package barrier

import (
	"strings"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// queries are the statements on the barrier row in one dialect. An insert takes
// gid, branch id, caller, kind and input; an update of a row that has to match
// the request, gid, branch id, caller, kind and input; the others, gid and branch
// id.
type queries struct {
	insertTried     string
	insertSuspended string
	confirm         string
	cancel          string
	turnAway        string
	stamp           string
	state           string
	look            string // takes the gid alone
	lookLocked      string
	triedAll        func(gids int) string // takes a branch id, then gids
	tryAll          func(tries) string
	confirmAll      func(confirms) string // takes a caller, branch ids, then gids
	unnamed         string
	begin, end      string

	endTry, giveUpTry string // take a name too

	affectedTells bool // the affected rows of an insert tell it from an update; else it returns turned_away
}

// tries is how many rows an insert has, of branches that are tried, and of
// those that are confirmed too.
type tries struct{ tried, confirmed int }

// confirms is how many branch ids, and how many gids, an update names.
type confirms struct{ branches, gids int }

var statements = dialect.Each(func(d dialect.Dialect) queries {
	const where = ` WHERE gid = ? AND branch_id = ?`
	// Rows from before the barrier knew callers match every request.
	const ours = where + ` AND caller IN (?, '') AND kind IN (?, '') AND input IN (?, '')`
	onConflict := ` ON CONFLICT (gid, branch_id) DO UPDATE SET turned_away = saga_barrier.turned_away + 1`
	seen := ` RETURNING turned_away`
	if d == dialect.MySQL {
		onConflict, seen = ` ON DUPLICATE KEY UPDATE turned_away = turned_away + 1`, ``
	}
	const look = `SELECT branch_id, state, caller, kind, input, call_op, call_by, COALESCE({micros call_since}, 0), COALESCE({micros call_until}, 0),
			COALESCE({micros call_until} - {micros now}, 0), COALESCE({micros tried_at}, 0), COALESCE({micros confirmed_at}, 0),
			COALESCE({micros cancelled_at}, 0), turned_away, COALESCE({micros turned_away_at}, 0)
			FROM saga_barrier WHERE gid = ?`
	return queries{
		insertTried: d.SQL(`INSERT INTO saga_barrier (gid, branch_id, state, caller, kind, input, tried_at)
			VALUES (?, ?, 'tried', ?, ?, ?, {now})` + onConflict + seen),
		insertSuspended: d.SQL(`INSERT INTO saga_barrier (gid, branch_id, state, caller, kind, input, cancelled_at)
			VALUES (?, ?, 'suspended', ?, ?, ?, {now})` + onConflict + seen),
		confirm:    d.SQL(`UPDATE saga_barrier SET state = 'confirmed', confirmed_at = {now}` + ours + ` AND state = 'tried'`),
		cancel:     d.SQL(`UPDATE saga_barrier SET state = 'cancelled', cancelled_at = {now}, turned_away = turned_away - 1` + ours + ` AND state = 'tried'`),
		turnAway:   d.SQL(`UPDATE saga_barrier SET turned_away = turned_away + 1` + where),
		stamp:      d.SQL(`UPDATE saga_barrier SET turned_away_at = {now}` + where),
		state:      d.SQL(`SELECT state, caller, kind, input FROM saga_barrier` + where),
		look:       d.SQL(look + ` ORDER BY branch_id`),
		lookLocked: d.SQL(look + ` AND branch_id = ? {lock}`),
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
		unnamed: d.SQL(`SELECT COUNT(*) FROM saga_transactions WHERE gid = ?
			AND NOT EXISTS (SELECT 1 FROM saga_branches WHERE saga_branches.gid = saga_transactions.gid AND branch_id = ?)`),
		begin:         d.SQL(`UPDATE saga_barrier SET call_op = ?, call_by = ?, call_since = {now}, call_until = {after ?}` + where),
		end:           d.SQL(`UPDATE saga_barrier SET call_op = '', call_until = {now}` + where + ` AND call_op <> '' AND call_by = ?`),
		endTry:        d.SQL(`UPDATE saga_barrier SET call_op = '', call_until = {now}` + where + ` AND call_op = 'try' AND call_by = ? AND state = 'tried'`),
		giveUpTry:     d.SQL(`UPDATE saga_barrier SET call_until = {now}` + where + ` AND call_op = 'try' AND call_by = ? AND state = 'tried'`),
		affectedTells: d == dialect.MySQL,
	}
})
