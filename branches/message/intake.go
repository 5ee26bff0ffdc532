package message

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/tccsaga/tccsaga/branches/message/broker"
)

// intake requests the messages of one subscription and queues them. It requests as many as
// the workers can use soon.
//
// After an interruption, older messages may have been lost on their way. They come again
// when their AckWait is over, after younger ones. So the intake holds messages with a key
// back until the broker reports that this process has all unsettled messages, or until the
// AckWait is over.
type intake struct {
	config   broker.SubscriptionConfig
	consumer ConsumerConfig
	asking   context.Context // ends when no more messages are requested
	broker   broker.Broker
	letters  *letterWriter
	claimer  *claimer
	inflight *inFlight
	queue    *queue
	sizes    sizes
	state    *state
	fail     func(error)   // ends the consumer
	wake     chan struct{} // check again whether to request messages

	mu      sync.Mutex
	sub     broker.Subscription // nil while there is none
	last    broker.Subscription // the last one, for the backlog
	pausing []chan struct{}     // each is closed once nothing is requested, because of Pause
	unfetch context.CancelFunc  // ends the running Fetch

	held      []*entry // messages with a key, after an interruption
	holding   bool
	expired   time.Time // when the AckWait of the lost messages is over
	holdUntil time.Time
	lost      int // unsettled messages that this process does not have
}

// current returns the subscription, or nil if there is none at the moment.
func (in *intake) current() broker.Subscription {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.sub
}

// latest returns the last subscription, which may be closed.
func (in *intake) latest() broker.Subscription {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.last
}

func (in *intake) set(s broker.Subscription) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.sub = s
	if s != nil {
		in.last = s
	}
}

// pause interrupts the running request. It returns a channel that is closed when no more
// messages are requested.
func (in *intake) pause() <-chan struct{} {
	in.mu.Lock()
	defer in.mu.Unlock()
	p := make(chan struct{})
	in.pausing = append(in.pausing, p)
	if in.unfetch != nil {
		in.unfetch()
	}
	return p
}

// paused gives waiting messages back, and reports that no messages are requested.
func (in *intake) paused() {
	in.closeSubscription()
	in.giveHeldBack()
	in.inflight.giveBack(in.queue.empty())
	in.mu.Lock()
	pausing := in.pausing
	in.pausing = nil
	in.mu.Unlock()
	for _, p := range pausing {
		close(p)
	}
	in.wait()
}

// fetch requests messages, until the consumer is paused.
func (in *intake) fetch(room int) ([]broker.Delivery, error) {
	ctx, cancel := context.WithCancel(in.asking)
	defer cancel()
	in.mu.Lock()
	in.unfetch = cancel
	in.mu.Unlock()
	if in.state.isPaused() {
		return nil, nil
	}
	deliveries, err := in.sub.Fetch(ctx, room)
	if ctx.Err() != nil {
		err = nil
	}
	return deliveries, err
}

// subscribe opens the subscription. The dead-letter stream may have been deleted, so it is
// opened first.
func (in *intake) subscribe(ctx context.Context) error {
	if in.config.Stream == in.consumer.DeadLetters {
		if _, err := in.letters.open(ctx); err != nil {
			return err
		}
	}
	s, err := in.broker.Subscribe(ctx, in.config)
	if err != nil {
		return err
	}
	in.set(s)
	in.hold()
	return nil
}

// hold begins to hold messages with a key back.
func (in *intake) hold() {
	wait := in.current().AckWait()
	in.holding, in.expired, in.holdUntil = true, time.Now().Add(wait), time.Now().Add(2*wait+time.Second)
}

// pollPause is the pause between two checks whether something has changed, and after a
// fault of the broker.
const pollPause = 500 * time.Millisecond

// run requests messages until asking ends.
func (in *intake) run() {
	defer in.end()
	for in.asking.Err() == nil {
		if in.state.isPaused() {
			in.paused()
			continue
		}
		if in.current() == nil && !in.resubscribe() {
			continue
		}
		in.queueHeld()
		room := in.room()
		if room <= 0 || !in.state.mayAsk() {
			in.wait()
			continue
		}
		deliveries, err := in.fetch(room)
		in.accept(deliveries)
		switch {
		case err == nil:
			in.state.brokerBack()
		case in.asking.Err() != nil:
		case errors.Is(err, broker.ErrClosed):
			in.fail(err)
		case errors.Is(err, broker.ErrRepeat):
			in.hold()
		case errors.Is(err, broker.ErrNotFound):
			in.warn(err)
			in.closeSubscription()
		default:
			in.warn(err)
			in.wait()
		}
	}
}

// warn logs an error of the broker, once until it changes.
func (in *intake) warn(err error) {
	if in.state.brokerFailed(err) {
		in.state.log.Warn("message: requesting messages, which is repeated", slog.String("stream", in.config.Stream), slog.Any("error", err))
	}
}

// resubscribe opens the subscription again. If that fails, it waits and returns false.
func (in *intake) resubscribe() bool {
	ctx, cancel := context.WithTimeout(in.asking, 10*time.Second)
	defer cancel()
	err := in.subscribe(ctx)
	switch {
	case err == nil:
		return true
	case in.asking.Err() != nil:
	case errors.Is(err, broker.ErrClosed), errors.Is(err, broker.ErrInvalid), errors.Is(err, broker.ErrUnsafe):
		in.fail(err)
	default:
		in.warn(err)
		in.wait()
	}
	return false
}

// wait waits until wake, but not longer than pollPause.
func (in *intake) wait() {
	timer := time.NewTimer(pollPause)
	defer timer.Stop()
	select {
	case <-in.wake:
	case <-timer.C:
	case <-in.asking.Done():
	}
}

// room is how many messages to request now.
func (in *intake) room() int {
	window := in.sizes.window()
	has := in.inflight.count()
	switch room := window - has; {
	case (!in.holding || in.lost <= 0) && room < minRequest(window) && in.queue.waiting() == 0:
		return 0
	case !in.holding || in.lost <= 0:
		return room
	case time.Now().Before(in.expired) && has >= window+in.lost:
		return 0 // further messages are younger; the lost ones come later
	default:
		return in.lost
	}
}

// accept looks messages up in the inbox, and queues those that need work.
func (in *intake) accept(deliveries []broker.Delivery) {
	if len(deliveries) == 0 {
		return
	}
	entries := in.inflight.register(deliveries)
	if len(entries) == 0 {
		return
	}
	todo, err := in.claimer.claim(entries)
	if err != nil { // interrupted
		in.inflight.giveBack(entries)
		return
	}
	todo = in.complete(todo)
	var now []*entry
	for _, e := range todo {
		if in.holding && e.m.Key != "" {
			in.held = append(in.held, e)
		} else {
			now = append(now, e)
		}
	}
	in.enqueue(now)
}

// complete reads the data of messages that were sent again without them.
func (in *intake) complete(entries []*entry) (whole []*entry) {
	for _, e := range entries {
		if e.without && !e.dead {
			ctx, cancel := context.WithTimeout(in.asking, 10*time.Second)
			m, err := complete(ctx, in.broker, e.m)
			cancel()
			switch {
			case errors.Is(err, broker.ErrNotFound):
				e.dead, e.alone, e.reason = true, true, err.Error()
			case err != nil:
				in.state.warn("reading the data of a message that was sent again", e, err)
				in.inflight.askAgain(e, in.consumer.backoff(1))
				continue
			default:
				e.m = m
				e.m.Key = in.consumer.Key(m)
			}
		}
		whole = append(whole, e)
	}
	return whole
}

func (in *intake) enqueue(entries []*entry) {
	if len(entries) > 0 && !in.queue.add(entries...) {
		in.inflight.giveBack(entries)
	}
}

// queueHeld queues the messages that are held back, once no older message can come.
func (in *intake) queueHeld() {
	if !in.holding {
		return
	}
	if time.Now().Before(in.holdUntil) {
		ctx, cancel := context.WithTimeout(in.asking, time.Second)
		defer cancel()
		backlog, err := in.current().Backlog(ctx)
		if in.lost = backlog.Unsettled - in.inflight.unsettled(in.config.Stream); err != nil || in.lost > 0 {
			return
		}
	}
	in.holding, in.lost = false, 0
	slices.SortStableFunc(in.held, func(a, b *entry) int { return cmp.Compare(a.m.Sequence, b.m.Sequence) })
	in.enqueue(in.held)
	in.held = nil
}

// closeSubscription closes the subscription, and gives the messages back that came
// meanwhile.
func (in *intake) closeSubscription() {
	s := in.current()
	if s == nil {
		return
	}
	in.set(nil)
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	deliveries, err := s.Close(ctx)
	if err != nil && !errors.Is(err, broker.ErrClosed) {
		in.state.log.Warn("message: closing a subscription, messages on their way come again later", slog.Any("error", err))
	}
	for _, d := range deliveries {
		_ = d.Again(0) // if this fails, the message comes again later
	}
}

func (in *intake) giveHeldBack() {
	in.inflight.giveBack(in.held)
	in.held = nil
}

// end gives all messages back that are not queued.
func (in *intake) end() {
	in.giveHeldBack()
	in.closeSubscription()
}
