// Package follow reads the state of a transaction that another caller or instance may be
// driving, and waits for its decision or its end.
package follow

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// Reader reads transactions from the log. It is safe for concurrent use.
type Reader struct {
	db   *gorm.DB
	log  *txlog.Log
	poll time.Duration
}

// New returns a Reader. While it waits, it reads at least once in poll.
func New(db *gorm.DB, log *txlog.Log, poll time.Duration) *Reader { return &Reader{db, log, poll} }

// Locked reads a transaction with a locking read. That goes to the database that takes
// writes, and not to a replica.
func (r *Reader) Locked(ctx context.Context, gid string) (record txlog.Record, err error) {
	err = local.Run(ctx, r.db, func(tx *gorm.DB) error {
		record, err = r.log.GetLocked(ctx, tx, gid)
		return err
	})
	return record, err
}

// AwaitDecision waits until the transaction is decided.
func (r *Reader) AwaitDecision(ctx context.Context, gid string) (txlog.Record, error) {
	return r.Await(ctx, gid, saga.State.Decided)
}

// Await waits until done returns true for the state of the transaction.
func (r *Reader) Await(ctx context.Context, gid string, done func(saga.State) bool) (txlog.Record, error) {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, r.poll) {
		record, err := r.Locked(ctx, gid)
		if err != nil || done(saga.State(record.State)) {
			return record, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return record, fmt.Errorf("it is still %s: %w", record.State, ctx.Err())
		}
	}
}

// Outcome returns the outcome in a row of the log.
func Outcome(r txlog.Record) saga.Outcome {
	return saga.Outcome{GID: r.GID, State: saga.State(r.State), Reason: r.Reason, Code: r.Code, BranchID: r.BranchID}
}
