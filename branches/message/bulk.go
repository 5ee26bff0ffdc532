package message

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
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
	sent := make([]jetstream.PubAckFuture, len(messages))
	for i, m := range messages {
		if failures[i] = err; err != nil {
			continue
		}
		if sent[i], failures[i] = p.send(m.Call, rows); errors.Is(failures[i], jetstream.ErrTooManyStalledMsgs) {
			err = failures[i] // the others need not wait for that, too
		}
	}
	for i, future := range sent {
		if future != nil {
			receipts[i], failures[i] = acknowledgement(ctx, future)
		}
	}
	return receipts, failures
}

// send publishes a message and does not wait for its acknowledgement.
func (p *Publisher) send(call saga.Call, rows map[string]outboxRow) (jetstream.PubAckFuture, error) {
	msg, id, err := messageOf(call, rows)
	if err != nil {
		return nil, err
	}
	if err := p.connected(); err != nil {
		return nil, publishing(msg, err)
	}
	future, err := p.js.PublishMsgAsync(msg, p.options(id)...)
	if err != nil {
		return nil, publishing(msg, err)
	}
	return future, nil
}

func acknowledgement(ctx context.Context, future jetstream.PubAckFuture) (receipt any, err error) {
	select {
	case ack := <-future.Ok():
		return ack, nil
	case err = <-future.Err():
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return nil, publishing(future.Msg(), err)
}

// ConfirmAll marks many messages published in one statement.
func (p *Publisher) ConfirmAll(ctx context.Context, tx *gorm.DB, messages []tcc.Item[Publish]) error {
	var sequences strings.Builder
	gids, named := make([]string, len(messages)), make([]any, len(messages))
	for i, m := range messages {
		ack, ok := m.Receipt.(*jetstream.PubAck)
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
