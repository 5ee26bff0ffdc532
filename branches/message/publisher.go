package message

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/schema"
	"github.com/tccsaga/tccsaga/tcc"
)

// HeaderID is the header with the logical id of a message: gid/branch/ and 26 random
// characters, or a time and 26 random characters from [Publisher.PublishIn]. Every published message has it. The id stays the same if the message is
// published again, or sent again from the dead letters. No other message has the same id.
const HeaderID = "Tccsaga-Id"

// ErrInvalid is wrapped if a message or a configuration is not valid.
var ErrInvalid = broker.ErrInvalid

// Config configures a [Publisher]. Stream and Subjects are required.
type Config struct {
	// Stream is the stream for the messages. It is created if it does not exist. An
	// existing stream has to carry the subjects, and is not changed.
	Stream string

	// Subjects of the stream, with or without wildcards. A message on another
	// subject is rejected.
	Subjects []string

	// Kind is the kind of branch. Each publisher of an engine needs its own kind,
	// and [Publish.Kind] chooses one of them. Defaults to [DefaultKind].
	Kind string

	// Replicas of a new stream. Defaults to 1; use 3 in a cluster.
	Replicas int

	// AckTimeout is how long a publish waits for its acknowledgement. Defaults to
	// 5 seconds.
	AckTimeout time.Duration

	// RetryFor is how long a publish with an unknown outcome may be repeated without
	// a second copy in the stream: the longest outage, of the broker or of the
	// service, without such a copy. If the stream recognizes repetitions for a
	// shorter time, a warning is logged. Defaults to 2 minutes.
	RetryFor time.Duration

	// Propagator writes the trace context into the headers. Defaults to W3C trace
	// context and baggage.
	Propagator propagation.TextMapPropagator

	// Logger gets warnings about the stream, and failures to publish messages that are
	// delayed or of PublishIn. Defaults to [slog.Default].
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

	ordering chan struct{}         // a lock: held while messages are published in order
	receipts receipts              // of ordered messages that are not marked as published yet
	local    *barrier.Transactions // of relay and direct
	relay    *relay                // of the messages in saga_outbox_delayed
	direct   *direct               // publishes what PublishIn wrote
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

// NewPublisher returns the branch with its outbox in db. Install the schema there with
// package schema. NewPublisher creates or checks the stream. It begins to publish delayed
// messages that are due, and those of PublishIn, until [Publisher.Stop].
//
// The error wraps [broker.ErrUnsafe] and names the setting if the stream cannot keep a
// published message until its consumers have it.
func NewPublisher(ctx context.Context, db *gorm.DB, b broker.Publisher, config Config) (*Publisher, error) {
	if db == nil || b == nil {
		return nil, fmt.Errorf("message: new publisher: the database or the broker is nil: %w", ErrInvalid)
	}
	if config.Stream == "" || len(config.Subjects) == 0 {
		return nil, fmt.Errorf("message: new publisher: Config.Stream and Config.Subjects are required: %w", ErrInvalid)
	}
	config = config.withDefaults()
	if err := schema.Check(ctx, db); err != nil {
		return nil, fmt.Errorf("message: new publisher: the database of the outbox: %w", err)
	}
	p := &Publisher{db: db, config: config, ordering: make(chan struct{}, 1)}
	if err := db.WithContext(ctx).Raw("SELECT log_id FROM saga_schema WHERE id = 1").Scan(&p.logID).Error; err != nil {
		return nil, fmt.Errorf("message: new publisher: the database of the outbox: reading saga_schema: %w", err)
	}
	var err error
	p.stream, err = b.OpenStream(ctx, broker.StreamConfig{Name: config.Stream, Subjects: config.Subjects, Replicas: config.Replicas, RetryFor: config.RetryFor})
	if err != nil {
		return nil, fmt.Errorf("message: new publisher: %w", err)
	}
	for _, problem := range p.stream.Info().Warnings {
		config.Logger.Warn("message: a setting of the stream may break a promise", slog.String("stream", config.Stream),
			slog.String("setting", problem.Setting), slog.String("value", problem.Value), slog.String("why", problem.Why))
	}
	if p.local, err = barrier.NewTransactions(db, 2); err != nil {
		return nil, fmt.Errorf("message: new publisher: %w", err)
	}
	if p.direct, err = startDirect(p); err != nil {
		return nil, fmt.Errorf("message: new publisher: %w", err)
	}
	p.relay = startRelay(p)
	return p, nil
}

// Stop ends the publishing of delayed messages, and of messages of [Publisher.PublishIn],
// which then returns an error. It waits until running requests have ended, or until ctx
// ends. It may be called more than once. Stop the engine first.
func (p *Publisher) Stop(ctx context.Context) error {
	defer p.local.Close()
	return errors.Join(p.direct.end(ctx), p.relay.end(ctx))
}

// PublishIn publishes messages if, and only if, the caller commits its local transaction tx,
// such as the tx of db.Transaction, on the database of the outbox. It writes one row for each
// message and makes no request to the broker. This Publisher finds the commit within
// milliseconds and publishes the messages. If it cannot, any running Publisher of the stream
// does; see the package documentation.
//
//	err := db.Transaction(func(tx *gorm.DB) error {
//		if err := tx.Create(&order).Error; err != nil {
//			return err
//		}
//		return publisher.PublishIn(ctx, tx, message.Publish{Subject: "orders.placed", Data: data})
//	})
//
// The messages of one call on one subject are published in their order. A [Publish.Key] is
// refused: for order across local transactions, use tcc.ExecuteIn. A message with
// [Publish.After] is published that long after the call, and has no order.
//
// The error wraps [ErrInvalid] if a message can never be published, or if tx is not a local
// transaction on the pool of the handle that [NewPublisher] got. After an error the caller has
// to roll back.
func (p *Publisher) PublishIn(ctx context.Context, tx *gorm.DB, messages ...Publish) error {
	if err := p.direct.write(ctx, tx, messages); err != nil {
		return fmt.Errorf("message: publish in a local transaction: %w", err)
	}
	return nil
}

// PublishInSQL is [Publisher.PublishIn] for a local transaction of package database/sql.
func (p *Publisher) PublishInSQL(ctx context.Context, tx *sql.Tx, messages ...Publish) error {
	if tx == nil {
		return p.PublishIn(ctx, nil, messages...)
	}
	session := p.db.Session(&gorm.Session{NewDB: true, Context: ctx, SkipDefaultTransaction: true})
	session.Statement.ConnPool = tx
	return p.PublishIn(ctx, session, messages...)
}

// Database returns the database that the outbox is in.
func (p *Publisher) Database() *gorm.DB { return p.db }

// Kind returns the kind of branch.
func (p *Publisher) Kind() string { return p.config.Kind }

// Deliver publishes the message and waits for the acknowledgement.
func (p *Publisher) Deliver(ctx context.Context, in Publish) (receipt any, err error) {
	receipts, failures := p.DeliverAll(ctx, []tcc.Item[Publish]{{BatchCall: saga.BatchCall{Context: ctx, Call: tcc.CallOf(ctx)}, In: in}})
	return receipts[0], failures[0]
}

// DeliverAll publishes many messages. It sends ordered messages one after the other, and
// all others at once.
func (p *Publisher) DeliverAll(ctx context.Context, messages []tcc.Item[Publish]) (receipts []any, failures []error) {
	receipts, failures = make([]any, len(messages)), make([]error, len(messages))
	gids := make([]string, len(messages))
	for i, m := range messages {
		gids[i] = m.GID
	}
	outbox := outboxRows{}
	if err := p.read(ctx, outbox, gids); err != nil {
		for i := range failures {
			failures[i] = err
		}
		return receipts, failures
	}
	var wanted []*outboxRow
	for i, m := range messages {
		r := outbox.row(m.GID, m.BranchID)
		switch {
		case r == nil:
			failures[i] = errors.New("the message is not in the outbox: was saga_outbox changed by hand?")
		case r.State == stateDiscarded:
			failures[i] = errors.New("the message is not prepared in the outbox, but discarded: was saga_outbox changed by hand?")
		case r.State != statePrepared:
			r.done = true // another call of this Confirm was faster; the barrier finds it
		default:
			wanted = append(wanted, r)
		}
	}
	p.publishRows(ctx, outbox, wanted)
	for i, m := range messages {
		if failures[i] != nil {
			continue
		}
		r := outbox.row(m.GID, m.BranchID)
		if failures[i] = r.err; r.err == nil {
			receipts[i] = r.receipt()
		}
	}
	return receipts, failures
}
