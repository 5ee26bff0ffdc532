package message

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/tcc"
)

// HeaderID is the header that every published message carries: its logical id,
// which is gid/branch/ and 26 random characters. It is the same however often
// the message is published, and after it was resent from the dead letters, and no
// other message has it, of whatever service, database and time.
const HeaderID = "Tccsaga-Id"

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

	// Kind is the kind of branch, which has to be different for each publisher of
	// an engine: [Publish.Kind] chooses one. Defaults to [DefaultKind].
	Kind string

	// Replicas of a stream that is created. Defaults to 1; use 3 in a cluster.
	Replicas int

	// AckTimeout bounds the wait for the acknowledgement of one publish.
	// Defaults to 5 seconds.
	AckTimeout time.Duration

	// RetryFor is for how long a publish may be repeated while its outcome is
	// unknown: the longest outage of the broker, or of the service, that should
	// lead to no repeated message in the stream. A stream that recognizes
	// repetitions for a shorter time gets a warning. Defaults to 2 minutes.
	RetryFor time.Duration

	// Propagator takes the trace context into the headers. Defaults to W3C
	// trace context and baggage.
	Propagator propagation.TextMapPropagator

	// Logger takes warnings about the stream, and failures to publish delayed
	// messages. Defaults to [slog.Default].
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Kind == "" {
		c.Kind = DefaultKind
	}
	if c.AckTimeout <= 0 {
		c.AckTimeout = 5 * time.Second
	}
	if c.RetryFor <= 0 {
		c.RetryFor = 2 * time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Propagator = propagatorOr(c.Propagator)
	return c
}

// Publisher is the branch. It is safe for concurrent use.
type Publisher struct {
	db     *gorm.DB
	stream broker.Stream
	config Config
	logID  string // of the database of the outbox

	lane    chan struct{} // held while messages are published in order
	receipt receipts      // of messages in order that are not marked published yet
	relay   *relay        // of delayed messages
}

var (
	_ tcc.Branch[Publish]        = (*Publisher)(nil)
	_ tcc.Located                = (*Publisher)(nil)
	_ tcc.Named                  = (*Publisher)(nil)
	_ tcc.Deliverer[Publish]     = (*Publisher)(nil)
	_ tcc.Bulk[Publish]          = (*Publisher)(nil)
	_ tcc.BulkDeliverer[Publish] = (*Publisher)(nil)
	_ tcc.Cleaner                = (*Publisher)(nil)
)

// NewPublisher returns the branch with its outbox in db, where the schema of
// package sql is installed, and creates or checks the stream. It begins to
// publish delayed messages that are due, until [Publisher.Stop].
//
// The error wraps [broker.ErrUnsafe] and names the setting if the stream cannot
// keep the promise that a published message stays until its consumers have it.
func NewPublisher(ctx context.Context, db *gorm.DB, b broker.Publisher, config Config) (*Publisher, error) {
	if db == nil || b == nil {
		return nil, fmt.Errorf("message: the database or the broker is nil: %w", ErrInvalid)
	}
	if config.Stream == "" || len(config.Subjects) == 0 {
		return nil, fmt.Errorf("message: Config.Stream and Config.Subjects are needed: %w", ErrInvalid)
	}
	config = config.withDefaults()
	if err := schema.Check(ctx, db); err != nil {
		return nil, fmt.Errorf("message: the database of the outbox: %w", err)
	}
	p := &Publisher{db: db, config: config, lane: make(chan struct{}, 1)}
	if err := db.WithContext(ctx).Raw("SELECT log_id FROM saga_schema WHERE id = 1").Scan(&p.logID).Error; err != nil {
		return nil, fmt.Errorf("message: the database of the outbox: reading saga_schema: %w", err)
	}
	var err error
	p.stream, err = b.OpenStream(ctx, broker.StreamConfig{Name: config.Stream, Subjects: config.Subjects, Replicas: config.Replicas, RetryFor: config.RetryFor})
	if err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	for _, problem := range p.stream.Info().Warnings {
		config.Logger.Warn("message: a setting of the stream may break a promise", slog.String("stream", config.Stream),
			slog.String("setting", problem.Setting), slog.String("value", problem.Value), slog.String("why", problem.Why))
	}
	p.relay = startRelay(p)
	return p, nil
}

// Stop ends the publishing of delayed messages, and waits until what is under
// way has ended, or ctx has. It may be called more than once. Stop the engine
// first.
func (p *Publisher) Stop(ctx context.Context) error { return p.relay.end(ctx) }

// Database returns the database that the outbox is in.
func (p *Publisher) Database() *gorm.DB { return p.db }

// Kind returns the kind of branch.
func (p *Publisher) Kind() string { return p.config.Kind }

// Deliver publishes the message and waits for the acknowledgement.
func (p *Publisher) Deliver(ctx context.Context, in Publish) (receipt any, err error) {
	receipts, failures := p.DeliverAll(ctx, []tcc.Item[Publish]{{BatchCall: saga.BatchCall{Context: ctx, Call: tcc.CallOf(ctx)}, In: in}})
	return receipts[0], failures[0]
}

// DeliverAll publishes many messages. It does not wait for one acknowledgement
// before it sends the next message, except where their order counts.
func (p *Publisher) DeliverAll(ctx context.Context, messages []tcc.Item[Publish]) (receipts []any, failures []error) {
	receipts, failures = make([]any, len(messages)), make([]error, len(messages))
	gids := make([]string, len(messages))
	for i, m := range messages {
		gids[i] = m.GID
	}
	rows := make(book)
	if err := p.read(ctx, rows, gids); err != nil {
		for i := range failures {
			failures[i] = err
		}
		return receipts, failures
	}
	var wanted []*outboxRow
	for i, m := range messages {
		r := rows.row(m.GID, m.BranchID)
		switch {
		case r == nil:
			failures[i] = errors.New("the message is not in the outbox: was saga_outbox changed by hand?")
		case r.State == stateDiscarded:
			failures[i] = errors.New("the message is not prepared in the outbox, but discarded: was saga_outbox changed by hand?")
		case r.State != statePrepared:
			r.done = true // another call of this Confirm was faster, as the barrier will say
		default:
			wanted = append(wanted, r)
		}
	}
	p.publishRows(ctx, rows, wanted)
	for i, m := range messages {
		if failures[i] != nil {
			continue
		}
		r := rows.row(m.GID, m.BranchID)
		if failures[i] = r.err; r.err == nil {
			receipts[i] = r.receipt()
		}
	}
	return receipts, failures
}
