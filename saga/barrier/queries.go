package barrier

import (
	"strings"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

// queries are the statements on the barrier row in one dialect. Every query
// takes gid and branch id, in this order.
type queries struct {
	insertTried     string
	insertSuspended string
	confirm         string
	cancel          string
	turnAway        string
	stamp           string
	state           string
	look            string // takes the gid alone
	tryAll          func(tries) string
	confirmAll      func(confirms) string // takes branch ids, then gids

	affectedTells bool // the affected rows of an insert tell it from an update; else it returns turned_away
}

// tries is how many rows an insert has, of branches that are tried, and of
// those that are confirmed too.
type tries struct{ tried, confirmed int }

// confirms is how many branch ids, and how many gids, an update names.
type confirms struct{ branches, gids int }

var statements = dialect.Each(func(d dialect.Dialect) queries {
	const where = ` WHERE gid = ? AND branch_id = ?`
	onConflict := ` ON CONFLICT (gid, branch_id) DO UPDATE SET turned_away = saga_barrier.turned_away + 1`
	seen := ` RETURNING turned_away`
	if d == dialect.MySQL {
		onConflict, seen = ` ON DUPLICATE KEY UPDATE turned_away = turned_away + 1`, ``
	}
	return queries{
		insertTried: d.SQL(`INSERT INTO saga_barrier (gid, branch_id, state, tried_at)
			VALUES (?, ?, 'tried', {now})` + onConflict + seen),
		insertSuspended: d.SQL(`INSERT INTO saga_barrier (gid, branch_id, state, cancelled_at)
			VALUES (?, ?, 'suspended', {now})` + onConflict + seen),
		confirm:  d.SQL(`UPDATE saga_barrier SET state = 'confirmed', confirmed_at = {now}` + where + ` AND state = 'tried'`),
		cancel:   d.SQL(`UPDATE saga_barrier SET state = 'cancelled', cancelled_at = {now}, turned_away = turned_away - 1` + where + ` AND state = 'tried'`),
		turnAway: d.SQL(`UPDATE saga_barrier SET turned_away = turned_away + 1` + where),
		stamp:    d.SQL(`UPDATE saga_barrier SET turned_away_at = {now}` + where),
		state:    d.SQL(`SELECT state FROM saga_barrier` + where),
		look: d.SQL(`SELECT branch_id, state, COALESCE({micros tried_at}, 0), COALESCE({micros confirmed_at}, 0),
			COALESCE({micros cancelled_at}, 0), turned_away, COALESCE({micros turned_away_at}, 0)
			FROM saga_barrier WHERE gid = ? ORDER BY branch_id`),
		tryAll: dialect.Remembered(func(n tries) string {
			rows := strings.Repeat(`, (?, ?, 'tried', {now}, NULL)`, n.tried) + strings.Repeat(`, (?, ?, 'confirmed', {now}, {now})`, n.confirmed)
			return d.SQL(`INSERT INTO saga_barrier (gid, branch_id, state, tried_at, confirmed_at) VALUES ` + rows[2:])
		}),
		confirmAll: dialect.Remembered(func(n confirms) string {
			return d.SQL(`UPDATE saga_barrier SET state = 'confirmed', confirmed_at = {now}
				WHERE state = 'tried' AND branch_id IN (?` + strings.Repeat(`, ?`, n.branches-1) +
				`) AND gid IN (?` + strings.Repeat(`, ?`, n.gids-1) + `)`)
		}),
		affectedTells: d == dialect.MySQL,
	}
})
