// Package outcome ends branches that are in doubt in a service: it asks the engine for the
// outcome of the transaction, and makes the Confirm or Cancel that is due.
package outcome

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/barrierrows"
	"github.com/tccsaga/tccsaga/saga/internal/inputs"
	"github.com/tccsaga/tccsaga/saga/internal/jitter"
	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// Parts are what an [Asker] needs.
type Parts struct {
	Databases func() []*gorm.DB // that may have branches in doubt
	Prefix    string            // of the names of callers in the barrier rows
	After     time.Duration     // a branch is in doubt for at least so long

	// Ask returns the state of a transaction in the log of a caller. The error wraps
	// [saga.ErrNotFound] only if that log does not have the transaction.
	Ask func(ctx context.Context, caller, gid string) (saga.State, error)

	// Call makes a call of a branch, as it does for the engine.
	Call func(context.Context, saga.Call) error
}

// Asker ends branches that are in doubt. It is safe for concurrent use.
type Asker struct{ Parts }

// New returns an Asker.
func New(p Parts) *Asker { return &Asker{p} }

const (
	batch      = 16        // branches that are claimed, and ended at the same time
	maxBatches = 64        // of one pass, in each database
	maxErrors  = 5         // that a pass returns
	maxPause   = time.Hour // between two questions about one branch, if After is not longer
)

// Pass asks once for each branch for which it is time, up to a limit, and returns how many
// it has ended. If the engine of a caller does not answer, the pass asks it no more. The
// error has the first failures.
func (a *Asker) Pass(ctx context.Context) (ended int, err error) {
	p := &pass{Asker: a, silent: make(map[string]bool)}
	for _, db := range a.Databases() {
		if err := p.database(ctx, db); err != nil {
			p.failed(err)
		}
	}
	if left := p.failures - len(p.errors); left > 0 {
		p.errors = append(p.errors, fmt.Errorf("and %d more", left))
	}
	return p.ended, errors.Join(p.errors...)
}

// pause returns the time until the next question about a branch: half of the time for which
// it has been in doubt, at least After, and a random part less.
func (a *Asker) pause(ctx context.Context) func(since time.Duration) time.Duration {
	return func(since time.Duration) time.Duration {
		longest := max(a.After, min(since/2, maxPause))
		return longest/2 + jitter.UpTo(ctx, longest/2+1)
	}
}

// pass is one pass over the branches in doubt.
type pass struct {
	*Asker

	mu       sync.Mutex
	silent   map[string]bool // callers whose engines did not answer
	ended    int
	failures int
	errors   []error // the first failures
}

func (p *pass) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failures++; p.failures <= maxErrors {
		p.errors = append(p.errors, err)
	}
}

func (p *pass) isSilent(caller string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.silent[caller]
}

// database asks for the branches of one database, batch by batch.
func (p *pass) database(ctx context.Context, db *gorm.DB) error {
	for range maxBatches {
		claimed, err := inputs.Claim(ctx, db, batch, p.pause(ctx))
		if err != nil {
			return err
		}
		var branches sync.WaitGroup
		for _, key := range claimed {
			branches.Go(func() {
				done, err := p.end(ctx, db, key)
				if err != nil {
					p.failed(fmt.Errorf("%s: %w", key, err))
				} else if done {
					p.mu.Lock()
					p.ended++
					p.mu.Unlock()
				}
			})
		}
		branches.Wait()
		if len(claimed) < batch || ctx.Err() != nil {
			break
		}
	}
	return nil
}

// end asks for the outcome of one branch, and ends the branch if it is decided.
func (p *pass) end(ctx context.Context, db *gorm.DB, key barrier.Key) (ended bool, err error) {
	row, payload, err := p.look(ctx, db, key)
	if err != nil || row == nil {
		return false, err
	}
	call := saga.Call{GID: key.GID, BranchID: key.BranchID, Kind: row.Kind, Caller: strings.TrimPrefix(row.Caller, p.Prefix), Payload: payload, Attempt: 1}
	if p.isSilent(call.Caller) {
		return false, nil
	}
	state, err := p.Ask(ctx, call.Caller, call.GID)
	if call.Op, err = due(state, err); call.Op == "" {
		if err != nil {
			p.mu.Lock()
			p.silent[call.Caller] = true
			p.mu.Unlock()
			err = fmt.Errorf("ask for the outcome: %w", err)
		}
		return false, err
	}
	if err := p.Call(ctx, call); err != nil && !errors.Is(err, saga.ErrOngoing) {
		return false, fmt.Errorf("%s after asking for the outcome: %w", call.Op, err)
	} else if err != nil {
		return false, nil // its Try is under way, or its Cancel is called once more later
	}
	return true, nil
}

// due returns the call that is due with an outcome; none if the branch has to wait, with the
// error if the engine did not answer.
func due(state saga.State, err error) (barrier.Op, error) {
	switch {
	case errors.Is(err, saga.ErrOngoing):
		return "", nil
	case errors.Is(err, saga.ErrNotFound) && !errors.Is(err, saga.ErrOtherLog):
		// Presumed abort. The log named the branch before the Try was called, so the
		// transaction is not one that begins later. It is not finished either: then the
		// branch would not be in doubt.
		return barrier.Cancel, nil
	case err != nil:
		return "", err
	}
	switch state {
	case saga.Confirming, saga.Confirmed:
		return barrier.Confirm, nil
	case saga.Cancelling, saga.Cancelled:
		return barrier.Cancel, nil
	case saga.Trying:
		return "", nil
	default:
		return "", fmt.Errorf("the answer has the unknown state %.40q", string(state))
	}
}

// look returns the barrier row and the input of a branch; no row if the branch is not in
// doubt. It removes an input that a participant has left which does not ask.
func (p *pass) look(ctx context.Context, db *gorm.DB, key barrier.Key) (row *barrier.Row, payload []byte, err error) {
	err = local.Run(ctx, db, func(tx *gorm.DB) (err error) {
		// The barrier row first, in the order of a call.
		if row, err = barrierrows.LookLocked(ctx, tx, key); err != nil {
			return err
		}
		unclear := row != nil && row.UnderWay != nil && row.UnderWay.Op == barrier.Try // how its Try ended
		if row == nil || row.State != barrier.StateTried && !unclear {
			row = nil
			return inputs.Remove(ctx, tx, key)
		}
		underWay := unclear && row.State == barrier.StateTried && row.UnderWay.Left > 0
		var kept bool
		if payload, kept, err = inputs.Payload(ctx, tx, key); !kept || underWay {
			row = nil // it has just ended, or its Try has not
		}
		return err
	})
	return row, payload, err
}
