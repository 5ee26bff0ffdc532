package message

import (
	"context"
	"sync"
	"time"
)

// Status says what a [Consumer] is doing.
type Status string

// The states of a consumer.
const (
	Running            Status = "running"
	Paused             Status = "paused"                   // by Pause
	WaitingForDatabase Status = "waiting for the database" // it asks for no messages until the database answers
	WaitingForBroker   Status = "waiting for the broker"   // it asks again and again
	Stopped            Status = "stopped"                  // by Stop, or because it cannot go on; see Err
)

// State is what a [Consumer] says about itself.
type State struct {
	Status Status

	// LastError is the last thing that went wrong, at LastErrorAt, whether it is
	// over or not: of a handler, the database or the broker. Nil if nothing did.
	LastError   error
	LastErrorAt time.Time

	// Lag is how many messages are not settled yet, in the broker and in all
	// processes of the consumer. -1 if the broker does not say.
	Lag int64

	// InProgress is how many messages this process has, at work or waiting.
	InProgress int

	// Handled, Failed and Buried count since the start of this process: messages
	// whose local transaction was committed, failed attempts, and dead letters.
	Handled, Failed, Buried uint64
}

// state is the part of a State that a consumer keeps.
type state struct {
	mu              sync.Mutex
	last            error
	lastAt          time.Time
	handled, failed uint64
	buried          uint64
	paused          bool
	database        int  // who waits for it
	broker          bool // it is waited for
	perMessage      time.Duration
	perCall         time.Duration // of that, what the handler takes
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

// databaseFailed reports whether it was not waited for before.
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

// brokerFailed reports whether the error is another one than before.
func (s *state) brokerFailed(err error) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	news = !s.broker || s.last == nil || s.last.Error() != err.Error()
	s.last, s.lastAt, s.broker = err, time.Now(), true
	return news
}

func (s *state) brokerBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broker = false
}

// pause sets whether the consumer is paused.
func (s *state) pause(paused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = paused
}

func (s *state) isPaused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paused
}

// asking reports whether messages are to be asked for.
func (s *state) asking() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.paused && s.database == 0
}

// took notes how long messages took, of which the handler was called for so long: moving
// averages.
func (s *state) took(while, called time.Duration, messages int) {
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

// State says how the consumer is. It asks the broker for the lag, until ctx ends.
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
	c.mu.Lock()
	inProgress := len(c.inflight)
	c.mu.Unlock()
	s := &c.state
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

// lag is what the stream and the messages that were sent again have for it.
func (c *Consumer) lag(ctx context.Context) (lag int64, err error) {
	for _, in := range c.intakes {
		in.mu.Lock()
		s := in.last
		in.mu.Unlock()
		b, err := s.Backlog(ctx)
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
