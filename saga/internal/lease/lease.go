// Package lease keeps the state of the lease of a process in memory.
//
// In the database, the lease ends by the database's clock. In memory, it ends by the
// monotonic clock, counted from before the renewal was sent. So it never ends later in
// memory than in the database.
package lease

import (
	"context"
	"errors"
	"sync"
	"time"
)

var (
	// ErrLost is returned by Wait if there is no lease.
	ErrLost = errors.New("no lease")

	// ErrStopping is returned by Wait if its stopping channel is closed first.
	ErrStopping = errors.New("stopping")
)

// Lease is the lease of one process. It is safe for concurrent use.
type Lease struct {
	length time.Duration
	write  func(context.Context) error // writes a renewal to the database
	tell   func(held bool)             // is told when Keep notices that the lease was lost, or is held again

	mu       sync.Mutex
	until    time.Time
	resigned bool
	kept     bool          // Keep is renewing it
	lost     bool          // its end was told
	renewed  chan struct{} // closed and replaced at each renewal
}

// New returns a lease of the given length that is not held yet. A renewal calls write. Tell is
// called, in the goroutine of Keep, when the lease has ended without Resign, and when it is held
// again after that.
func New(length time.Duration, write func(context.Context) error, tell func(held bool)) *Lease {
	return &Lease{length: length, write: write, tell: tell, renewed: make(chan struct{})}
}

// Renew takes or renews the lease. It stops after half the length, so that one connection
// without an answer does not lose the lease.
func (l *Lease) Renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.length/2)
	defer cancel()
	sent := time.Now()
	if err := l.write(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = sent.Add(l.length)
	close(l.renewed)
	l.renewed = make(chan struct{})
	return nil
}

// minWait is the shortest time for which Wait waits for a renewal.
const minWait = 5 * time.Second

// Wait returns nil if the lease is held. If it is not, and Keep is renewing it, Wait waits
// for the renewal: for five seconds, or for the length of the lease if that is longer. It
// returns ErrLost after this time or at the end of ctx, and ErrStopping if stopping is
// closed. Without Keep it returns ErrLost at once.
func (l *Lease) Wait(ctx context.Context, stopping <-chan struct{}) error {
	if l.Held() {
		return nil
	}
	timer := time.NewTimer(max(l.length, minWait))
	defer timer.Stop()
	for {
		l.mu.Lock()
		held, kept, renewed := l.held(), l.kept && !l.resigned, l.renewed
		l.mu.Unlock()
		switch {
		case held:
			return nil
		case !kept:
			return ErrLost
		}
		select {
		case <-renewed:
		case <-stopping:
			return ErrStopping
		case <-ctx.Done():
			return ErrLost
		case <-timer.C:
			if l.Held() { // renewed at the same moment
				return nil
			}
			return ErrLost
		}
	}
}

// Held reports whether the lease is held.
func (l *Lease) Held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held()
}

func (l *Lease) held() bool { return time.Now().Before(l.until) && !l.resigned }

// Resign ends the lease for good: in memory, and in the database by calling release. It
// calls release only once.
func (l *Lease) Resign(release func() error) error {
	l.mu.Lock()
	before := l.resigned
	l.resigned = true
	l.mu.Unlock()
	if before {
		return nil
	}
	return release()
}

// Keep renews the lease three times per length, until ctx ends or Resign is called.
// It calls after with the result of each renewal.
func (l *Lease) Keep(ctx context.Context, after func(error)) {
	l.setKept(true)
	defer l.setKept(false)
	ticker := time.NewTicker(l.length / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if l.isResigned() {
			return
		}
		l.tellLost()
		err := l.Renew(ctx)
		if l.tellLost(); err == nil {
			l.tellHeld()
		}
		after(err)
	}
}

// tellLost tells that the lease has ended, once.
func (l *Lease) tellLost() {
	l.mu.Lock()
	lost := !l.lost && !l.resigned && !l.until.IsZero() && !l.held()
	l.lost = l.lost || lost
	l.mu.Unlock()
	if lost {
		l.tell(false)
	}
}

// tellHeld tells that the lease is held again, if its end was told.
func (l *Lease) tellHeld() {
	l.mu.Lock()
	again := l.lost && l.held()
	l.lost = l.lost && !again
	l.mu.Unlock()
	if again {
		l.tell(true)
	}
}

func (l *Lease) setKept(kept bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = kept
}

func (l *Lease) isResigned() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.resigned
}
