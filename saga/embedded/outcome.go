package embedded

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// answerer answers services that ask for outcomes.
type answerer struct {
	db    *gorm.DB
	log   *txlog.Log
	logID string
}

// Outcome returns the state of a transaction to a service that has a branch of it in doubt;
// see participant.Outcomes. The log is the caller that was named in the call of the branch.
//
// The error wraps [saga.ErrOtherLog] if this engine has another log, and then says nothing
// about the transaction. It wraps [saga.ErrNotFound] if this log does not have the
// transaction: it never began, or is removed after the retention. It wraps
// [saga.ErrOngoing] if the service has to wait for the call of the engine: an operator has
// paused the transaction or the kind of one of its branches, or the Cancels have an order, or
// the calls get results of Trys, which only the engine has.
//
// Outcome reads with a lock. So it waits for a decision that is under way, and never reads
// from a replica.
func (a *answerer) Outcome(ctx context.Context, log, gid string) (saga.State, error) {
	state, err := a.outcome(ctx, log, gid)
	if err != nil {
		return "", txn.Wrap("outcome", gid, err)
	}
	return state, nil
}

func (a *answerer) outcome(ctx context.Context, log, gid string) (saga.State, error) {
	if err := barrier.ValidateGID(gid); err != nil {
		return "", txn.Invalid("%w", err)
	}
	if log != a.logID {
		return "", fmt.Errorf("%w: the question is for the log %.128q, this engine has the log %s", saga.ErrOtherLog, log, a.logID)
	}
	var record txlog.Record
	var held txlog.Held
	err := local.Run(ctx, a.db, func(tx *gorm.DB) (err error) {
		if record, err = a.log.GetLocked(ctx, tx, gid); err != nil {
			return err
		}
		held, err = a.log.Held(ctx, tx, gid)
		return err
	})
	state := saga.State(record.State)
	switch {
	case errors.Is(err, txlog.ErrNotFound):
		return "", saga.ErrNotFound
	case err != nil:
		return "", err
	case state.Finished():
		return state, nil
	case record.Paused() || held.Paused:
		return "", fmt.Errorf("%w: an operator has paused it", saga.ErrOngoing)
	case held.Ordered && state == saga.Cancelling:
		return "", fmt.Errorf("%w: its Cancels have an order", saga.ErrOngoing)
	case held.Results && state.Decided():
		return "", fmt.Errorf("%w: its calls get the results of Trys", saga.ErrOngoing)
	}
	return state, nil
}
