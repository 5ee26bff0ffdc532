package dtm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// The mark in DTM's custom data says how a transaction was begun.
const (
	planMark = "tccsaga plan " // by Execute; the digest of the plan follows
	openMark = "tccsaga open"  // by Begin
)

// transaction is a transaction that this process works on.
type transaction struct {
	engine  *Engine
	gid     string
	timeout int64 // seconds
	mark    string
	wait    bool // for the first round of calls
}

// prepare begins the transaction, or finds it in any state.
func (t *transaction) prepare(ctx context.Context) (found record, err error) {
	tb := t.engine.client.base(t.gid)
	tb.TimeoutToFail, tb.CustomData, tb.WaitResult = t.timeout, t.mark, t.wait
	tb.RetryInterval = int64(t.engine.config.RetryInterval / time.Second)
	for range maxAttempts {
		if err = t.engine.client.post(ctx, "prepare", tb); err == nil || errors.Is(err, errRefused) || ctx.Err() != nil {
			break
		}
	}
	if err != nil && !errors.Is(err, errRefused) {
		return found, &saga.UnknownError{GID: t.gid, Cause: fmt.Errorf("begin: %w", err)}
	}
	// The server accepts a prepare for any transaction with the same gid.
	found, err = t.engine.client.query(ctx, t.gid)
	if err != nil {
		return found, &saga.UnknownError{GID: t.gid, Cause: fmt.Errorf("read it: %w", err)}
	}
	if found.Transaction.CustomData != t.mark || found.Transaction.TransType != wire.TransType {
		return found, saga.ErrMismatch
	}
	return found, nil
}

// try registers a branch with the server if it is not registered, and makes the Try.
func (t *transaction) try(ctx context.Context, s *step, found record) error {
	if _, known := found.find(s); !known {
		if err := t.register(ctx, s); err != nil {
			return err
		}
	}
	return s.tryBranch(ctx)
}

// errDecided is the error of a branch that is added after the decision.
var errDecided = fmt.Errorf("the transaction is decided: %w", saga.ErrNotOpen)

// register registers a branch with the server. The server refuses a branch that is
// registered already, also if its answer was lost. So register reads the transaction
// after an error.
func (t *transaction) register(ctx context.Context, s *step) error {
	for attempt := 1; ; attempt++ {
		err := t.engine.client.register(ctx, s)
		if err == nil {
			return nil
		}
		found, queryErr := t.engine.client.query(ctx, s.call.GID)
		if queryErr != nil {
			return fmt.Errorf("register the branch %s: %w", s.call.BranchID, errors.Join(err, queryErr))
		}
		b, known := found.find(s)
		switch {
		case found.state().Decided():
			return fmt.Errorf("%s: %w", found.state(), errDecided)
		case known && b.is(s):
			return nil
		case known:
			return fmt.Errorf("branch %s: %w", s.call.BranchID, saga.ErrMismatch)
		case attempt == maxAttempts:
			return fmt.Errorf("register the branch %s: %w", s.call.BranchID, err)
		}
	}
}

// submit decides to confirm. It repeats this until the decision is certain.
func (t *transaction) submit(ctx context.Context) (saga.Outcome, error) {
	tb := t.engine.client.base(t.gid)
	tb.WaitResult = t.wait
	var err error
	for range maxAttempts {
		if err = t.engine.client.post(ctx, "submit", tb); err == nil {
			if t.wait {
				return saga.Outcome{GID: t.gid, State: saga.Confirmed}, nil
			}
			return saga.Outcome{GID: t.gid, State: saga.Confirming}, nil
		}
		found, queryErr := t.engine.client.query(ctx, t.gid)
		if queryErr != nil {
			err = errors.Join(err, queryErr)
			break
		}
		if found.state().Decided() {
			outcome := found.outcome()
			return outcome, outcome.Err(nil)
		}
	}
	return saga.Outcome{GID: t.gid}, &saga.UnknownError{GID: t.gid, Cause: err}
}

// cancel decides to cancel because of cause, even if the caller is gone.
func (t *transaction) cancel(ctx context.Context, cause error) (saga.Outcome, error) {
	if errors.Is(cause, errDecided) {
		return t.follow(ctx)
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), t.engine.config.RequestTimeout)
	defer stop()
	outcome, err := t.abort(ctx, cause.Error())
	if err != nil {
		return saga.Outcome{GID: t.gid}, &saga.UnknownError{GID: t.gid, Cause: fmt.Errorf("%w; the request to cancel failed, so the server cancels at the deadline: %w", cause, err)}
	}
	return outcome, outcome.Err(cause)
}

// maxReason is the most characters of the reason of a rollback in DTM's tables.
const maxReason = 1024

// abort decides to cancel. It repeats this until the decision is certain.
func (t *transaction) abort(ctx context.Context, reason string) (outcome saga.Outcome, err error) {
	tb := t.engine.client.base(t.gid)
	tb.RollbackReason = wire.Clip(reason, maxReason)
	for range maxAttempts {
		err = t.engine.client.post(ctx, "abort", tb)
		found, queryErr := t.engine.client.query(ctx, t.gid)
		if queryErr != nil {
			return outcome, errors.Join(err, queryErr)
		}
		if found.state().Decided() {
			return found.outcome(), nil
		}
	}
	return outcome, fmt.Errorf("decide to cancel: %w", err)
}

// errUndecided is the error of a transaction that another caller still executes.
var errUndecided = errors.New("it is still undecided")

// follow waits until another caller has decided the transaction, and returns the outcome.
func (t *transaction) follow(ctx context.Context) (saga.Outcome, error) {
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		found, err := t.engine.client.query(ctx, t.gid)
		if err != nil {
			return saga.Outcome{GID: t.gid}, &saga.UnknownError{GID: t.gid, Cause: err}
		}
		if found.state().Decided() {
			outcome := found.outcome()
			return outcome, outcome.Err(nil)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return saga.Outcome{GID: t.gid}, &saga.UnknownError{GID: t.gid, Cause: fmt.Errorf("%w: %w", errUndecided, ctx.Err())}
		}
	}
}
