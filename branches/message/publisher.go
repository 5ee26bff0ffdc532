package message

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/tcc"
)

// Headers that every published message carries.
const (
	// HeaderID is the logical id, gid/branch: the same however often the
	// message is published, and after it was resent from the dead letters.
	HeaderID = "Tccsaga-Id"
)

// ErrInvalid is wrapped when a message or a configuration cannot work.
var ErrInvalid = broker.ErrInvalid

// Config configures a [Publisher]. Stream and Subjects are needed.
type Config struct {
	// Stream takes the messages. It is created if it does not exist, and otherwise
	// checked for carrying the subjects; nothing of it is changed.
	Stream string

	// Subjects that the stream carries, wildcards allowed. A message on any
	// other subject is rejected.
	Subjects []string

	// Replicas of a stream that is created. Defaults to 1; use 3 in a cluster.
	Replicas int

	// AckTimeout bounds the wait for the acknowledgement of one publish.
	// Defaults to 5 seconds.
	AckTimeout time.Duration

	// Propagator takes the trace context into the headers. Defaults to W3C
	// trace context and baggage.
	Propagator propagation.TextMapPropagator
}

// Publisher is the branch. It is safe for concurrent use.
type Publisher struct {
	db     *gorm.DB
	stream broker.Stream
	config Config
}

var (
	_ tcc.Branch[Publish]        = (*Publisher)(nil)
	_ tcc.Located                = (*Publisher)(nil)
	_ tcc.Deliverer[Publish]     = (*Publisher)(nil)
	_ tcc.Bulk[Publish]          = (*Publisher)(nil)
	_ tcc.BulkDeliverer[Publish] = (*Publisher)(nil)
	_ tcc.Cleaner                = (*Publisher)(nil)
)

// NewPublisher returns the branch with its outbox in db, where the schema of
// package sql is installed, and creates or checks the stream.
func NewPublisher(ctx context.Context, db *gorm.DB, b broker.Publisher, config Config) (*Publisher, error) {
	if db == nil || b == nil {
		return nil, fmt.Errorf("message: the database or the broker is nil: %w", ErrInvalid)
	}
	if config.Stream == "" || len(config.Subjects) == 0 {
		return nil, fmt.Errorf("message: Config.Stream and Config.Subjects are needed: %w", ErrInvalid)
	}
	if config.AckTimeout <= 0 {
		config.AckTimeout = 5 * time.Second
	}
	config.Propagator = propagatorOr(config.Propagator)
	stream, err := b.OpenStream(ctx, broker.StreamConfig{Name: config.Stream, Subjects: config.Subjects, Replicas: config.Replicas})
	if err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	return &Publisher{db: db, stream: stream, config: config}, nil
}

// Database returns the database that the outbox is in.
func (p *Publisher) Database() *gorm.DB { return p.db }

// Try writes the message into the outbox. It rejects what could never be
// published.
func (p *Publisher) Try(ctx context.Context, tx *gorm.DB, in Publish) error {
	row, err := p.prepare(ctx, in)
	if err != nil {
		return err
	}
	call := tcc.CallOf(ctx)
	return tx.Exec(`INSERT INTO saga_outbox (gid, branch_id, state, subject, headers, data, prepared_at)
		VALUES (?, ?, 'prepared', ?, ?, ?, `+now(tx)+`)`, call.GID, call.BranchID, row.subject, row.headers, row.data).Error
}

// prepared is what the outbox holds of a message.
type prepared struct {
	subject, headers string
	data             []byte
}

// prepare checks a message, and takes the trace of ctx into its headers.
func (p *Publisher) prepare(ctx context.Context, in Publish) (prepared, error) {
	if err := p.check(in); err != nil {
		return prepared{}, tcc.Reject(err)
	}
	headers := maps.Clone(in.Headers)
	if headers == nil {
		headers = map[string][]string{}
	}
	p.config.Propagator.Inject(ctx, carrier(headers))
	text, err := json.Marshal(headers)
	if err != nil {
		return prepared{}, fmt.Errorf("encoding the headers: %w", err)
	}
	if len(text) > maxHeaders {
		return prepared{}, tcc.Reject(fmt.Errorf("%w: the headers have %d bytes, %d are allowed", ErrInvalid, len(text), maxHeaders))
	}
	if err := p.stream.Check(broker.Message{Subject: in.Subject, Headers: headers, Data: in.Data}); err != nil {
		return prepared{}, tcc.Reject(err)
	}
	data := in.Data
	if data == nil {
		data = []byte{}
	}
	return prepared{in.Subject, string(text), data}, nil
}

// maxHeaders keeps the headers within their column, 64 KiB, with room for those
// that are added.
const maxHeaders = 48 << 10

// Deliver publishes the message and waits for the acknowledgement.
func (p *Publisher) Deliver(ctx context.Context, in Publish) (receipt any, err error) {
	receipts, failures := p.DeliverAll(ctx, []tcc.Item[Publish]{{JointCall: saga.JointCall{Context: ctx, Call: tcc.CallOf(ctx)}, In: in}})
	return receipts[0], failures[0]
}

// outboxRow is what Deliver reads.
type outboxRow struct {
	GID              string `gorm:"column:gid"`
	BranchID         string
	Subject, Headers string
	Data             []byte
}

// read returns the messages of transactions by the keys of their calls.
func (p *Publisher) read(ctx context.Context, gids ...string) (map[string]outboxRow, error) {
	var rows []outboxRow
	err := p.db.WithContext(ctx).Raw("SELECT gid, branch_id, subject, headers, data FROM saga_outbox WHERE gid IN ?", gids).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("reading the outbox: %w", err)
	}
	byKey := make(map[string]outboxRow, len(rows))
	for _, row := range rows {
		byKey[saga.Call{GID: row.GID, BranchID: row.BranchID}.Key().String()] = row
	}
	return byKey, nil
}

// messageOf returns the message of a call.
func messageOf(call saga.Call, rows map[string]outboxRow) (broker.Message, error) {
	id := call.Key().String()
	row, found := rows[id]
	if !found {
		return broker.Message{}, errors.New("the message is not in the outbox: was saga_outbox changed by hand?")
	}
	m := broker.Message{ID: id, Subject: row.Subject, Data: row.Data}
	if err := json.Unmarshal([]byte(row.Headers), &m.Headers); err != nil {
		return broker.Message{}, fmt.Errorf("decoding the headers: %w", err)
	}
	m.Headers[HeaderID] = []string{id}
	return m, nil
}

// Confirm marks the message published.
func (p *Publisher) Confirm(ctx context.Context, tx *gorm.DB, in Publish) error {
	call := tcc.CallOf(ctx)
	ack, ok := call.Receipt.(broker.Receipt)
	if !ok {
		return errors.New("the message was not delivered")
	}
	return mark(tx, "UPDATE saga_outbox SET state = 'published', published_at = "+now(tx)+
		", stream = ?, sequence = ? WHERE gid = ? AND branch_id = ? AND state = 'prepared'", ack.Stream, ack.Sequence, call.GID, call.BranchID)
}

// Cancel marks the message discarded.
func (p *Publisher) Cancel(ctx context.Context, tx *gorm.DB, in Publish) error {
	call := tcc.CallOf(ctx)
	return mark(tx, "UPDATE saga_outbox SET state = 'discarded', discarded_at = "+now(tx)+
		" WHERE gid = ? AND branch_id = ? AND state = 'prepared'", call.GID, call.BranchID)
}

// Clean removes what the outbox holds of old transactions.
func (p *Publisher) Clean(ctx context.Context, tx *gorm.DB, gids []string) error {
	return tx.Exec("DELETE FROM saga_outbox WHERE gid IN ?", gids).Error
}

func mark(tx *gorm.DB, statement string, arguments ...any) error {
	result := tx.Exec(statement, arguments...)
	if result.Error == nil && result.RowsAffected != 1 {
		return errors.New("the message is not prepared in the outbox: was saga_outbox changed by hand?")
	}
	return result.Error
}

// check says why a message could never be stored in the outbox, or have headers
// of this package.
func (p *Publisher) check(in Publish) error {
	if len(in.Subject) > maxSubject {
		return fmt.Errorf("%w: the subject %.80q has %d bytes, %d are allowed", ErrInvalid, in.Subject, len(in.Subject), maxSubject)
	}
	for name := range in.Headers {
		if strings.HasPrefix(strings.ToLower(name), "tccsaga-") {
			return fmt.Errorf("%w: the header name %.80q is reserved", ErrInvalid, name)
		}
	}
	return nil
}

// maxSubject is what the outbox holds of a subject, in bytes.
const maxSubject = 255
