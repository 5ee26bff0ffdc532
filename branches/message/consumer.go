package message

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/branches/message/broker"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/schema"
)

// Consumer handles messages until it is stopped, or cannot go on. Its methods are safe
// for concurrent use.
type Consumer struct {
	config   ConsumerConfig
	state    *state
	sizes    sizes
	queue    *queue
	inflight *inFlight
	worker   *worker
	cleaner  *cleaner
	intakes  []*intake // of the stream, and of the messages that were sent again

	ctx       context.Context // of the handlers
	interrupt context.CancelFunc
	asking    context.Context // ends when no more messages are requested
	stop      context.CancelFunc
	stopped   chan struct{} // closed when everything has ended

	mu  sync.Mutex
	err error // why the consumer has ended by itself
}

// Consume begins to handle messages. The inbox is in db, the database that the handler
// works in. Install the schema there with package schema.
//
// The error wraps [ErrInvalid] if the configuration is not valid, [broker.ErrNotFound] if
// the stream does not exist, and an error of package schema if the schema is not
// installed. Later, the consumer waits for the database or the broker after a fault, and
// creates a deleted consumer or dead-letter stream again. [Consumer.Done] is closed when
// the consumer has ended, and [Consumer.Err] says why.
func Consume(ctx context.Context, db *gorm.DB, b broker.Broker, config ConsumerConfig, handle Handler) (*Consumer, error) {
	if handle == nil {
		return nil, fmt.Errorf("message: consume: the handler is nil: %w", ErrInvalid)
	}
	return consume(ctx, db, b, config, func(config ConsumerConfig) BatchHandler { return config.oneByOne(handle) })
}

// defaultBatch is the Batch of ConsumeBatch.
const defaultBatch = 64

// ConsumeBatch is [Consume] with a handler that takes several messages at once, at most
// ConsumerConfig.Batch, by default 64.
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
			return config.observed(ctx, messages, func(ctx context.Context) error { return handle(ctx, tx, messages) })
		}
	})
}

func consume(ctx context.Context, db *gorm.DB, b broker.Broker, config ConsumerConfig, handler func(ConsumerConfig) BatchHandler) (*Consumer, error) {
	if db == nil || b == nil {
		return nil, fmt.Errorf("message: consume: the database or the broker is nil: %w", ErrInvalid)
	}
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("message: consume: %w", err)
	}
	config = config.withDefaults()
	var err error
	if config.observers, err = saga.NewObservers(config.Logger, config.Observers); err != nil {
		return nil, fmt.Errorf("message: consume: ConsumerConfig.Observers: %w: %w", err, ErrInvalid)
	}
	if err = schema.Check(ctx, db); err != nil {
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
	c := newConsumer(ctx, b, config, inbox, runner, handler(config))
	if err := c.subscribe(ctx); err != nil {
		c.interrupt()
		return nil, fmt.Errorf("message: consume: %w", err)
	}
	go c.run()
	return c, nil
}

// newConsumer makes a consumer and all its parts.
func newConsumer(ctx context.Context, b broker.Broker, config ConsumerConfig, inbox *inbox, runner *barrier.Transactions, handle BatchHandler) *Consumer {
	c := &Consumer{config: config, state: newState(config), queue: newQueue(config.Workers), stopped: make(chan struct{})}
	c.ctx, c.interrupt = context.WithCancel(context.WithoutCancel(ctx))
	c.asking, c.stop = context.WithCancel(c.ctx)
	c.sizes = sizes{config, c.state}
	c.inflight = &inFlight{ctx: c.ctx, config: config, broker: b, inbox: inbox, state: c.state, settled: c.settled, byID: map[string]*entry{}}
	outage := &outage{ctx: c.ctx, inbox: inbox, state: c.state, over: c.wake}
	claimer := &claimer{ctx: c.ctx, config: config, inbox: inbox, queue: c.queue, inflight: c.inflight, sizes: c.sizes, outage: outage}
	letters := &letterWriter{broker: b, config: config}
	c.cleaner = &cleaner{broker: b, config: config, inbox: inbox, state: c.state}
	c.worker = &worker{ctx: c.ctx, config: config, handle: handle, runner: runner, inbox: inbox, queue: c.queue, inflight: c.inflight,
		claimer: claimer, sizes: c.sizes, outage: outage, letters: letters, state: c.state}
	for _, subscription := range config.subscriptions() {
		c.intakes = append(c.intakes, &intake{config: subscription, consumer: config, asking: c.asking, broker: b, letters: letters,
			claimer: claimer, inflight: c.inflight, queue: c.queue, sizes: c.sizes, state: c.state, fail: c.fail, wake: make(chan struct{}, 1)})
	}
	return c
}

// subscribe opens the dead-letter stream and both subscriptions.
func (c *Consumer) subscribe(ctx context.Context) error {
	if _, err := c.worker.letters.open(ctx); err != nil {
		return err
	}
	for _, in := range c.intakes {
		if err := in.subscribe(ctx); err != nil {
			for _, other := range c.intakes {
				other.closeSubscription()
			}
			return err
		}
	}
	return nil
}

// run runs until asking ends, and then ends all parts.
func (c *Consumer) run() {
	defer close(c.stopped)
	defer c.worker.runner.Close()
	defer c.interrupt()
	var intakes, workers, background sync.WaitGroup
	background.Go(func() { c.keepAlive(c.ctx) })
	background.Go(func() { c.cleaner.run(c.asking) })
	for range c.config.Workers {
		workers.Go(c.worker.run)
	}
	for _, in := range c.intakes {
		intakes.Go(in.run)
	}
	intakes.Wait()
	rest, marking := c.queue.close()
	c.inflight.giveBack(rest)
	workers.Wait()
	c.inflight.giveBack(marking)
	c.flush()
	c.interrupt()
	background.Wait()
}

// flushTimeout is how long the consumer waits for the broker when it ends.
const flushTimeout = 2 * time.Second

// flush waits until the broker has received the last acknowledgements.
func (c *Consumer) flush() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), flushTimeout)
	defer cancel()
	if err := c.intakes[0].latest().Flush(ctx); err != nil && !errors.Is(err, broker.ErrClosed) {
		c.state.log.Warn("message: the last acknowledgements may be lost, then messages come again", slog.Any("error", err))
	}
}

// keepAlive extends the deliveries of the messages that this process has.
func (c *Consumer) keepAlive(ctx context.Context) {
	for {
		if sleep(ctx, c.ackWait()/3) != nil {
			return
		}
		for _, d := range c.inflight.kept() {
			// If it is lost, another delivery comes, and the inbox has the message.
			_ = d.Extend()
		}
	}
}

// ackWait is the shortest AckWait of the subscriptions.
func (c *Consumer) ackWait() time.Duration {
	shortest := 30 * time.Second
	for _, in := range c.intakes {
		if s := in.current(); s != nil {
			shortest = min(shortest, s.AckWait())
		}
	}
	return max(shortest, 30*time.Millisecond)
}

// Stop takes no more messages, and gives waiting messages back to the broker. It waits for
// running handlers until ctx ends. Then it interrupts them, and their messages come again.
// Stop uses up no attempt.
func (c *Consumer) Stop(ctx context.Context) error {
	c.stop()
	select {
	case <-c.stopped:
		return nil
	case <-ctx.Done():
		c.interrupt()
		return fmt.Errorf("message: stop consumer %s: %w", c.config.Name, ctx.Err())
	}
}

// Pause stops taking messages in this process, and gives waiting messages back to the
// broker. Running handlers go on. After Pause has returned, no more messages are taken
// until [Consumer.Resume].
func (c *Consumer) Pause() {
	c.state.setPaused(true)
	for _, in := range c.intakes {
		select {
		case <-in.pause():
		case <-c.stopped:
		}
	}
}

// Resume goes on after [Consumer.Pause].
func (c *Consumer) Resume() {
	c.state.setPaused(false)
	c.wake()
}

// Done returns a channel that is closed when the consumer has ended, after [Consumer.Stop]
// or by itself.
func (c *Consumer) Done() <-chan struct{} { return c.stopped }

// Err says why the consumer has ended by itself. The connection to the broker is closed
// for good, and the error wraps [broker.ErrClosed]; or the configuration is not valid any
// longer. Err returns nil while the consumer runs, and after Stop.
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
		c.state.log.Error("message: a consumer has ended", slog.Any("error", err))
	}
	c.mu.Unlock()
	c.stop()
}

// settled wakes the intakes when there is room for another request.
func (c *Consumer) settled(left int) {
	if left <= minRequest(c.sizes.window()) {
		c.wake()
	}
}

// wake lets the intakes check again whether to request messages.
func (c *Consumer) wake() {
	for _, in := range c.intakes {
		select {
		case in.wake <- struct{}{}:
		default:
		}
	}
}
