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

// intake asks for the messages of one subscription, as many as the workers can use
// soon, and queues them.
//
// After an interruption, messages may have been on their way that come again when
// their AckWait is over, after younger ones. So messages with a key are held until
// the broker says that this process has all that is not settled, or the AckWait is
// over.
type intake struct {
	c      *Consumer
	config broker.SubscriptionConfig
	wake   chan struct{} // look again whether to ask

	mu      sync.Mutex
	sub     broker.Subscription // nil while there is none
	last    broker.Subscription // the last one, which knows the backlog
	parked  []chan struct{}     // closed once nothing is asked for, because of Pause
	unfetch context.CancelFunc  // ends the Fetch under way

	held      []*entry // with a key, after an interruption
	holding   bool
	expired   time.Time // when the AckWait of what was on its way is over
	holdUntil time.Time
	lost      int // messages that are not settled and that this process does not have
}

func newIntake(c *Consumer, config broker.SubscriptionConfig) *intake {
	return &intake{c: c, config: config, wake: make(chan struct{}, 1)}
}

// current is the subscription; nil if there is none at the moment.
func (in *intake) current() broker.Subscription {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.sub
}

func (in *intake) set(s broker.Subscription) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.sub = s
	if s != nil {
		in.last = s
	}
}

// park ends the asking for as long as the consumer is paused. It returns a channel
// that is closed when nothing is asked for any more.
func (in *intake) park() <-chan struct{} {
	in.mu.Lock()
	defer in.mu.Unlock()
	p := make(chan struct{})
	in.parked = append(in.parked, p)
	if in.unfetch != nil {
		in.unfetch()
	}
	return p
}

// rest gives back what came, and says that nothing is asked for.
func (in *intake) rest() {
	in.abandon()
	in.c.giveBack(in.held)
	in.held = nil
	in.c.giveBack(in.c.queue.empty())
	in.mu.Lock()
	parked := in.parked
	in.parked = nil
	in.mu.Unlock()
	for _, p := range parked {
		close(p)
	}
	in.wait()
}

// fetch asks for messages, until the consumer is paused.
func (in *intake) fetch(room int) ([]broker.Delivery, error) {
	ctx, cancel := context.WithCancel(in.c.asking)
	defer cancel()
	in.mu.Lock()
	in.unfetch = cancel
	in.mu.Unlock()
	if in.c.state.isPaused() {
		return nil, nil
	}
	deliveries, err := in.sub.Fetch(ctx, room)
	if ctx.Err() != nil {
		err = nil
	}
	return deliveries, err
}

// subscribe opens the subscription, and first the stream of the dead letters if it
// is that one, which may have been deleted.
func (in *intake) subscribe(ctx context.Context) error {
	if in.config.Stream == in.c.config.DeadLetters {
		if _, err := in.c.openDead(ctx); err != nil {
			return err
		}
	}
	s, err := in.c.broker.Subscribe(ctx, in.config)
	if err != nil {
		return err
	}
	in.set(s)
	in.hold()
	return nil
}

// hold begins to hold messages with a key.
func (in *intake) hold() {
	wait := in.current().AckWait()
	in.holding, in.expired, in.holdUntil = true, time.Now().Add(wait), time.Now().Add(2*wait+time.Second)
}

// between is the pause between two looks whether something has changed, and after a
// fault of the broker.
const between = 500 * time.Millisecond

// run asks until asking ends.
func (in *intake) run() {
	defer in.end()
	for in.c.asking.Err() == nil {
		if in.c.state.isPaused() {
			in.rest()
			continue
		}
		if in.current() == nil && !in.resubscribe() {
			continue
		}
		in.release()
		room := in.room()
		if room <= 0 || !in.c.state.asking() {
			in.wait()
			continue
		}
		deliveries, err := in.fetch(room)
		in.take(deliveries)
		switch {
		case err == nil:
			in.c.state.brokerBack()
		case in.c.asking.Err() != nil:
		case errors.Is(err, broker.ErrClosed):
			in.c.fail(err)
		case errors.Is(err, broker.ErrRepeat):
			in.hold()
		case errors.Is(err, broker.ErrNotFound):
			in.failed(err)
			in.abandon()
		default:
			in.failed(err)
			in.wait()
		}
	}
}

func (in *intake) failed(err error) {
	if in.c.state.brokerFailed(err) {
		in.c.config.Logger.Warn("message: asking for messages", slog.String("consumer", in.config.Name), slog.String("stream", in.config.Stream), slog.Any("error", err))
	}
}

// resubscribe makes the consumer again, or waits and returns false.
func (in *intake) resubscribe() bool {
	ctx, cancel := context.WithTimeout(in.c.asking, 10*time.Second)
	defer cancel()
	err := in.subscribe(ctx)
	switch {
	case err == nil:
		return true
	case in.c.asking.Err() != nil:
	case errors.Is(err, broker.ErrClosed), errors.Is(err, broker.ErrInvalid), errors.Is(err, broker.ErrUnsafe):
		in.c.fail(err)
	default:
		in.failed(err)
		in.wait()
	}
	return false
}

// wait waits for a signal, for a while at most.
func (in *intake) wait() {
	timer := time.NewTimer(between)
	defer timer.Stop()
	select {
	case <-in.wake:
	case <-timer.C:
	case <-in.c.asking.Done():
	}
}

const (
	// ahead is how much work a process takes ahead: what its workers do in this
	// time. The messages of a slow handler wait in the broker instead, where other
	// processes find them.
	ahead = 100 * time.Millisecond

	// mostAhead bounds it in messages.
	mostAhead = 512
)

// window is how many messages this process may have.
func (c *Consumer) window() int {
	window := c.config.Workers * c.most()
	if average, _ := c.state.averages(); average > 0 {
		window += min(mostAhead, int(ahead/average)*c.config.Workers)
	}
	return window
}

// room is how many messages this process can use now.
func (in *intake) room() int {
	c := in.c
	window := c.window()
	c.mu.Lock()
	has := len(c.inflight)
	c.mu.Unlock()
	switch room := window - has; {
	case (!in.holding || in.lost <= 0) && room < enough(window) && c.queue.waiting() == 0:
		return 0
	case !in.holding || in.lost <= 0:
		return room
	case time.Now().Before(in.expired) && has >= window+in.lost:
		return 0 // these are younger; what was lost comes later
	default:
		return in.lost
	}
}

// enough is how much room is worth a request, as long as no worker waits: each costs
// a commit in the inbox.
func enough(window int) int { return max(1, window/2) }

// take queues messages, after a look into the inbox.
func (in *intake) take(deliveries []broker.Delivery) {
	if len(deliveries) == 0 {
		return
	}
	entries := in.c.register(deliveries)
	if len(entries) == 0 {
		return
	}
	todo, err := in.c.claim(entries)
	if err != nil { // interrupted
		in.c.giveBack(entries)
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
	in.queue(now)
}

// complete reads what messages are without that were sent again.
func (in *intake) complete(entries []*entry) (whole []*entry) {
	c := in.c
	for _, e := range entries {
		if e.without && !e.bury {
			ctx, cancel := context.WithTimeout(c.asking, 10*time.Second)
			m, err := complete(ctx, c.broker, e.m)
			cancel()
			switch {
			case errors.Is(err, broker.ErrNotFound):
				e.bury, e.alone, e.reason = true, true, err.Error()
			case err != nil:
				c.warn("reading the data of a message that was sent again", e, err)
				c.askAgain(e, c.pause(1))
				continue
			default:
				e.m = m
				e.m.Key = c.config.Key(m)
			}
		}
		whole = append(whole, e)
	}
	return whole
}

func (in *intake) queue(entries []*entry) {
	if len(entries) > 0 && !in.c.queue.add(entries...) {
		in.c.giveBack(entries)
	}
}

// release queues what was held, once nothing older can come.
func (in *intake) release() {
	if !in.holding {
		return
	}
	if time.Now().Before(in.holdUntil) {
		ctx, cancel := context.WithTimeout(in.c.asking, time.Second)
		defer cancel()
		backlog, err := in.current().Backlog(ctx)
		if in.lost = backlog.Unsettled - in.c.has(in.config.Stream); err != nil || in.lost > 0 {
			return
		}
	}
	in.holding, in.lost = false, 0
	slices.SortStableFunc(in.held, func(a, b *entry) int { return cmp.Compare(a.m.Sequence, b.m.Sequence) })
	in.queue(in.held)
	in.held = nil
}

// abandon gives the subscription up.
func (in *intake) abandon() {
	if s := in.current(); s != nil {
		in.set(nil)
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		in.returned(s.Close(ctx))
	}
}

// end gives back what came and what was held.
func (in *intake) end() {
	in.c.giveBack(in.held)
	in.held = nil
	in.abandon()
}

func (in *intake) returned(deliveries []broker.Delivery, err error) {
	if err != nil && !errors.Is(err, broker.ErrClosed) {
		in.c.config.Logger.Warn("message: ending a subscription: messages that were on their way come again later",
			slog.String("consumer", in.config.Name), slog.Any("error", err))
	}
	for _, d := range deliveries {
		_ = d.Again(0) // it comes again anyhow, only later
	}
}
