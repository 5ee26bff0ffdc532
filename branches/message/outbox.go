package message

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/tcc"
)

const (
	statePrepared  = "prepared"
	stateDiscarded = "discarded"
)

// noHeaders are the headers of a message without any.
const noHeaders = "{}"

// Limits of a message in the outbox.
const (
	maxSubject = 255      // bytes
	maxKey     = 200      // bytes
	maxHeaders = 48 << 10 // bytes as JSON: their column has 64 KiB, and some are added
	maxAfter   = 10 * 8766 * time.Hour
)

// prepared has the columns of a new message in the outbox.
type prepared struct {
	id, headers string
	data        []byte
}

// prepare checks a message, and writes the trace of ctx into its headers.
func (p *Publisher) prepare(ctx context.Context, call saga.Call, in Publish) (prepared, error) {
	headers, data, err := p.encode(ctx, call, in)
	if err != nil {
		return prepared{}, tcc.Reject(err)
	}
	// A gid may be used by other services, and again after the retention.
	return prepared{call.Key().String() + "/" + rand.Text(), headers, data}, nil
}

// encode checks a message, and returns its columns, with the trace of ctx in the headers.
func (p *Publisher) encode(ctx context.Context, call saga.Call, in Publish) (text string, data []byte, err error) {
	if err = p.check(call, in); err != nil {
		return "", nil, err
	}
	headers := make(map[string][]string, len(in.Headers))
	maps.Copy(headers, in.Headers)
	p.config.Propagator.Inject(ctx, carrier(headers))
	if in.Key != "" {
		headers[HeaderKey] = []string{url.PathEscape(in.Key)}
	}
	encoded := []byte(noHeaders)
	if len(headers) > 0 {
		if encoded, err = json.Marshal(headers); err != nil {
			return "", nil, fmt.Errorf("encoding the headers: %w", err)
		}
	}
	if len(encoded) > maxHeaders {
		return "", nil, fmt.Errorf("%w: the headers have %d bytes, %d are allowed", ErrInvalid, len(encoded), maxHeaders)
	}
	if err = p.stream.Check(broker.Message{Subject: in.Subject, Headers: headers, Data: in.Data}); err != nil {
		return "", nil, err
	}
	if data = in.Data; data == nil {
		data = []byte{}
	}
	return string(encoded), data, nil
}

// check returns the reason why the outbox can never store a message.
func (p *Publisher) check(call saga.Call, in Publish) error {
	for name := range in.Headers {
		if strings.HasPrefix(strings.ToLower(name), "tccsaga-") {
			return fmt.Errorf("%w: the header name %.80q is reserved", ErrInvalid, name)
		}
	}
	switch {
	case len(in.Subject) > maxSubject:
		return fmt.Errorf("%w: the subject %.80q has %d bytes, %d are allowed", ErrInvalid, in.Subject, len(in.Subject), maxSubject)
	case len(in.Key) > maxKey || strings.ContainsRune(in.Key, 0):
		return fmt.Errorf("%w: the key %.80q has %d bytes, %d are allowed, none of them zero", ErrInvalid, in.Key, len(in.Key), maxKey)
	case in.After < 0 || in.After > maxAfter:
		return fmt.Errorf("%w: After is %s, it must be between 0 and ten years", ErrInvalid, in.After)
	case in.After > 0 && in.Key != "":
		return fmt.Errorf("%w: it has a Key and After: a delayed message has no order", ErrInvalid)
	case in.Key != "" && call.Caller != p.logID:
		return fmt.Errorf("%w: it has a Key, but the outbox is not in the engine's database, which has the order of the decisions: give NewPublisher the engine's database", ErrInvalid)
	}
	return nil
}

// Try writes the message into the outbox. It rejects a message that can never be
// published.
func (p *Publisher) Try(ctx context.Context, tx *gorm.DB, in Publish) error {
	failures, err := p.TryAll(ctx, tx, []tcc.Item[Publish]{{BatchCall: saga.BatchCall{Context: ctx, Call: tcc.CallOf(ctx)}, In: in}})
	return errors.Join(err, failures[0])
}

// TryAll writes many messages into the outbox in one statement.
func (p *Publisher) TryAll(ctx context.Context, tx *gorm.DB, messages []tcc.Item[Publish]) (failures []error, err error) {
	failures = make([]error, len(messages))
	var rows, ordered []string
	var values, orderedValues []any
	for i, m := range messages {
		// m.Context has the trace of the message's own caller.
		row, prepareErr := p.prepare(m.Context, m.Call, m.In)
		if prepareErr != nil {
			failures[i] = prepareErr
			continue
		}
		rows = append(rows, "(?, ?, 'prepared', ?, ?, ?, "+now(tx)+", ?, ?, ?, ?)")
		values = append(values, m.GID, m.BranchID, m.In.Subject, row.headers, row.data, row.id, p.config.Stream, m.In.Key, m.In.After.Microseconds())
		if m.In.Key != "" {
			ordered = append(ordered, "(?, ?, ?, ?)")
			orderedValues = append(orderedValues, p.config.Stream, m.In.Key, m.GID, m.BranchID)
		}
	}
	if len(rows) == 0 {
		return failures, nil
	}
	err = tx.Exec("INSERT INTO saga_outbox (gid, branch_id, state, subject, headers, data, prepared_at, message_id, destination, order_key, delay) VALUES "+
		strings.Join(rows, ", "), values...).Error
	if err == nil && len(ordered) > 0 {
		err = tx.Exec("INSERT INTO saga_outbox_order (destination, order_key, gid, branch_id) VALUES "+strings.Join(ordered, ", "), orderedValues...).Error
	}
	return failures, err
}

var errNotPrepared = errors.New("a message is not prepared in the outbox: was saga_outbox changed by hand?")

// Confirm marks the message as published. If it is delayed, Confirm puts it into the table
// of delayed messages.
func (p *Publisher) Confirm(ctx context.Context, tx *gorm.DB, in Publish) error {
	return p.ConfirmAll(ctx, tx, []tcc.Item[Publish]{{BatchCall: saga.BatchCall{Context: ctx, Call: tcc.CallOf(ctx)}, In: in}})
}

// ConfirmAll is Confirm for many messages, with one statement.
func (p *Publisher) ConfirmAll(ctx context.Context, tx *gorm.DB, messages []tcc.Item[Publish]) error {
	var sequences strings.Builder
	var published, ordered, delayed []string
	var named []any
	branchID := messages[0].BranchID
	for _, m := range messages {
		receipt, ok := m.Receipt.(broker.Receipt)
		switch {
		case m.BranchID != branchID:
			return errors.New("the messages have different branch ids")
		case m.In.After > 0:
			delayed = append(delayed, m.GID)
			continue
		case !ok:
			return errors.New("a message was not delivered")
		case receipt.Stream != p.config.Stream:
			return fmt.Errorf("a message was stored in the stream %s, not in %s", receipt.Stream, p.config.Stream)
		}
		published, named = append(published, m.GID), append(named, m.GID)
		fmt.Fprintf(&sequences, " WHEN ? THEN %d", receipt.Sequence)
		if m.In.Key != "" {
			ordered = append(ordered, m.GID)
		}
	}
	if len(published) > 0 {
		err := exactly(len(published), tx.Exec("UPDATE saga_outbox SET state = 'published', published_at = "+now(tx)+", stream = ?, sequence = CASE gid"+sequences.String()+
			" END WHERE branch_id = ? AND gid IN ? AND state = 'prepared'", append(append([]any{p.config.Stream}, named...), branchID, published)...))
		if err != nil {
			return err
		}
	}
	if err := endOrder(tx, branchID, ordered); err != nil {
		return err
	}
	return delay(tx, branchID, delayed)
}

// endOrder removes messages from the order of their keys: later messages no longer wait
// for them.
func endOrder(tx *gorm.DB, branchID string, gids []string) error {
	if len(gids) == 0 {
		return nil
	}
	return tx.Exec("DELETE FROM saga_outbox_order WHERE gid IN ? AND branch_id = ?", gids, branchID).Error
}

// delay puts messages into the table of delayed messages.
func delay(tx *gorm.DB, branchID string, gids []string) error {
	if len(gids) == 0 {
		return nil
	}
	err := exactly(len(gids), tx.Exec(`INSERT INTO saga_outbox_delayed (message_id, gid, branch_id, destination, subject, headers, data, due_at)
		SELECT message_id, gid, branch_id, destination, subject, headers, data, `+laterBy(tx, "delay")+`
		FROM saga_outbox WHERE branch_id = ? AND gid IN ? AND state = 'prepared'`, branchID, gids))
	if err != nil {
		return err
	}
	return exactly(len(gids), tx.Exec("UPDATE saga_outbox SET state = 'delayed' WHERE branch_id = ? AND gid IN ? AND state = 'prepared'", branchID, gids))
}

// Cancel marks the message as discarded.
func (p *Publisher) Cancel(ctx context.Context, tx *gorm.DB, in Publish) error {
	call := tcc.CallOf(ctx)
	err := exactly(1, tx.Exec("UPDATE saga_outbox SET state = 'discarded', discarded_at = "+now(tx)+
		" WHERE gid = ? AND branch_id = ? AND state = 'prepared'", call.GID, call.BranchID))
	if err == nil && in.Key != "" {
		err = endOrder(tx, call.BranchID, []string{call.GID})
	}
	return err
}

// Clean removes the messages of old transactions from the outbox. Delayed messages that
// are not published yet stay, and are published when they are due.
func (p *Publisher) Clean(ctx context.Context, tx *gorm.DB, gids []string) error {
	if err := tx.Exec("DELETE FROM saga_outbox WHERE gid IN ?", gids).Error; err != nil {
		return err
	}
	return tx.Exec("DELETE FROM saga_outbox_order WHERE gid IN ?", gids).Error
}

func exactly(rows int, result *gorm.DB) error {
	if result.Error == nil && result.RowsAffected != int64(rows) {
		return errNotPrepared
	}
	return result.Error
}

// outboxRow is a row of the outbox, and the result of publishing it.
type outboxRow struct {
	GID                        string `gorm:"column:gid"`
	BranchID, State, MessageID string
	Destination, OrderKey      string
	Subject, Headers           string
	Data                       []byte
	Delay                      int64 // microseconds
	Stream                     string
	Sequence                   uint64
	AfterID                    string // of the row before it in the same call of PublishIn
	Failures                   int    // of a row in saga_outbox_delayed

	done bool // the broker has the message, or need not have it; otherwise err says why not
	err  error
}

func (r *outboxRow) id() string {
	if r.MessageID != "" {
		return r.MessageID
	}
	return r.GID + "/" + r.BranchID // written by schema version 1
}

func (r *outboxRow) receipt() any {
	if r.Delay > 0 {
		return nil
	}
	return broker.Receipt{Stream: r.Stream, Sequence: r.Sequence}
}

func (r *outboxRow) message() (broker.Message, error) {
	m := broker.Message{ID: r.id(), Subject: r.Subject, Data: r.Data}
	if r.Headers != noHeaders {
		if err := json.Unmarshal([]byte(r.Headers), &m.Headers); err != nil {
			return m, fmt.Errorf("decoding the headers: %w", err)
		}
	}
	if m.Headers == nil {
		m.Headers = map[string][]string{}
	}
	m.Headers[HeaderID] = []string{m.ID}
	return m, nil
}

// setResult sets the result of publishing.
func (r *outboxRow) setResult(result broker.Result) {
	r.err = result.Err
	if errors.Is(r.err, broker.ErrForeign) {
		// A repetition cannot succeed: a conflict needs attention at once.
		r.err = fmt.Errorf("%w: message %s: %w", barrier.ErrConflict, r.id(), r.err)
	}
	if r.err == nil {
		r.done, r.Stream, r.Sequence = true, result.Receipt.Stream, result.Receipt.Sequence
	}
}

// outboxRows has the rows of transactions, by gid, in the order of their branches.
type outboxRows map[string][]*outboxRow

func (o outboxRows) row(gid, branchID string) *outboxRow {
	for _, r := range o[gid] {
		if r.BranchID == branchID {
			return r
		}
	}
	return nil
}

// read adds the rows of transactions to into.
func (p *Publisher) read(ctx context.Context, into outboxRows, gids []string) error {
	var rows []*outboxRow
	err := p.db.WithContext(ctx).Raw(`SELECT gid, branch_id, state, message_id, destination, order_key, subject, headers, data, delay, stream, sequence
		FROM saga_outbox WHERE gid IN ? ORDER BY gid, branch_id`, gids).Scan(&rows).Error
	if err != nil {
		return fmt.Errorf("reading the outbox: %w", err)
	}
	for _, r := range rows {
		into[r.GID] = append(into[r.GID], r)
	}
	return nil
}
