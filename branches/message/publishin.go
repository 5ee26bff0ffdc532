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
	if err := d.insert(tx.Session(&gorm.Session{NewDB: true, Context: ctx}), rows, expected != nil); err != nil {
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
	base := rand.Text()
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

func (d *direct) encode(ctx context.Context, m Publish) (headers string, data []byte, err error) {
	switch {
	case m.Key != "":
		return "", nil, fmt.Errorf("%w: it has a Key, but local transactions of callers have no order: use tcc.ExecuteIn, whose decisions have one", ErrInvalid)
	case m.Kind != "" && m.Kind != d.p.Kind():
		return "", nil, fmt.Errorf("%w: its Kind %q is of another publisher, this one has the kind %q", ErrInvalid, m.Kind, d.p.Kind())
	}
	return d.p.encode(ctx, saga.Call{}, m)
}

// insert writes rows. If they are claimed, only this Publisher publishes them, until the end
// of the claim. Delayed messages are never claimed.
func (d *direct) insert(tx *gorm.DB, rows []*outboxRow, claimed bool) error {
	claim := "NULL"
	if claimed {
		claim = later(tx, d.claim())
	}
	for len(rows) > 0 {
		var tuples []string
		var values []any
		size := 0
		for _, r := range rows {
			if size += len(r.Headers) + len(r.Data); len(tuples) > 0 && (size > maxInsertBytes || len(tuples) == maxInsertRows) {
				break
			}
			due, until := now(tx), claim
			if r.Delay > 0 {
				due, until = later(tx, time.Duration(r.Delay)*time.Microsecond), "NULL"
			}
			tuples = append(tuples, "(?, '', '', ?, ?, ?, ?, ?, "+due+", "+until+")")
			values = append(values, r.MessageID, r.AfterID, d.p.config.Stream, r.Subject, r.Headers, r.Data)
		}
		result := tx.Exec("INSERT INTO saga_outbox_delayed (message_id, gid, branch_id, after_id, destination, subject, headers, data, due_at, claimed_until) VALUES "+
			strings.Join(tuples, ", "), values...)
		if result.Error != nil {
			return result.Error
		}
		if result.RowsAffected != int64(len(tuples)) {
			return fmt.Errorf("%d rows were written, not %d: is it a handle for a dry run?", result.RowsAffected, len(tuples))
		}
		rows = rows[len(tuples):]
	}
	return nil
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
