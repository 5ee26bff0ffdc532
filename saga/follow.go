package saga

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/internal/inflight"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// follow gives the outcome of a transaction that was started before, here or
// elsewhere. It waits for the decision, and for its end in this process, if it is in flight here.
func (o *Orchestrator) follow(ctx context.Context, gid, digest string, other *inflight.Entry) (Outcome, error) {
	if other != nil {
		select {
		case <-other.Done():
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return o.decidedBy(ctx, gid, digest)
		}
	}
	record, err := o.readLocked(ctx, gid)
	if err == nil {
		if record.Digest != digest {
			return Outcome{}, fmt.Errorf("execute: the gid %s: %w", gid, ErrMismatch)
		}
		if !State(record.State).Decided() {
			record, err = o.awaitDecision(ctx, gid)
		}
	}
	if err != nil {
		return Outcome{GID: gid}, &UnknownError{GID: gid, Cause: err}
	}
	outcome := outcomeOf(record)
	return outcome, outcome.Err(nil)
}

// decidedBy is what a caller is told whose context ends while the transaction is
// driven: its outcome, if it is decided.
func (o *Orchestrator) decidedBy(ctx context.Context, gid, digest string) (Outcome, error) {
	cause := context.Cause(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerGrace/2)
	defer cancel()
	record, err := o.readLocked(ctx, gid)
	switch outcome := outcomeOf(record); {
	case err != nil || !outcome.State.Decided():
		return Outcome{GID: gid}, &UnknownError{GID: gid, Cause: cause}
	case record.Digest != digest:
		return Outcome{}, fmt.Errorf("execute: the gid %s: %w", gid, ErrMismatch)
	default:
		return outcome, outcome.Err(nil)
	}
}

// awaitDecision reads the log until the transaction is decided.
func (o *Orchestrator) awaitDecision(ctx context.Context, gid string) (txlog.Record, error) {
	return o.awaitState(ctx, gid, State.Decided)
}

// awaitState reads the log until the transaction is in a state that will do.
func (o *Orchestrator) awaitState(ctx context.Context, gid string, will func(State) bool) (txlog.Record, error) {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, o.config.Poll) {
		record, err := o.readLocked(ctx, gid)
		if err != nil || will(State(record.State)) {
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

// readLocked reads a transaction with a locking read: of the database that takes
// writes, and not of a replica that lags behind.
func (o *Orchestrator) readLocked(ctx context.Context, gid string) (record txlog.Record, err error) {
	err = local.Run(ctx, o.db, func(tx *gorm.DB) error {
		record, err = o.log.GetLocked(ctx, tx, gid)
		return err
	})
	return record, err
}
