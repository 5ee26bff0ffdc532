package dtm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tccsaga/tccsaga/saga"
)

// Begin opens a transaction that is decided later; see [saga.Engine].
func (e *Engine) Begin(ctx context.Context, opening saga.Opening) error {
	return wrap("begin", opening.GID, e.begin(ctx, opening))
}

func (e *Engine) begin(ctx context.Context, opening saga.Opening) error {
	if err := checkGID(opening.GID); err != nil {
		return err
	}
	if err := checkPattern(opening.Pattern); err != nil {
		return err
	}
	if len(opening.Labels) > 0 {
		return errLabels
	}
	timeout, err := seconds(opening.Timeout, e.config.OpenTimeout)
	if err != nil {
		return err
	}
	t := &transaction{engine: e, gid: opening.GID, timeout: timeout, mark: openMark, wait: true}
	_, err = t.prepare(ctx)
	return err
}

// Try adds a branch to an open transaction and tries it; see [saga.Engine].
func (e *Engine) Try(ctx context.Context, gid, branchID string, request saga.Step) error {
	return wrap("try", gid+"/"+branchID, e.try(ctx, gid, branchID, request))
}

func (e *Engine) try(ctx context.Context, gid, branchID string, request saga.Step) error {
	if err := checkGID(gid); err != nil {
		return err
	}
	s, err := e.kinds.newStep(ctx, gid, branchID, request)
	if err != nil {
		return err
	}
	found, err := e.open(ctx, gid)
	if err != nil {
		return err
	}
	if found.state().Decided() {
		return fmt.Errorf("it is %s: %w", found.state(), saga.ErrNotOpen)
	}
	left := time.Until(found.deadline())
	if left <= 0 {
		return fmt.Errorf("its deadline has passed: %w", saga.ErrNotOpen)
	}
	if b, known := found.find(s); known && !b.is(s) {
		return saga.ErrMismatch
	}
	trying, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	t := &transaction{engine: e, gid: gid}
	return t.try(trying, s, found)
}

// open reads a transaction that Begin has opened.
func (e *Engine) open(ctx context.Context, gid string) (record, error) {
	found, err := e.client.query(ctx, gid)
	switch {
	case errors.Is(err, saga.ErrNotFound):
		return found, err
	case err != nil:
		return found, &saga.UnknownError{GID: gid, Cause: err}
	case found.Transaction.CustomData != openMark:
		return found, fmt.Errorf("Execute runs it and decides: %w", saga.ErrNotOpen)
	}
	return found, nil
}

// Confirm decides to confirm an open transaction, and drives it; see [saga.Engine]. The
// server has no record of failed Trys. Package tcc has, in the process that made them.
func (e *Engine) Confirm(ctx context.Context, gid string, options saga.Options) (saga.Outcome, error) {
	if err := checkGID(gid); err != nil {
		return saga.Outcome{}, wrap("confirm", gid, err)
	}
	if options.LocalWork != nil || options.LocalWorkIn != "" {
		return saga.Outcome{GID: gid}, wrap("confirm", gid, errLocalWork)
	}
	if len(options.Labels) > 0 {
		return saga.Outcome{GID: gid}, wrap("confirm", gid, errLabels)
	}
	if options.Timeout != 0 {
		return saga.Outcome{GID: gid}, wrap("confirm", gid, fmt.Errorf("%w: a Timeout is an option of Begin", saga.ErrInvalid))
	}
	// For an unknown gid, submit would make the server begin a new transaction
	// without branches.
	found, err := e.open(ctx, gid)
	if err != nil && (found.Transaction == nil || !found.state().Decided()) {
		return saga.Outcome{GID: gid}, wrap("confirm", gid, err)
	}
	if found.state().Decided() {
		outcome := found.outcome()
		return outcome, outcome.Err(nil)
	}
	t := &transaction{engine: e, gid: gid, wait: !options.ReturnDecided}
	if time.Until(found.deadline()) <= 0 {
		// The server accepts a submit until it checks its clock.
		outcome, err := t.abort(ctx, "it was undecided at its deadline")
		if err != nil {
			return saga.Outcome{GID: gid}, &saga.UnknownError{GID: gid, Cause: err}
		}
		return outcome, outcome.Err(nil)
	}
	return t.submit(ctx)
}

// Cancel decides to cancel an undecided transaction, and drives it; see [saga.Engine].
func (e *Engine) Cancel(ctx context.Context, gid, reason string) (saga.Outcome, error) {
	if err := checkGID(gid); err != nil {
		return saga.Outcome{}, wrap("cancel", gid, err)
	}
	if reason == "" {
		reason = "cancelled by the caller"
	}
	found, err := e.client.query(ctx, gid)
	switch {
	case errors.Is(err, saga.ErrNotFound):
		return saga.Outcome{GID: gid}, wrap("cancel", gid, err)
	case err != nil:
		return saga.Outcome{GID: gid}, &saga.UnknownError{GID: gid, Cause: err}
	}
	outcome := found.outcome()
	if !outcome.State.Decided() {
		t := &transaction{engine: e, gid: gid, wait: true}
		if outcome, err = t.abort(ctx, reason); err != nil {
			return saga.Outcome{GID: gid}, &saga.UnknownError{GID: gid, Cause: err}
		}
	}
	if outcome.State == saga.Confirming || outcome.State == saga.Confirmed {
		return outcome, wrap("cancel", gid, saga.ErrConfirmed)
	}
	return outcome, nil
}
