package message

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Status is what a [Consumer] is doing.
type Status string

// The statuses of a consumer.
const (
	Running            Status = "running"
	Paused             Status = "paused"                   // by Pause
	WaitingForDatabase Status = "waiting for the database" // it requests no messages until the database answers
	WaitingForBroker   Status = "waiting for the broker"   // it repeats its request
	Stopped            Status = "stopped"                  // by Stop, or because it cannot go on; see Err
)

// State describes what a [Consumer] is doing.
type State struct {
	Status Status

	// LastError is the last error of a handler, the database or the broker, at
	// LastErrorAt. It stays when the fault is over. It is nil if there was no error.
	LastError   error
	LastErrorAt time.Time

	// Lag is how many messages are not settled yet, in the broker and in all
	// processes of the consumer. It is -1 if the broker does not answer.
	Lag int64

	// InProgress is how many messages this process has, being handled or waiting.
	InProgress int

	// Handled counts the messages whose local transaction was committed, Failed the
	// failed attempts, and Buried the dead letters, since this consumer began.
	Handled, Failed, Buried uint64
}

// state keeps what a consumer reports about itself, and measures its handler. It is safe
// for concurrent use.
type state struct {
	log *slog.Logger // names the consumer

	mu              sync.Mutex
	last            error
	lastAt          time.Time
	handled, failed uint64
	buried          uint64
	paused          bool
	database        int  // how many goroutines wait for it
	broker          bool // the consumer waits for it
	perMessage      time.Duration
	perCall         time.Duration // the handler's part of perMessage
}

func newState(config ConsumerConfig) *state {
	return &state{log: config.Logger.With(slog.String("consumer", config.Name))}
}

type tally struct{ handled, failures, buried uint64 }

func (s *state) count(t tally) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handled += t.handled
	s.failed += t.failures
	s.buried += t.buried
}

func (s *state) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.lastAt = err, time.Now()
}

// warn notes and logs an error about a message.
func (s *state) warn(doing string, e *entry, err error) {
	s.note(err)
	s.log.Warn("message: "+doing, slog.String("id", e.m.ID), slog.String("subject", e.m.Subject),
		slog.Int("attempt", e.m.Attempt), slog.Any("error", err))
}

// databaseFailed reports whether this is the first goroutine that waits for the database.
func (s *state) databaseFailed(err error) (first bool) {
	s.note(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.database++
	return s.database == 1
}

func (s *state) databaseBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.database--
}

// brokerFailed reports whether the error differs from the one before.
func (s *state) brokerFailed(err error) (differs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	differs = !s.broker || s.last == nil || s.last.Error() != err.Error()
	s.last, s.lastAt, s.broker = err, time.Now(), true
	return differs
}

func (s *state) brokerBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broker = false
}

func (s *state) setPaused(paused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = paused
}

func (s *state) isPaused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paused
}

// mayAsk reports whether the consumer may request messages.
func (s *state) mayAsk() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.paused && s.database == 0
}

// addDuration adds the duration of a local transaction, and of the handler in it, to the
// moving averages.
func (s *state) addDuration(while, called time.Duration, messages int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.perMessage = (7*s.perMessage + while/time.Duration(messages)) / 8
	s.perCall = (7*s.perCall + called/time.Duration(messages)) / 8
}

func (s *state) averages() (perMessage, perCall time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.perMessage, s.perCall
}

// State returns the state of the consumer. It asks the broker for the lag, until ctx
// ends.
func (c *Consumer) State(ctx context.Context) State {
	now := c.now()
	now.Lag = -1
	if now.Status != Stopped {
		if lag, err := c.lag(ctx); err == nil {
			now.Lag = lag
		}
	}
	return now
}

func (c *Consumer) now() State {
	inProgress := c.inflight.count()
	s := c.state
	s.mu.Lock()
	defer s.mu.Unlock()
	now := State{Status: Running, LastError: s.last, LastErrorAt: s.lastAt, InProgress: inProgress,
		Handled: s.handled, Failed: s.failed, Buried: s.buried}
	switch {
	case isDone(c.stopped):
		now.Status = Stopped
	case s.paused:
		now.Status = Paused
	case s.database > 0:
		now.Status = WaitingForDatabase
	case s.broker:
		now.Status = WaitingForBroker
	}
	return now
}

// lag is how many messages are not settled, of both subscriptions.
func (c *Consumer) lag(ctx context.Context) (lag int64, err error) {
	for _, in := range c.intakes {
		b, err := in.latest().Backlog(ctx)
		if err != nil {
			return 0, err
		}
		lag += int64(b.Waiting) + int64(b.Unsettled)
	}
	return lag, nil
}

func isDone(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
