package message

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/tcc"
)

// TryAll writes many messages into the outbox in one statement.
func (p *Publisher) TryAll(ctx context.Context, tx *gorm.DB, messages []tcc.Item[Publish]) (failures []error, err error) {
	failures = make([]error, len(messages))
	var rows []string
	var arguments []any
	for i, m := range messages {
		// The trace is that of the message's own caller.
		row, err := p.prepare(m.Context, m.In)
		if err != nil {
			failures[i] = err
			continue
		}
		rows = append(rows, "(?, ?, 'prepared', ?, ?, ?, "+now(tx)+")")
		arguments = append(arguments, m.GID, m.BranchID, row.subject, row.headers, row.data)
	}
	if len(rows) == 0 {
		return failures, nil
	}
	return failures, tx.Exec("INSERT INTO saga_outbox (gid, branch_id, state, subject, headers, data, prepared_at) VALUES "+
		strings.Join(rows, ", "), arguments...).Error
}

// DeliverAll publishes many messages, without waiting for one acknowledgement
// before it sends the next message.
func (p *Publisher) DeliverAll(ctx context.Context, messages []tcc.Item[Publish]) (receipts []any, failures []error) {
	receipts, failures = make([]any, len(messages)), make([]error, len(messages))
	gids := make([]string, len(messages))
	for i, m := range messages {
		gids[i] = m.GID
	}
	ctx, cancel := context.WithTimeout(ctx, p.config.AckTimeout)
	defer cancel()
	rows, err := p.read(ctx, gids...)
	var ready []broker.Message
	var of []int // the items that they are of
	for i, m := range messages {
		if failures[i] = err; err != nil {
			continue
		}
		var one broker.Message
		if one, failures[i] = messageOf(m.Call, rows); failures[i] == nil {
			ready, of = append(ready, one), append(of, i)
		}
	}
	for i, result := range p.stream.Publish(ctx, ready) {
		receipts[of[i]], failures[of[i]] = result.Receipt, result.Err
	}
	return receipts, failures
}

// ConfirmAll marks many messages published in one statement.
func (p *Publisher) ConfirmAll(ctx context.Context, tx *gorm.DB, messages []tcc.Item[Publish]) error {
	var sequences strings.Builder
	gids, named := make([]string, len(messages)), make([]any, len(messages))
	for i, m := range messages {
		ack, ok := m.Receipt.(broker.Receipt)
		switch {
		case !ok:
			return errors.New("a message was not delivered")
		case m.BranchID != messages[0].BranchID || ack.Stream != p.config.Stream:
			return errors.New("the messages have nothing in common")
		}
		gids[i], named[i] = m.GID, m.GID
		fmt.Fprintf(&sequences, " WHEN ? THEN %d", ack.Sequence)
	}
	result := tx.Exec("UPDATE saga_outbox SET state = 'published', published_at = "+now(tx)+", stream = ?, sequence = CASE gid"+sequences.String()+
		" END WHERE branch_id = ? AND gid IN ? AND state = 'prepared'", append(append([]any{p.config.Stream}, named...), messages[0].BranchID, gids)...)
	if result.Error == nil && result.RowsAffected != int64(len(messages)) {
		return errors.New("a message is not prepared in the outbox: was saga_outbox changed by hand?")
	}
	return result.Error
}
