package message

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// Received is a message as a handler gets it.
type Received struct {
	ID       string // logical id: gid/branch, for messages of a Publisher
	Subject  string
	Data     []byte
	Headers  map[string][]string
	Stream   string
	Sequence uint64
	Attempt  int // from 1
}

// Handler does the work of a message in the local transaction tx, which it
// neither commits nor rolls back. An error, or a panic, rolls back, and the
// message comes again. What a handler does outside tx may happen more than
// once.
type Handler func(ctx context.Context, tx *gorm.DB, m Received) error

// ConsumerConfig configures [Consume]. Stream and Name are needed.
type ConsumerConfig struct {
	// Stream to consume from. It has to exist.
	Stream string

	// Name is the consumer's durable name: letters, digits, dashes and
	// underscores, at most 64. Processes with the same name share the
	// messages; each name gets all of them.
	Name string

	// Subjects narrows what is consumed. Defaults to all of the stream.
	Subjects []string

	// Attempts is how often a message is handled before it goes to the dead
	// letters. Defaults to 10.
	Attempts int

	// FirstRetry and MaxRetry bound the pause between attempts, which doubles.
	// Default to 200 milliseconds and 30 seconds.
	FirstRetry, MaxRetry time.Duration

	// Timeout bounds one attempt. While it lasts, the broker is told so, and
	// delivers the message to nobody else. Defaults to 30 seconds.
	Timeout time.Duration

	// DeadLetters is the stream for messages that failed to the last attempt.
	// It is created if it does not exist, with the subjects "dead.STREAM.>".
	// Defaults to STREAM_dead.
	DeadLetters string

	// Retention is how long the inbox knows a message that was handled. A
	// message that comes again later, from a stream that is replayed or resent
	// from the dead letters, is handled again; so choose it longer than that.
	// Defaults to 30 days.
	Retention time.Duration

	// Propagator takes the trace context out of the headers. Defaults to W3C
	// trace context and baggage.
	Propagator propagation.TextMapPropagator

	// Logger takes what goes wrong. Defaults to [slog.Default].
	Logger *slog.Logger
}

// Consumer handles messages until it is stopped.
type Consumer struct {
	db        *gorm.DB
	dead      broker.Stream // of the dead letters
	config    ConsumerConfig
	handle    Handler
	ctx       context.Context // of the handlers
	interrupt context.CancelFunc
	asking    context.Context // of asking for messages
	stop      context.CancelFunc
	stopped   chan struct{} // closed when the last handler has returned
}

var validName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Consume begins to handle messages, one at a time and in order, except for
// those that have to be repeated. The inbox is in db, where the schema of
// package sql is installed; it is the database that the handler works in.
func Consume(ctx context.Context, db *gorm.DB, b broker.Broker, config ConsumerConfig, handle Handler) (*Consumer, error) {
	if db == nil || b == nil || handle == nil {
		return nil, fmt.Errorf("message: consume: the database, the broker or the handler is nil: %w", ErrInvalid)
	}
	if config.Stream == "" || !validName.MatchString(config.Name) {
		return nil, fmt.Errorf("message: consume: ConsumerConfig.Stream and Name are needed, the name with 1 to 64 letters, digits, dashes and underscores: %w", ErrInvalid)
	}
	config = config.withDefaults()
	if _, err := b.OpenStream(ctx, broker.StreamConfig{Name: config.Stream}); err != nil {
		return nil, fmt.Errorf("message: consume: %w", err)
	}
	dead, err := b.OpenStream(ctx, broker.StreamConfig{Name: config.DeadLetters, Subjects: []string{deadPrefix + config.Stream + ".>"}})
	if err != nil {
		return nil, fmt.Errorf("message: consume: %w", err)
	}
	subscription, err := b.Subscribe(ctx, broker.SubscriptionConfig{
		Stream: config.Stream, Name: config.Name, Subjects: config.Subjects, AckWait: ackWait,
	})
	if err != nil {
		return nil, fmt.Errorf("message: consume: %w", err)
	}
	c := &Consumer{db: db, dead: dead, config: config, handle: handle, stopped: make(chan struct{})}
	c.ctx, c.interrupt = context.WithCancel(context.WithoutCancel(ctx))
	c.asking, c.stop = context.WithCancel(c.ctx)
	var background sync.WaitGroup
	background.Go(func() { c.run(subscription) })
	background.Go(func() { c.cleanInbox(c.asking) })
	go func() { background.Wait(); close(c.stopped) }()
	return c, nil
}

// askAgain is the pause before asking again when asking has failed.
const askAgain = 500 * time.Millisecond

// run asks for messages, one at a time: one that waited here while another one
// is handled would run out of its time.
func (c *Consumer) run(subscription broker.Subscription) {
	var last string
	for c.asking.Err() == nil {
		deliveries, err := subscription.Fetch(c.asking, 1)
		if err == nil {
			last = ""
			for _, d := range deliveries {
				c.receive(d)
			}
			continue
		}
		if c.asking.Err() != nil {
			continue
		}
		if err.Error() != last { // once, and not with every repetition
			last = err.Error()
			c.config.Logger.Warn("message: asking for messages", slog.String("consumer", c.config.Name), slog.Any("error", err))
		}
		select {
		case <-c.asking.Done():
		case <-time.After(askAgain):
		}
	}
}

func (c ConsumerConfig) withDefaults() ConsumerConfig {
	if c.Attempts <= 0 {
		c.Attempts = 10
	}
	if c.FirstRetry <= 0 {
		c.FirstRetry = 200 * time.Millisecond
	}
	if c.MaxRetry <= 0 {
		c.MaxRetry = 30 * time.Second
	}
	if c.Timeout <= 0 {
		c.Timeout = 30 * time.Second
	}
	if c.Retention <= 0 {
		c.Retention = 30 * 24 * time.Hour
	}
	if c.DeadLetters == "" {
		c.DeadLetters = c.Stream + "_dead"
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Propagator = propagatorOr(c.Propagator)
	return c
}

// Stop takes no further messages and waits for the handler under way until ctx
// ends; it then interrupts it, and the message comes again.
func (c *Consumer) Stop(ctx context.Context) error {
	c.stop()
	defer c.interrupt()
	select {
	case <-c.stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("message: stopping consumer %s: %w", c.config.Name, ctx.Err())
	}
}

// receive handles one delivery and tells the broker how it went. If the broker
// cannot be told, the message comes again, and the inbox knows it.
func (c *Consumer) receive(d broker.Delivery) {
	msg := d.Message()
	m := Received{Subject: msg.Subject, Data: msg.Data, Headers: msg.Headers}
	m.Stream, m.Sequence, m.Attempt = d.Position()
	m.ID = logicalID(msg.ID, m)
	ctx, cancel := context.WithTimeout(c.ctx, c.config.Timeout)
	defer cancel()
	defer stillHandling(ctx, d)()
	err := c.once(c.config.Propagator.Extract(ctx, carrier(m.Headers)), m)
	if err != nil && c.ctx.Err() != nil {
		return // interrupted, which is not the message's fault
	}
	c.settle(d, m, err)
}

// settleTimeout bounds what follows an attempt: a dead letter, and the
// acknowledgement.
const settleTimeout = 10 * time.Second

// settle tells the broker how an attempt went. It has a time of its own,
// because that of the attempt may be over.
func (c *Consumer) settle(d broker.Delivery, m Received, failure error) {
	ctx, cancel := context.WithTimeout(c.ctx, settleTimeout)
	defer cancel()
	if failure != nil {
		c.warn(m, "handling a message", failure)
		if m.Attempt < c.config.Attempts {
			c.again(ctx, d, m)
			return
		}
		if err := c.bury(ctx, m, failure); err != nil {
			c.warn(m, "writing a dead letter", err)
			c.again(ctx, d, m)
			return
		}
	}
	if err := d.Ack(ctx); err != nil {
		c.warn(m, "acknowledging a message, which will come again", err)
	}
}

func (c *Consumer) again(ctx context.Context, d broker.Delivery, m Received) {
	if err := d.Again(ctx, c.pause(m.Attempt)); err != nil {
		c.warn(m, "asking for a message again", err)
	}
}

// ackWait is how long a message of a process that died stays undelivered.
const ackWait = 5 * time.Second

// stillHandling tells the broker, until the returned function is called, that
// the message is being handled.
func stillHandling(ctx context.Context, d broker.Delivery) (stop func()) {
	ticker, stopped := time.NewTicker(ackWait/3), make(chan struct{})
	go func() {
		defer ticker.Stop()
		for {
			select {
			case <-stopped:
				return
			case <-ticker.C:
				// If it does not arrive, another delivery comes, and the
				// inbox knows the message.
				_ = d.Extend(context.WithoutCancel(ctx))
			}
		}
	}()
	return func() { close(stopped) }
}

// pause before the attempt after the n-th: doubled each time and capped, with
// the last half of it random.
func (c *Consumer) pause(n int) time.Duration {
	longest := c.config.MaxRetry
	if n < 32 && c.config.FirstRetry<<(n-1) > 0 {
		longest = min(longest, c.config.FirstRetry<<(n-1))
	}
	return longest/2 + rand.N(longest/2+1)
}

func (c *Consumer) warn(m Received, doing string, err error) {
	c.config.Logger.Warn("message: "+doing, slog.String("consumer", c.config.Name),
		slog.String("subject", m.Subject), slog.Any("error", err))
}

// once runs the handler and writes the inbox row in one local transaction,
// unless the row is there.
func (c *Consumer) once(ctx context.Context, m Received) error {
	options := &sql.TxOptions{Isolation: sql.LevelReadCommitted}
	if c.db.Dialector.Name() == "sqlite" {
		options = &sql.TxOptions{} // SQLite is serializable, and its drivers know no other level
	}
	return c.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		// Two deliveries of one message at once meet on the primary key: the
		// later one fails, comes again, and finds the row.
		insert := tx.Exec(`INSERT INTO saga_inbox (consumer, message_id, handled_at) SELECT ?, ?, `+now(tx)+from(tx)+
			` WHERE NOT EXISTS (SELECT 1 FROM saga_inbox WHERE consumer = ? AND message_id = ?)`, c.config.Name, m.ID, c.config.Name, m.ID)
		if insert.Error != nil || insert.RowsAffected == 0 {
			return insert.Error
		}
		return c.call(ctx, tx, m)
	}, options)
}

// from is what MySQL before 8.0 and MariaDB want between SELECT and WHERE.
func from(db *gorm.DB) string {
	if db.Dialector.Name() == "mysql" {
		return " FROM DUAL"
	}
	return ""
}

func (c *Consumer) call(ctx context.Context, tx *gorm.DB, m Received) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			c.config.Logger.Error("message: a handler panicked", slog.String("consumer", c.config.Name),
				slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
	}()
	return c.handle(ctx, tx.WithContext(ctx), m)
}

// maxID is what the inbox holds of an id.
const maxID = 200

// logicalID is the id under which the inbox knows a message.
func logicalID(given string, m Received) string {
	for _, id := range []string{header(m.Headers, HeaderID), given} {
		if id != "" && len(id) <= maxID && printable(id) {
			return id
		}
	}
	return m.Stream + "/" + strconv.FormatUint(m.Sequence, 10)
}

// header returns the first value of a header; empty if there is none.
func header(headers map[string][]string, name string) string {
	if values := headers[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

func printable(id string) bool {
	for _, b := range []byte(id) {
		if b <= ' ' || b > '~' {
			return false
		}
	}
	return true
}

// ErrNoDeadLetters is returned by [Resend] when the stream does not exist.
var ErrNoDeadLetters = errors.New("message: there is no such dead-letter stream")
