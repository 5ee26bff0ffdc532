package message

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
)

const (
	// maxInsertRows and maxInsertBytes limit one INSERT of PublishIn.
	maxInsertRows  = 500
	maxInsertBytes = 1 << 20
)

// write writes messages in the local transaction tx, and begins to watch for its commit.
func (d *direct) write(ctx context.Context, tx *gorm.DB, messages []Publish) error {
	if err := d.accepts(tx); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	rows, err := d.rows(ctx, messages)
	if err != nil {
		return err
	}
	expected, err := d.reserve(rows)
	if err != nil {
		return err
	}
	if err := d.insert(ctx, tx, rows, expected != nil); err != nil {
		d.drop(expected)
		return fmt.Errorf("writing the outbox: %w", err)
	}
	d.watch(expected)
	return nil
}

// accepts returns why messages cannot be written in tx.
func (d *direct) accepts(tx *gorm.DB) error {
	notIn := errors.New("the handle is not in a local transaction: give the tx of db.Transaction or db.Begin")
	if tx == nil || tx.Config == nil || tx.Statement == nil {
		return notIn
	}
	if _, in := tx.Statement.ConnPool.(gorm.TxCommitter); !in {
		return notIn
	}
	pool, err := tx.DB()
	if err != nil {
		return fmt.Errorf("finding the pool of the local transaction: %w", err)
	}
	if pool != d.pool {
		return errors.New("the local transaction is of another pool than the outbox: begin it on the handle that NewPublisher got")
	}
	return nil
}

// rows returns the rows of messages.
func (d *direct) rows(ctx context.Context, messages []Publish) ([]*outboxRow, error) {
	rows := make([]*outboxRow, len(messages))
	last := map[string]string{} // message of each subject
	base := newID()
	for i, m := range messages {
		headers, data, err := d.encode(ctx, m)
		if err != nil {
			return nil, fmt.Errorf("message %d: %w", i+1, err)
		}
		r := &outboxRow{MessageID: base, Subject: m.Subject, Headers: headers, Data: data, Delay: m.After.Microseconds()}
		if len(messages) > 1 {
			r.MessageID = fmt.Sprintf("%s/%06d", base, i+1) // rows are read in the order of the ids
		}
		if r.Delay == 0 {
			r.AfterID, last[m.Subject] = last[m.Subject], r.MessageID
		}
		rows[i] = r
	}
	return rows, nil
}

// newID returns an id that nothing else has. It begins with the time, so that new rows are
// beside each other in the index.
func newID() string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUV" // in the order of ASCII
	var at [9]byte
	for i, left := len(at)-1, time.Now().UnixMilli(); i >= 0; i, left = i-1, left/int64(len(digits)) {
		at[i] = digits[left%int64(len(digits))]
	}
	return string(at[:]) + rand.Text()
}

func (d *direct) encode(ctx context.Context, m Publish) (headers string, data []byte, err error) {
	switch {
	case m.Key != "":
		return "", nil, fmt.Errorf("%w: it has a Key, but local transactions of callers have no order: use tcc.ExecuteIn, whose decisions have one", ErrInvalid)
	case m.Kind != "" && m.Kind != d.p.Kind():
		return "", nil, fmt.Errorf("%w: its Kind %q is of another publisher, this one has the kind %q", ErrInvalid, m.Kind, d.p.Kind())
	}
	return d.p.encode(ctx, saga.Call{}, m)
}

// insert writes rows, past gorm's callbacks, hooks and settings for a dry run. If they are claimed, only this Publisher publishes them, until the end
// of the claim. Delayed messages are never claimed.
func (d *direct) insert(ctx context.Context, tx *gorm.DB, rows []*outboxRow, claimed bool) error {
	claim := "NULL"
	if claimed {
		claim = later(tx, d.claim())
	}
	for len(rows) > 0 {
		var statement strings.Builder
		statement.WriteString("INSERT INTO saga_outbox_delayed (message_id, gid, branch_id, after_id, destination, subject, headers, data, due_at, claimed_until) VALUES ")
		var values []any
		n, size := 0, 0
		for _, r := range rows {
			if size += len(r.Headers) + len(r.Data); n > 0 && (size > maxInsertBytes || n == maxInsertRows) {
				break
			}
			due, until := now(tx), claim
			if r.Delay > 0 {
				due, until = later(tx, time.Duration(r.Delay)*time.Microsecond), "NULL"
			}
			if n++; n > 1 {
				statement.WriteString(", ")
			}
			statement.WriteString(tuple(tx, len(values), due, until))
			values = append(values, r.MessageID, r.AfterID, d.p.config.Stream, r.Subject, r.Headers, r.Data)
		}
		if _, err := tx.Statement.ConnPool.ExecContext(ctx, statement.String(), values...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// tuple returns the values of a row, of which named are before it.
func tuple(tx *gorm.DB, named int, due, until string) string {
	if tx.Name() == "postgres" {
		return fmt.Sprintf("($%d, '', '', $%d, $%d, $%d, $%d, $%d, %s, %s)", named+1, named+2, named+3, named+4, named+5, named+6, due, until)
	}
	return "(?, '', '', ?, ?, ?, ?, ?, " + due + ", " + until + ")"
}

// kept returns the rows that are published soon after the commit, with data of their own,
// because the caller may change its data. It also returns their size.
func kept(rows []*outboxRow) (soon []*outboxRow, size int) {
	for _, r := range rows {
		if r.Delay == 0 {
			soon = append(soon, r)
			size += len(r.Data) + len(r.Headers)
		}
	}
	for _, r := range soon {
		r.Data = bytes.Clone(r.Data)
	}
	return soon, size
}
