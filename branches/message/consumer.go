package message

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/schema"
)

// Consumer handles messages until it is stopped, or cannot go on. Its methods are
// safe for concurrent use.
type Consumer struct {
	broker  broker.Broker
	config  ConsumerConfig
	handle  BatchHandler
	inbox   *inbox
	runner  *barrier.Transactions
	queue   *queue
	intakes []*intake // of the stream, and of what was sent again from the dead letters
	state   state

	ctx       context.Context // of the handlers
	interrupt context.CancelFunc
	asking    context.Context // of asking for messages
	stop      context.CancelFunc
	stopped   chan struct{} // closed when all has ended

	mu       sync.Mutex
	inflight map[string]*entry // by id: what this process has
	dead     broker.Stream     // of the dead letters
	err      error             // why it ended by itself
}

// Consume begins to handle messages. The inbox is in db, where the schema of
// package sql is installed; it is the database that the handler works in.
//
// It returns an error that wraps [ErrInvalid] if the configuration cannot work,
// [broker.ErrNotFound] if the stream does not exist, and one of package sql if the
// schema is not installed. Afterwards faults of the database and the broker are
// waited for, and a deleted consumer or dead-letter stream is made again. [Consumer.Done]
// tells when the consumer has ended all the same, and [Consumer.Err] why.
func Consume(ctx context.Context, db *gorm.DB, b broker.Broker, config ConsumerConfig, handle Handler) (*Consumer, error) {
	if handle == nil {
		return nil, fmt.Errorf("message: consume: the handler is nil: %w", ErrInvalid)
	}
	return consume(ctx, db, b, config, func(config ConsumerConfig) BatchHandler { return config.inTurn(handle) })
}

// defaultBatch is the Batch of ConsumeBatch.
const defaultBatch = 64

// ConsumeBatch is [Consume] with a handler that takes several messages at once, at
// most ConsumerConfig.Batch, 64 by default.
func ConsumeBatch(ctx context.Context, db *gorm.DB, b broker.Broker, config ConsumerConfig, handle BatchHandler) (*Consumer, error) {
	if handle == nil {
		return nil, fmt.Errorf("message: consume: the handler is nil: %w", ErrInvalid)
	}
	if config.Batch <= 0 {
		config.Batch = defaultBatch
	}
	return consume(ctx, db, b, config, func(config ConsumerConfig) BatchHandler {
		return func(ctx context.Context, tx *gorm.DB, messages []Received) error {
			if len(messages) == 1 {
				ctx = config.extract(ctx, messages[0])
			}
			return handle(ctx, tx, messages)
		}
	})
}

// extract returns a context with the trace of a message.
func (c ConsumerConfig) extract(ctx context.Context, m Received) context.Context {
	return propagatorOr(c.Propagator).Extract(ctx, carrier(m.Headers))
}

func consume(ctx context.Context, db *gorm.DB, b broker.Broker, config ConsumerConfig, handler func(ConsumerConfig) BatchHandler) (*Consumer, error) {
	if db == nil || b == nil {
		return nil, fmt.Errorf("message: consume: the database or the broker is nil: %w", ErrInvalid)
	}
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("message: consume: %w", err)
	}
	config = config.withDefaults()
	if err := schema.Check(ctx, db); err != nil {
		return nil, fmt.Errorf("message: consume: the database of the inbox: %w", err)
	}
	inbox, err := newInbox(ctx, db, config)
	if err != nil {
		return nil, fmt.Errorf("message: consume: reading the inbox: %w", err)
	}
	runner, err := barrier.NewTransactions(db, config.Workers)
	if err != nil {
		return nil, fmt.Errorf("message: consume: %w", err)
	}
	c := &Consumer{broker: b, config: config, handle: handler(config), inbox: inbox, runner: runner, queue: newQueue(config.Workers),
		stopped: make(chan struct{}), inflight: map[string]*entry{}}
	c.ctx, c.interrupt = context.WithCancel(context.WithoutCancel(ctx))
	c.asking, c.stop = context.WithCancel(c.ctx)
	if err := c.subscribe(ctx); err != nil {
		c.interrupt()
		return nil, fmt.Errorf("message: consume: %w", err)
	}
	go c.run()
	return c, nil
}

// subscribe opens the stream of the dead letters and both intakes.
func (c *Consumer) subscribe(ctx context.Context) error {
	if _, err := c.openDead(ctx); err != nil {
		return err
	}
	again := resentPrefix(c.config.Stream, c.config.Name)
	c.intakes = []*intake{
		newIntake(c, broker.SubscriptionConfig{Stream: c.config.Stream, Name: c.config.Name, Subjects: c.config.Subjects,
			Start: c.config.Start, AckWait: c.config.AckWait, MaxAckPending: c.config.MaxAckPending, Description: c.config.Description}),
		newIntake(c, broker.SubscriptionConfig{Stream: c.config.DeadLetters, Name: "resent-" + c.config.Name, Subjects: []string{again + ">"}}),
	}
	for _, in := range c.intakes {
		if err := in.subscribe(ctx); err != nil {
			for _, other := range c.intakes {
				other.abandon()
			}
			return err
		}
	}
	return nil
}

// run runs until asking ends, and then brings everything to an end.
func (c *Consumer) run() {
	defer close(c.stopped)
	defer c.runner.Close()
	defer c.interrupt()
	var intakes, workers, background sync.WaitGroup
	background.Go(func() { c.keepAlive(c.ctx) })
	background.Go(func() { c.clean(c.asking) })
	for range c.config.Workers {
		workers.Go(c.work)
	}
	for _, in := range c.intakes {
		intakes.Go(in.run)
	}
	intakes.Wait()
	rest, marking := c.queue.close()
	c.giveBack(rest)
	workers.Wait()
	c.giveBack(marking)
	c.flush()
	c.interrupt()
	background.Wait()
}

// flushTimeout bounds the last words to the broker.
const flushTimeout = 2 * time.Second

// flush waits until the broker has got the last acknowledgements.
func (c *Consumer) flush() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), flushTimeout)
	defer cancel()
	in := c.intakes[0]
	in.mu.Lock()
	s := in.last
	in.mu.Unlock()
	if err := s.Flush(ctx); err != nil && !errors.Is(err, broker.ErrClosed) {
		c.config.Logger.Warn("message: the last acknowledgements may be lost, and messages come again", slog.String("consumer", c.config.Name), slog.Any("error", err))
	}
}

// Stop takes no further messages, gives those back that wait here, and waits for
// the handlers under way until ctx ends; it then interrupts them, and their
// messages come again. Neither spends an attempt.
func (c *Consumer) Stop(ctx context.Context) error {
	c.stop()
	select {
	case <-c.stopped:
		return nil
	case <-ctx.Done():
		c.interrupt()
		return fmt.Errorf("message: stopping consumer %s: %w", c.config.Name, ctx.Err())
	}
}

// Pause asks for no further messages in this process, and gives those back that
// wait here; the handlers under way go on. When it returns, no further message is
// taken. [Consumer.Resume] ends it.
func (c *Consumer) Pause() {
	c.state.pause(true)
	for _, in := range c.intakes {
		select {
		case <-in.park():
		case <-c.stopped:
		}
	}
}

// Resume goes on after [Consumer.Pause].
func (c *Consumer) Resume() {
	c.state.pause(false)
	c.signal()
}

// Done is closed when the consumer has ended, after [Consumer.Stop] or by itself.
func (c *Consumer) Done() <-chan struct{} { return c.stopped }

// Err says why the consumer has ended by itself: the connection to the broker is
// closed for good, which wraps [broker.ErrClosed], or the configuration does not
// fit any more. It is nil while the consumer runs, and after Stop.
func (c *Consumer) Err() error {
	if !isDone(c.stopped) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// fail ends the consumer.
func (c *Consumer) fail(err error) {
	c.state.note(err)
	c.mu.Lock()
	if c.err == nil && c.asking.Err() == nil {
		c.err = fmt.Errorf("message: consumer %s of stream %s has ended: %w", c.config.Name, c.config.Stream, err)
		c.config.Logger.Error("message: a consumer has ended", slog.String("consumer", c.config.Name), slog.Any("error", err))
	}
	c.mu.Unlock()
	c.stop()
}

// signal lets the intakes look again whether to ask for messages.
func (c *Consumer) signal() {
	for _, in := range c.intakes {
		select {
		case in.wake <- struct{}{}:
		default:
		}
	}
}

// header returns the first value of a header, whose name is taken in any case.
func header(headers map[string][]string, name string) string {
	if values := headers[name]; len(values) > 0 {
		return values[0]
	}
	for other, values := range headers {
		if strings.EqualFold(other, name) && len(values) > 0 {
			return values[0]
		}
	}
	return ""
}

func (c *Consumer) warn(doing string, e *entry, err error) {
	c.state.note(err)
	c.config.Logger.Warn("message: "+doing, slog.String("consumer", c.config.Name), slog.String("id", e.m.ID),
		slog.String("subject", e.m.Subject), slog.Int("attempt", e.m.Attempt), slog.Any("error", err))
}

// ErrNoDeadLetters is wrapped when the stream of the dead letters does not exist.
var ErrNoDeadLetters = errors.New("message: there is no such dead-letter stream")
