package message

import (
	"fmt"

	"gorm.io/gorm"
)

// waitingReader reads the messages that a filter selects.
type waitingReader struct {
	db     *gorm.DB
	filter OutboxFilter
}

// waitingRow is a message as the database has it. Times are in microseconds since 1970.
type waitingRow struct {
	MessageID, Destination, Subject, OrderKey, AfterID, Error string
	GID                                                       string `gorm:"column:gid"`
	BranchID, State                                           string
	Bytes, HeaderBytes, Due, Next, Created                    int64
	Failures                                                  int
	Paused                                                    bool
}

func (r waitingRow) message() OutboxMessage {
	m := OutboxMessage{ID: r.MessageID, State: OutboxDue, Stream: r.Destination, Subject: r.Subject, Key: r.OrderKey, GID: r.GID, BranchID: r.BranchID,
		After: r.AfterID, Bytes: r.Bytes, Headers: r.HeaderBytes, DueAt: timeOf(r.Due), Failures: r.Failures, Error: r.Error, NextAt: timeOf(r.Next), Paused: r.Paused}
	if m.ID == "" {
		m.ID = r.GID + "/" + r.BranchID // written by schema version 1
	}
	switch {
	case r.State == "trying":
		m.State = OutboxUndecided
	case r.State == string(OutboxDelayed):
		m.State = OutboxDelayed
	case r.Failures > 0:
		m.State = OutboxFailing
	}
	return m
}

// unfinished selects the oldest unfinished transactions behind one place, and up to another one
// if that is not nil, along the index saga_transactions_finished.
func unfinished(db *gorm.DB, from outboxPlace, to *outboxPlace) (query string, arguments []any) {
	query = "SELECT gid, state, created_at, decided_at, paused_at, failures FROM saga_transactions"
	if db.Dialector.Name() == "mysql" {
		query += " FORCE INDEX (saga_transactions_finished)"
	}
	query += " WHERE finished_at IS NULL"
	add := func(sign string, p outboxPlace) { // the first condition uses the index
		query += fmt.Sprintf(" AND created_at %[1]s= %[2]s AND (created_at %[1]s %[2]s OR gid %[1]s= ?)", sign, at(db))
		arguments = append(arguments, p.Micros, p.Micros, p.GID)
	}
	if from.GID != "" { // a transaction with a place at one of its branches is looked at again
		add(">", from)
	}
	if to != nil {
		add("<", *to)
	}
	if db.Dialector.Name() == "postgres" {
		// Without finished_at, it reads all that is finished along the index of the begin.
		return query + " ORDER BY finished_at, created_at, gid", arguments
	}
	return query + " ORDER BY created_at, gid", arguments
}

// preparedOf joins the prepared messages of the transactions t of a window. It finds them by the
// primary key, whatever the database believes about the size of the tables.
func preparedOf(db *gorm.DB, window string) string {
	from := fmt.Sprintf(" FROM (%s LIMIT %d) t ", window, outboxStep)
	switch db.Dialector.Name() {
	case "mysql":
		from += "STRAIGHT_JOIN saga_outbox o FORCE INDEX (PRIMARY) ON o.gid = t.gid"
	case "postgres":
		from += "CROSS JOIN LATERAL (SELECT * FROM saga_outbox x WHERE x.gid = t.gid OFFSET 0) o"
	default:
		from += "CROSS JOIN saga_outbox o ON o.gid = t.gid"
	}
	return from + " WHERE o.state = 'prepared'"
}

// failedConfirms selects the failed Confirms of the message o. It is used with MAX, and not with
// EXISTS, for which MariaDB would read all failed attempts.
const failedConfirms = " FROM saga_attempts a WHERE a.gid = o.gid AND a.branch_id = o.branch_id AND a.operation = 'confirm'"

// ofTransactions returns messages of unfinished transactions behind a place. next is nil if all
// of these transactions were looked at.
func (r waitingReader) ofTransactions(p outboxPlace) (messages []OutboxMessage, next *outboxPlace, err error) {
	next = &p
	for step := 0; next != nil && step < outboxSteps && len(messages) < r.filter.Limit; step++ {
		var found []OutboxMessage
		if found, next, err = r.step(*next, r.filter.Limit-len(messages)); err != nil {
			return nil, nil, err
		}
		messages = append(messages, found...)
	}
	return messages, next, nil
}

// step is ofTransactions for one statement.
func (r waitingReader) step(p outboxPlace, limit int) (messages []OutboxMessage, next *outboxPlace, err error) {
	end, err := r.end(p)
	if err != nil {
		return nil, nil, err
	}
	window, arguments := unfinished(r.db, p, end)
	query := "SELECT o.message_id, o.destination, o.subject, o.order_key, o.gid, o.branch_id, t.state, t.failures, " + bytesOf(r.db, "o.data") + " AS bytes, " +
		bytesOf(r.db, "o.headers") + " AS header_bytes, t.paused_at IS NOT NULL AS paused, " + micros(r.db, "t.created_at") + " AS created, COALESCE(" +
		micros(r.db, "t.decided_at") + ", 0) AS due" + preparedOf(r.db, window) + " AND t.state IN ?"
	states := []string{"trying", "confirming"}
	switch r.filter.State {
	case OutboxUndecided:
		states = states[:1]
	case OutboxDue, OutboxFailing:
		states = states[1:]
	}
	arguments = append(arguments, states)
	if r.filter.State == OutboxFailing {
		query += " AND t.failures > 0 AND (SELECT MAX(a.attempt)" + failedConfirms + ") > 0"
	}
	if r.filter.Stream != "" {
		query, arguments = query+" AND o.destination = ?", append(arguments, r.filter.Stream)
	}
	if p.GID != "" {
		query, arguments = query+" AND (t.gid <> ? OR o.branch_id > ?)", append(arguments, p.GID, p.ID)
	}
	var rows []waitingRow
	if err := r.db.Raw(query+" ORDER BY t.created_at, t.gid, o.branch_id LIMIT ?", append(arguments, limit+1)...).Scan(&rows).Error; err != nil {
		return nil, nil, err
	}
	if len(rows) > limit {
		rows = rows[:limit]
		last := rows[limit-1]
		end = &outboxPlace{Micros: last.Created, GID: last.GID, ID: last.BranchID}
	}
	if err := r.addAttempts(rows); err != nil {
		return nil, nil, err
	}
	messages = make([]OutboxMessage, len(rows))
	for i, row := range rows {
		messages[i] = row.message()
	}
	return messages, end, nil
}

// end returns the place behind the transactions that one statement looks at; nil if it looks
// at all.
func (r waitingReader) end(from outboxPlace) (*outboxPlace, error) {
	var ends []waitingRow
	window, arguments := unfinished(r.db, from, nil)
	query := fmt.Sprintf("SELECT gid, %s AS created FROM (%s LIMIT 1 OFFSET %d) t", micros(r.db, "created_at"), window, outboxStep-1)
	if err := r.db.Raw(query, arguments...).Scan(&ends).Error; err != nil || len(ends) == 0 {
		return nil, err
	}
	return &outboxPlace{Micros: ends[0].Created, GID: ends[0].GID, ID: lastBranch}, nil
}

// lastBranch is behind the id of every branch.
const lastBranch = "~"

// addAttempts adds the last failed Confirm of each row, whose Failures are those of its
// transaction before.
func (r waitingReader) addAttempts(rows []waitingRow) error {
	byKey := map[[2]string]*waitingRow{}
	var gids []string
	for i := range rows {
		row := &rows[i]
		if row.Failures > 0 {
			byKey[[2]string{row.GID, row.BranchID}] = row
			gids = append(gids, row.GID)
		}
		row.Failures = 0
	}
	if len(gids) == 0 {
		return nil
	}
	var attempts []struct {
		GID             string `gorm:"column:gid"`
		BranchID, Error string
		Attempt         int
		Next            int64
	}
	err := r.db.Raw("SELECT o.gid, o.branch_id, o.attempt, o.error, CASE WHEN o.next_at > "+started(r.db)+" THEN "+micros(r.db, "o.next_at")+" ELSE 0 END AS next FROM saga_attempts o "+
		"WHERE o.gid IN ? AND o.operation = 'confirm' AND o.attempt = (SELECT MAX(a.attempt)"+failedConfirms+")", gids).Scan(&attempts).Error
	for _, a := range attempts {
		if row := byKey[[2]string{a.GID, a.BranchID}]; row != nil {
			row.Failures, row.Error, row.Next = a.Attempt, a.Error, a.Next
		}
	}
	return err
}

// others returns at most limit rows of saga_outbox_delayed behind a place. next is nil if all
// rows were looked at.
func (r waitingReader) others(p outboxPlace, limit int) (messages []OutboxMessage, next *outboxPlace, err error) {
	if p.Stream == "" {
		if p, err = r.nextStream(p); err != nil || p.Stream == "" {
			return nil, nil, err
		}
	}
	for looked := 0; ; looked++ {
		if limit == len(messages) || looked == outboxStreams {
			return messages, &p, nil
		}
		found, next, err := r.ofStream(p, limit-len(messages))
		if err != nil {
			return nil, nil, err
		}
		if messages = append(messages, found...); next != nil {
			return messages, next, nil
		}
		if p, err = r.nextStream(p); err != nil || p.Stream == "" {
			return messages, nil, err
		}
	}
}

// nextStream returns the begin of the next stream; without a name if there is none.
func (r waitingReader) nextStream(p outboxPlace) (outboxPlace, error) {
	next := outboxPlace{Others: true}
	if r.filter.Stream != "" {
		if p.Stream == "" {
			next.Stream = r.filter.Stream
		}
		return next, nil
	}
	var err error
	next.Stream, err = streamAfter(r.db, p.Stream)
	return next, err
}

// streamAfter returns the next stream with rows in saga_outbox_delayed, by one step in its
// index; empty if there is none.
func streamAfter(db *gorm.DB, stream string) (next string, err error) {
	err = db.Raw("SELECT COALESCE(MIN(destination), '') FROM saga_outbox_delayed WHERE destination > ?", stream).Scan(&next).Error
	return next, err
}

// ofStream returns at most limit rows of a stream behind a place.
func (r waitingReader) ofStream(p outboxPlace, limit int) (messages []OutboxMessage, next *outboxPlace, err error) {
	where, arguments := "destination = ?", []any{p.Stream}
	if p.ID != "" { // the first condition uses the index
		where += " AND due_at >= " + at(r.db) + " AND (due_at > " + at(r.db) + " OR message_id > ?)"
		arguments = append(arguments, p.Micros, p.Micros, p.ID)
	}
	window := limit + 1
	switch r.filter.State {
	case OutboxDelayed:
		where += " AND due_at > " + started(r.db)
	case OutboxDue:
		where += " AND due_at <= " + started(r.db)
	case OutboxFailing:
		where += " AND due_at <= " + started(r.db)
		window = outboxWindow
	}
	var keys []struct {
		MessageID string
		Due       int64
		Failures  int
	}
	// The data are read by the primary key afterwards, only those of the page.
	if err := r.db.Raw("SELECT message_id, failures, "+micros(r.db, "due_at")+" AS due FROM saga_outbox_delayed WHERE "+where+
		" ORDER BY due_at, message_id LIMIT ?", append(arguments, window)...).Scan(&keys).Error; err != nil {
		return nil, nil, err
	}
	var ids []string
	for i, k := range keys {
		if len(ids) == limit || len(keys) == window && i == window-1 {
			before := keys[i-1]
			next = &outboxPlace{Others: true, Stream: p.Stream, Micros: before.Due, ID: before.MessageID}
			break
		}
		if r.filter.State != OutboxFailing || k.Failures > 0 {
			ids = append(ids, k.MessageID)
		}
	}
	if len(ids) == 0 {
		return nil, next, nil
	}
	var rows []waitingRow
	if err := r.db.Raw("SELECT message_id, destination, subject, after_id, error, gid, branch_id, failures, "+bytesOf(r.db, "data")+" AS bytes, "+bytesOf(r.db, "headers")+
		" AS header_bytes, "+micros(r.db, "due_at")+" AS due, CASE WHEN claimed_until > "+started(r.db)+" THEN "+micros(r.db, "claimed_until")+
		" ELSE 0 END AS next, CASE WHEN due_at > "+started(r.db)+" THEN 'delayed' ELSE '' END AS state FROM saga_outbox_delayed WHERE message_id IN ? ORDER BY due_at, message_id", ids).
		Scan(&rows).Error; err != nil {
		return nil, nil, err
	}
	for _, row := range rows {
		messages = append(messages, row.message())
	}
	return messages, next, nil
}
