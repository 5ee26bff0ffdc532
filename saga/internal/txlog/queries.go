package txlog

import (
	"strings"

	"github.com/tccsaga/tccsaga/saga/internal/dialect"
)

const selectRecords = `SELECT saga_transactions.gid, pattern, state, digest, reason, reason_code, reason_branch, decided_by, attention, owner, epoch, failures,
	try_attempts, parent, {micros saga_transactions.created_at}, {micros deadline_at}, COALESCE({micros due_at}, 0), COALESCE({micros decided_at}, 0),
	COALESCE({micros finished_at}, 0), COALESCE({micros paused_at}, 0), COALESCE({micros prepared_at}, 0), trace, {micros now},
	deadline_at <= {now} AND prepared_at IS NULL FROM saga_transactions`

// queries are the log's statements in one dialect. A statement with a list of placeholders
// is a function of their number.
type queries struct {
	dialect          dialect.Dialect
	insert           map[string]func(rows int) string // by state
	insertTraced     map[string]func(rows int) string // the same, with a trace
	insertBranches   func(branchRows) string
	finishAll        func(int) string
	confirmAll       func(int) string // takes who decides, the owner, microseconds until it is due, the epoch, then gids
	lockOpen, branch string
	lockAllOpen      func(int) string
	rooms            func(int) string
	insertTried      func(rows int) string
	removeBranches   func(int) string
	size             string
	decide           string // by the branch that decides
	decideHere       string // if there is no such branch
	decideInTime     string // the same, before the deadline
	finish, tried    string
	holdForward      string
	done             func(int) string
	fail             string
	attempt          string
	attemptLast      string
	attemptsLast     func(rows int) string
	deleteAttempts   string
	get, getLocked   string
	allLocked        func(int) string
	decideAll        map[string]func(int) string // by state
	inUse            func(int) string
	shown            func(int) string
	branches         func(int) string
	attempts         func(int) string
	renew, resign    string
	deleteExpired    string
	makeDue          func(int) string
	logID            string
	candidates       string
	kindsOf          func(int) string
	claim            func(int) string
	lockedBranches   func(int) string
	postpone, take   func(int) string
	unclaimed        string
	operator         operatorQueries
	clean            cleanQueries
	nested           nestedQueries
	overview         overviewQueries
	labels           labelQueries
	bulk             bulkQueries
}

// branchRows is the number of open and of done branches in an insert. Ordered says that they
// have a stage and a role.
type branchRows struct {
	open, done int
	ordered    bool
}

// forward is the key of the insert of an undecided transaction with forward recovery.
const forward = "forward"

var statements = dialect.Each(func(d dialect.Dialect) queries {
	many := func(before, after string) func(int) string { return withList(d, before, after) }
	// PostgreSQL would end the user's local transaction after a duplicate key.
	unlessThere := ``
	if d == dialect.Postgres {
		unlessThere = ` ON CONFLICT (gid) DO NOTHING`
	}
	decided := `{now}`
	if d == dialect.SQLite {
		// SQLite's clock has milliseconds. A counter behind them keeps the order of decisions
		// within one.
		decided = `COALESCE((SELECT substr(MAX(d.decided_at), 1, 23) || printf('%06d', CAST(substr(MAX(d.decided_at), 24) AS INTEGER) + 1)
			FROM saga_transactions AS d WHERE d.decided_at >= {now} AND d.decided_at < {now} || 'x'), {now})`
	}
	insert := func(columns, values string) func(rows int) string {
		return rowsOf(d, `INSERT INTO saga_transactions (gid, pattern, state, digest, decided_by, owner, deadline_at, created_at, `+
			columns+`) VALUES `, `(?, ?, ?, ?, ?, ?, {after ?}, {now}, `+values+`)`, unlessThere)
	}
	inserts := func(columns, values string) map[string]func(rows int) string {
		return map[string]func(int) string{
			Trying:     insert(`due_at`+columns, `{after ?}`+values),
			forward:    insert(`due_at, try_attempts`+columns, `{after ?}, ?`+values),
			Confirming: insert(`due_at, decided_at`+columns, `{after ?}, `+decided+values),
			Confirmed:  insert(`decided_at, finished_at`+columns, `{now}, {now}`+values),
			Cancelled:  insert(`reason, reason_code, reason_branch, decided_at, finished_at`+columns, `?, ?, ?, {now}, {now}`+values),
		}
	}
	const byNoBranch = ` AND NOT EXISTS (SELECT 1 FROM saga_branches WHERE saga_branches.gid = saga_transactions.gid AND role = 'decides')`
	const inTime = ` AND (deadline_at > {now} OR prepared_at IS NOT NULL)`
	setDecided := `UPDATE saga_transactions SET state = ?, reason = ?, reason_code = ?, reason_branch = ?, decided_by = ?, owner = ?, epoch = epoch + ?,
		failures = failures + ?, attention = '', decided_at = ` + decided + `, due_at = {after ?} WHERE state = 'trying' AND (epoch = ? OR ? = 0)`
	decide, decideMany := setDecided+` AND gid = ?`, setDecided+byNoBranch
	decideHere := decide + byNoBranch
	const insertAttempt = `INSERT INTO saga_attempts (gid, branch_id, operation, attempt, error, code, instance, failed_at, next_at) VALUES `
	const attemptValues = `(?, ?, ?, ?, ?, ?, ?, {now}, `
	const attempt = insertAttempt + attemptValues
	// A stale driver may have written the attempt already. The newer epoch replaces it.
	overwrite := ` ON CONFLICT (gid, branch_id, operation, attempt) DO UPDATE SET error = excluded.error, code = excluded.code,
		instance = excluded.instance, failed_at = excluded.failed_at, next_at = excluded.next_at`
	extend := ` ON CONFLICT (instance) DO UPDATE SET lease_until = {after ?}`
	skip := ` FOR UPDATE SKIP LOCKED`
	if d == dialect.MySQL {
		overwrite = ` ON DUPLICATE KEY UPDATE error = VALUES(error), code = VALUES(code), instance = VALUES(instance),
			failed_at = VALUES(failed_at), next_at = VALUES(next_at)`
		extend = ` ON DUPLICATE KEY UPDATE lease_until = {after ?}`
	}
	const branches = `SELECT gid, branch_id, kind, payload, stage, role, COALESCE({micros done_at}, 0), tried_at IS NOT NULL FROM saga_branches WHERE gid IN `
	const claimable = `(owner = ? OR owner NOT IN (SELECT instance FROM saga_instances WHERE lease_until > {now}))
		AND (paused_at IS NULL OR state = 'trying' AND (try_attempts = 0 OR deadline_at <= {now}))`
	octets := `OCTET_LENGTH(payload)`
	const open = ` WHERE state = 'trying' AND deadline_at > {now} AND prepared_at IS NULL AND gid `
	lockOpen := `SELECT {micros deadline_at} - {micros now} FROM saga_transactions` + open + `= ? FOR UPDATE`
	lockAllOpen := many(`SELECT gid, pattern FROM saga_transactions`+open+`IN `, ` ORDER BY gid FOR UPDATE`)
	if d == dialect.SQLite {
		// SQLite has no locking reads; a write locks.
		lockOpen = `UPDATE saga_transactions SET epoch = epoch` + open + `= ? RETURNING {micros deadline_at} - {micros now}`
		lockAllOpen = many(`UPDATE saga_transactions SET epoch = epoch`+open+`IN `, ` RETURNING gid, pattern`)
		skip = ``
		octets = `LENGTH(CAST(payload AS BLOB))`
	}
	return queries{
		dialect: d,
		insert:  inserts(``, ``), insertTraced: inserts(`, trace`, `, ?`),
		insertBranches: dialect.Remembered(func(n branchRows) string {
			columns, values := `gid, branch_id, kind, payload, `, `, (?, ?, ?, ?, `
			if n.ordered {
				columns, values = columns+`stage, role, `, values+`?, ?, `
			}
			rows := strings.Repeat(values+`NULL)`, n.open) + strings.Repeat(values+`{now})`, n.done)
			return d.SQL(`INSERT INTO saga_branches (` + columns + `done_at) VALUES ` + rows[2:])
		}),
		finishAll: many(`UPDATE saga_transactions SET state = CASE state WHEN 'confirming' THEN 'confirmed' ELSE 'cancelled' END,
			due_at = NULL, attention = '', finished_at = {now} WHERE state IN ('confirming', 'cancelling') AND epoch = ? AND gid IN `, ``),
		confirmAll: many(`UPDATE saga_transactions SET state = 'confirming', decided_by = ?, owner = ?, attention = '', decided_at = `+decided+`, due_at = {after ?}
			WHERE state = 'trying' AND epoch = ?`+inTime+byNoBranch+` AND gid IN `, ``),
		lockOpen:    d.SQL(lockOpen),
		lockAllOpen: lockAllOpen,
		rooms: many(`SELECT gid, COUNT(*), COALESCE(SUM(`+octets+`), 0), SUM(CASE WHEN branch_id = ? THEN 1 ELSE 0 END) FROM saga_branches WHERE gid IN `,
			` GROUP BY gid`),
		insertTried:    rowsOf(d, `INSERT INTO saga_branches (gid, branch_id, kind, payload, tried_at) VALUES `, `(?, ?, ?, ?, {now})`, ``),
		removeBranches: many(`DELETE FROM saga_branches WHERE branch_id = ? AND gid IN `, ``),
		branch:         d.SQL(`SELECT kind, payload, tried_at IS NOT NULL FROM saga_branches WHERE gid = ? AND branch_id = ?`),
		size:           d.SQL(`SELECT COUNT(*), COALESCE(SUM(` + octets + `), 0) FROM saga_branches WHERE gid = ?`),
		decide:         d.SQL(decide),
		decideHere:     d.SQL(decideHere),
		decideInTime:   d.SQL(decideHere + inTime),
		finish: d.SQL(`UPDATE saga_transactions SET state = CASE state WHEN 'confirming' THEN 'confirmed' ELSE 'cancelled' END,
			due_at = NULL, attention = '', finished_at = {now} WHERE gid = ? AND epoch = ? AND state IN ('confirming', 'cancelling')`),
		tried:       d.SQL(`UPDATE saga_branches SET tried_at = {now} WHERE gid = ? AND branch_id = ?`),
		holdForward: d.SQL(`SELECT paused_at IS NOT NULL FROM saga_transactions WHERE gid = ? AND epoch = ? AND state = 'trying' {lock}`),
		done:        many(`UPDATE saga_branches SET done_at = {now} WHERE done_at IS NULL AND gid = ? AND branch_id IN `, ``),
		fail: d.SQL(`UPDATE saga_transactions SET failures = failures + ?, attention = CASE WHEN ? <> '' THEN ? ELSE attention END,
			owner = CASE WHEN ? = 1 THEN '' ELSE owner END, due_at = CASE WHEN due_at <= {now} THEN {now} ELSE {after ?} END
			WHERE gid = ? AND epoch = ? AND due_at IS NOT NULL`),
		attempt:        d.SQL(attempt + `{after ?})` + overwrite),
		attemptLast:    d.SQL(attempt + `NULL)` + overwrite),
		attemptsLast:   rowsOf(d, insertAttempt, attemptValues+`NULL)`, overwrite),
		deleteAttempts: d.SQL(`DELETE FROM saga_attempts WHERE gid = ? AND branch_id = ? AND operation = ? AND attempt <= ?`),
		get:            d.SQL(selectRecords + ` WHERE gid = ?`),
		getLocked:      d.SQL(selectRecords + ` WHERE gid = ? {lock}`),
		allLocked:      many(selectRecords+` WHERE gid IN `, ` ORDER BY gid {lock}`),
		decideAll: map[string]func(int) string{
			Confirming: many(decideMany+inTime+` AND gid IN `, ``),
			Cancelling: many(decideMany+` AND gid IN `, ``),
		},
		inUse:    many(`SELECT gid FROM saga_transactions WHERE gid IN `, ``),
		shown:    many(`SELECT gid, digest FROM saga_transactions WHERE state = 'confirming' AND epoch = 1 AND owner = ? AND gid IN `, ``),
		branches: many(branches, ` ORDER BY gid, branch_id`),
		attempts: many(`SELECT gid, branch_id, operation, attempt, error, code, instance, {micros failed_at},
			COALESCE({micros next_at}, 0), {micros now} FROM saga_attempts WHERE gid IN `,
			` ORDER BY gid, branch_id, operation, attempt`),
		renew: d.SQL(`INSERT INTO saga_instances (instance, host, pid, started_at, lease_until)
			VALUES (?, ?, ?, {now}, {after ?})` + extend),
		resign:        d.SQL(`DELETE FROM saga_instances WHERE instance = ?`),
		deleteExpired: d.SQL(`DELETE FROM saga_instances WHERE lease_until < {after ?}`),
		makeDue:       many(`UPDATE saga_transactions SET due_at = {now} WHERE owner = ? AND due_at IS NOT NULL AND gid IN `, ``),
		logID:         `SELECT log_id FROM saga_schema WHERE id = 1`,
		candidates: d.SQL(`SELECT gid, state, attention, state = 'trying' AND try_attempts <> 0 AND deadline_at > {now}, {micros due_at}, {micros now}
			FROM saga_transactions WHERE due_at >= {at ?} AND (due_at > {at ?} OR gid > ?) AND due_at <= {start} AND ` + claimable + ` ORDER BY due_at, gid LIMIT ?`),
		kindsOf:        many(`SELECT DISTINCT gid, kind, role = 'decides' FROM saga_branches WHERE gid IN `, ``),
		claim:          many(selectRecords+` WHERE due_at <= {start} AND `+claimable+` AND gid IN `, ` ORDER BY due_at`+skip),
		lockedBranches: many(branches, ` ORDER BY gid, branch_id {lock}`),
		unclaimed: d.SQL(`UPDATE saga_transactions SET attention = ? WHERE gid = ? AND attention = '' AND due_at IS NOT NULL
			AND (state <> 'trying' OR EXISTS (SELECT 1 FROM saga_branches WHERE saga_branches.gid = saga_transactions.gid AND role = 'decides'))`),
		postpone: many(`UPDATE saga_transactions SET due_at = CASE WHEN state = 'trying' AND deadline_at < {after ?}
			THEN deadline_at ELSE {after ?} END WHERE due_at IS NOT NULL AND gid IN `, ``),
		take: many(`UPDATE saga_transactions SET owner = ?, epoch = epoch + 1, due_at = {after ?}
			WHERE due_at IS NOT NULL AND gid IN `, ``),
		operator: operatorStatements(d),
		clean:    cleanStatements(d),
		nested:   nestedStatements(d),
		overview: overviewStatements(d),
		labels:   labelStatements(d),
		bulk:     bulkStatements(d),
	}
})

// withList returns a statement with a list of n placeholders between before and after.
func withList(d dialect.Dialect, before, after string) func(n int) string {
	return dialect.Remembered(func(n int) string { return d.SQL(before + in(n) + after) })
}

// rowsOf returns an INSERT of n rows.
func rowsOf(d dialect.Dialect, before, row, after string) func(n int) string {
	return dialect.Remembered(func(n int) string { return d.SQL(before + row + strings.Repeat(", "+row, n-1) + after) })
}
