package message

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/propagation"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/tcc"
)

// Publish asks for a message to be published if, and only if, the transaction
// is confirmed.
type Publish struct {
	Subject string              // one that the stream carries, without wildcards
	Data    []byte              // the message
	Headers map[string][]string // names that begin with Nats- or Tccsaga- are not allowed
}

// Branch returns "message.publish".
func (Publish) Branch() string { return "message.publish" }

// stored is how the log holds a Publish: with its data as text where it is
// text, because people read the log.
type stored struct {
	Subject string              `json:"subject"`
	Text    *string             `json:"text,omitempty"`
	Data    []byte              `json:"data,omitempty"`
	Headers map[string][]string `json:"headers,omitempty"`
}

// MarshalJSON writes the data as "text" if it is UTF-8, and else, in base64, as
// "data".
func (p Publish) MarshalJSON() ([]byte, error) {
	s := stored{Subject: p.Subject, Headers: p.Headers}
	if utf8.Valid(p.Data) {
		text := string(p.Data)
		s.Text = &text
	} else {
		s.Data = p.Data
	}
	return json.Marshal(s)
}

// UnmarshalJSON reads what MarshalJSON has written.
func (p *Publish) UnmarshalJSON(text []byte) error {
	var s stored
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	*p = Publish{Subject: s.Subject, Data: s.Data, Headers: s.Headers}
	if s.Text != nil {
		p.Data = []byte(*s.Text)
	}
	return nil
}

// Headers that every published message carries.
const (
	// HeaderID is the logical id, gid/branch: the same however often the
	// message is published, and after it was resent from the dead letters.
	HeaderID = "Tccsaga-Id"
)

// ErrInvalid is wrapped when a message or a configuration cannot work.
var ErrInvalid = errors.New("invalid message")

// Config configures a [Publisher]. Stream and Subjects are needed.
type Config struct {
	// Stream is the JetStream stream that takes the messages. It is created,
	// with file storage, if it does not exist, and otherwise checked for
	// carrying the subjects; nothing else of it is changed.
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
	db         *gorm.DB
	js         jetstream.JetStream
	config     Config
	streamMost int64 // bytes of a message that the stream takes; not positive is any
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
func NewPublisher(ctx context.Context, db *gorm.DB, js jetstream.JetStream, config Config) (*Publisher, error) {
	if db == nil || js == nil {
		return nil, fmt.Errorf("message: the database or the JetStream context is nil: %w", ErrInvalid)
	}
	if config.Stream == "" || len(config.Subjects) == 0 {
		return nil, fmt.Errorf("message: Config.Stream and Config.Subjects are needed: %w", ErrInvalid)
	}
	if config.AckTimeout <= 0 {
		config.AckTimeout = 5 * time.Second
	}
	config.Propagator = propagatorOr(config.Propagator)
	stream, err := ensureStream(ctx, js, jetstream.StreamConfig{
		Name: config.Stream, Subjects: config.Subjects, Storage: jetstream.FileStorage, Replicas: max(1, config.Replicas),
	})
	if err != nil {
		return nil, fmt.Errorf("message: stream %s: %w", config.Stream, err)
	}
	return &Publisher{db: db, js: js, config: config, streamMost: int64(stream.MaxMsgSize)}, nil
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
	headers := nats.Header(maps.Clone(in.Headers))
	if headers == nil {
		headers = nats.Header{}
	}
	p.config.Propagator.Inject(ctx, carrier(headers))
	text, err := json.Marshal(headers)
	if err != nil {
		return prepared{}, fmt.Errorf("encoding the headers: %w", err)
	}
	size := wireSize(headers)
	if n := max(size, len(text)); n > maxHeaders {
		return prepared{}, tcc.Reject(fmt.Errorf("%w: the headers have %d bytes, %d are allowed", ErrInvalid, n, maxHeaders))
	}
	size += len(in.Data)
	if most := p.most(); int64(size) > most {
		return prepared{}, tcc.Reject(fmt.Errorf("%w: it has %d bytes with its headers, the broker takes %d", ErrInvalid, size, most))
	}
	data := in.Data
	if data == nil {
		data = []byte{}
	}
	return prepared{in.Subject, string(text), data}, nil
}

// most is how many bytes a message may have with its headers, so that broker
// and stream take it.
func (p *Publisher) most() int64 {
	most := int64(math.MaxInt32) // what the broker takes is known once it was there
	if broker := p.js.Conn().MaxPayload(); broker > 0 {
		most = broker - overhead
	}
	if p.streamMost > 0 {
		most = min(most, p.streamMost-added)
	}
	return max(most, 0)
}

// added is room for the headers that are added when publishing.
const added = 1 << 10

// overhead is room for the headers that are added when publishing, also as a
// dead letter.
const overhead = 4 << 10

// maxHeaders keeps the headers within their column and within what JetStream
// takes, 64 KiB each, with room for those that are added.
const maxHeaders = 48 << 10

// wireSize is how many bytes the headers have when they are sent: each value
// on a line with its name.
func wireSize(headers nats.Header) int {
	size := 0
	for name, values := range headers {
		for _, value := range values {
			size += len(name) + len(value) + len(": \r\n")
		}
	}
	return size
}

// Deliver publishes the message and waits for the acknowledgement.
func (p *Publisher) Deliver(ctx context.Context, in Publish) (receipt any, err error) {
	call := tcc.CallOf(ctx)
	rows, err := p.read(ctx, call.GID)
	if err != nil {
		return nil, err
	}
	msg, id, err := messageOf(call, rows)
	if err != nil {
		return nil, err
	}
	if err := p.connected(); err != nil {
		return nil, publishing(msg, err)
	}
	ctx, cancel := context.WithTimeout(ctx, p.config.AckTimeout)
	defer cancel()
	ack, err := p.js.PublishMsg(ctx, msg, p.options(id)...)
	if err != nil {
		return nil, publishing(msg, err)
	}
	return ack, nil
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

// messageOf returns the message of a call, and its logical id.
func messageOf(call saga.Call, rows map[string]outboxRow) (msg *nats.Msg, id string, err error) {
	id = call.Key().String()
	row, found := rows[id]
	if !found {
		return nil, "", errors.New("the message is not in the outbox: was saga_outbox changed by hand?")
	}
	msg = &nats.Msg{Subject: row.Subject, Data: row.Data}
	if err := json.Unmarshal([]byte(row.Headers), &msg.Header); err != nil {
		return nil, "", fmt.Errorf("decoding the headers: %w", err)
	}
	msg.Header.Set(HeaderID, id)
	return msg, id, nil
}

// connected says why nothing can be published now: the client would keep the
// message and send it at some later time.
func (p *Publisher) connected() error {
	if conn := p.js.Conn(); !conn.IsConnected() {
		return fmt.Errorf("the connection to the broker is %s", strings.ToLower(conn.Status().String()))
	}
	return nil
}

// options make the stream refuse what it has already, and what is for another
// stream.
func (p *Publisher) options(id string) []jetstream.PublishOpt {
	return []jetstream.PublishOpt{jetstream.WithMsgID(id), jetstream.WithExpectStream(p.config.Stream)}
}

func publishing(msg *nats.Msg, err error) error {
	return fmt.Errorf("publishing on %s: %w", msg.Subject, err)
}

// Confirm marks the message published.
func (p *Publisher) Confirm(ctx context.Context, tx *gorm.DB, in Publish) error {
	call := tcc.CallOf(ctx)
	ack, ok := call.Receipt.(*jetstream.PubAck)
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

// check says why a message could never be published.
func (p *Publisher) check(in Publish) error {
	switch {
	case in.Subject == "" || len(in.Subject) > 255 || strings.ContainsAny(in.Subject, "*> \t\r\n") ||
		strings.HasPrefix(in.Subject, ".") || strings.HasSuffix(in.Subject, ".") || strings.Contains(in.Subject, ".."):
		return fmt.Errorf("%w: the subject %.80q must be tokens separated by dots, without wildcards, at most 255 bytes", ErrInvalid, in.Subject)
	case !carried(p.config.Subjects, in.Subject):
		return fmt.Errorf("%w: the stream %s does not carry the subject %q, only %s", ErrInvalid, p.config.Stream, in.Subject, strings.Join(p.config.Subjects, ", "))
	}
	for name, values := range in.Headers {
		if !validHeader.MatchString(name) || reserved(name) {
			return fmt.Errorf("%w: the header name %.80q is reserved, or has other characters than letters, digits and !#$%%&'*+-.^_`|~", ErrInvalid, name)
		}
		for _, value := range values {
			if strings.ContainsAny(value, "\r\n") {
				return fmt.Errorf("%w: the header %s holds a line break", ErrInvalid, name)
			}
		}
	}
	return nil
}

// validHeader matches the names that the NATS client sends: it leaves out a
// header with any other, and says nothing.
var validHeader = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

func reserved(name string) bool {
	lower := strings.ToLower(name)
	return strings.HasPrefix(lower, "nats-") || strings.HasPrefix(lower, "tccsaga-")
}
