package barrier

import "github.com/tccsaga/tccsaga/saga/internal/dialect"

// queries are the statements on the barrier row in one dialect. An insert, and an
// update of a row that has to match the request, take gid, branch id, caller, kind and
// input. The others take gid and branch id.
type queries struct {
	insertTried     string
	insertConfirmed string
	insertSuspended string
	confirm         string
	cancel          string
	turnAway        string
	stamp           string
	state           string
	look            string // takes the gid alone
	lookOf          string // takes a gid, a caller and a number of rows
	unnamed         string

	countsRows bool // an insert affects one row and an update two; otherwise both return turned_away
}

var statements = dialect.Each(func(d dialect.Dialect) queries {
	const where = ` WHERE gid = ? AND branch_id = ?`
	// Rows of version 1 of the schema have no caller, kind and input, and match every
	// request.
	const ours = where + ` AND caller IN (?, '') AND kind IN (?, '') AND input IN (?, '')`
	onConflict := ` ON CONFLICT (gid, branch_id) DO UPDATE SET turned_away = saga_barrier.turned_away + 1`
	returning := ` RETURNING turned_away`
	if d == dialect.MySQL {
		onConflict, returning = ` ON DUPLICATE KEY UPDATE turned_away = turned_away + 1`, ``
	}
	// A locking read sees the latest commit. The local transaction may have an older
	// snapshot, as by default on MySQL.
	share := ``
	if d == dialect.MySQL {
		share = ` LOCK IN SHARE MODE`
	}
	const look = `SELECT branch_id, state, caller, kind, input, call_op, call_by, COALESCE({micros call_since}, 0), COALESCE({micros call_until}, 0),
			COALESCE({micros call_until} - {micros now}, 0), COALESCE({micros tried_at}, 0), COALESCE({micros confirmed_at}, 0),
			COALESCE({micros cancelled_at}, 0), turned_away, COALESCE({micros turned_away_at}, 0)
			FROM saga_barrier WHERE gid = ?`
	return queries{
		insertTried: d.SQL(`INSERT INTO saga_barrier (gid, branch_id, state, caller, kind, input, tried_at)
			VALUES (?, ?, 'tried', ?, ?, ?, {now})` + onConflict + returning),
		insertConfirmed: d.SQL(`INSERT INTO saga_barrier (gid, branch_id, state, caller, kind, input, tried_at, confirmed_at)
			VALUES (?, ?, 'confirmed', ?, ?, ?, {now}, {now})` + onConflict + returning),
		insertSuspended: d.SQL(`INSERT INTO saga_barrier (gid, branch_id, state, caller, kind, input, cancelled_at)
			VALUES (?, ?, 'suspended', ?, ?, ?, {now})` + onConflict + returning),
		confirm:  d.SQL(`UPDATE saga_barrier SET state = 'confirmed', confirmed_at = {now}` + ours + ` AND state = 'tried'`),
		cancel:   d.SQL(`UPDATE saga_barrier SET state = 'cancelled', cancelled_at = {now}, turned_away = turned_away - 1` + ours + ` AND state = 'tried'`),
		turnAway: d.SQL(`UPDATE saga_barrier SET turned_away = turned_away + 1` + where),
		stamp:    d.SQL(`UPDATE saga_barrier SET turned_away_at = {now}` + where),
		state:    d.SQL(`SELECT state, caller, kind, input FROM saga_barrier` + where),
		look:     d.SQL(look + ` ORDER BY branch_id`),
		lookOf:   d.SQL(look + ` AND caller IN (?, '') ORDER BY branch_id LIMIT ?`),
		unnamed: d.SQL(`SELECT COUNT(*) FROM saga_transactions WHERE gid = ?
			AND NOT EXISTS (SELECT 1 FROM saga_branches WHERE saga_branches.gid = saga_transactions.gid AND branch_id = ?` + share + `)` + share),
		countsRows: d == dialect.MySQL,
	}
})
