package dtm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tccsaga/tccsaga/saga"
)

// Begin opens a transaction whose decision comes later; see [saga.Engine].
func (e *Engine) Begin(ctx context.Context, opening saga.Opening) error {
	err := checkGID(opening.GID)
	if err == nil {
		err = checkPattern(opening.Pattern)
	}
	if err != nil {
		return fmt.Errorf("dtm: begin %s: %w", opening.GID, err)
	}
	timeout, err := seconds(opening.Timeout, e.config.OpenTimeout)
	if err != nil {
		return fmt.Errorf("dtm: begin %s: %w", opening.GID, err)
	}
	t := &transaction{engine: e, gid: opening.GID, timeout: timeout, mark: openMark, wait: true}
	_, err = t.prepare(ctx)
	return err
}

// Try adds a branch to an open transaction and tries it; see [saga.Engine].
func (e *Engine) Try(ctx context.Context, gid, branchID string, request saga.Step) error {
	s, err := e.newStep(ctx, gid, branchID, request)
	if err != nil {
		return fmt.Errorf("dtm: try %s/%s: %w", gid, branchID, err)
	}
	found, err := e.open(ctx, gid)
	if err != nil {
		return fmt.Errorf("dtm: try %s/%s: %w", gid, branchID, err)
	}
	if found.state().Decided() {
		return fmt.Errorf("dtm: try %s/%s: it is %s: %w", gid, branchID, found.state(), saga.ErrNotOpen)
	}
	left := time.Until(found.deadline())
	if left <= 0 {
		return fmt.Errorf("dtm: try %s/%s: its deadline has passed: %w", gid, branchID, saga.ErrNotOpen)
	}
	if b, known := found.find(s); known && !b.is(s) {
		return fmt.Errorf("dtm: try %s/%s: %w", gid, branchID, saga.ErrMismatch)
	}
	trying, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	t := &transaction{engine: e, gid: gid}
	if err := t.try(trying, s, found); err != nil {
		return fmt.Errorf("dtm: try %s/%s: %w", gid, branchID, err)
	}
	return nil
}

// open reads a transaction that this package has opened.
func (e *Engine) open(ctx context.Context, gid string) (record, error) {
	found, err := e.query(ctx, gid)
	switch {
	case errors.Is(err, saga.ErrNotFound):
		return found, err
	case err != nil:
		return found, &saga.UnknownError{GID: gid, Cause: err}
	case found.Transaction.CustomData != openMark:
		return found, fmt.Errorf("it is being executed with a plan, which decides by itself: %w", saga.ErrNotOpen)
	}
	return found, nil
}

// Confirm decides to confirm an open transaction, and drives it; see
// [saga.Engine]. The server does not know whether every Try succeeded: package
// tcc does, in the process that made them.
func (e *Engine) Confirm(ctx context.Context, gid string, options saga.Options) (saga.Outcome, error) {
	if err := checkGID(gid); err != nil {
		return saga.Outcome{}, fmt.Errorf("dtm: confirm: %w", err)
	}
	if options.Timeout != 0 {
		return saga.Outcome{GID: gid}, fmt.Errorf("dtm: confirm %s: %w: a Timeout is an option of Begin", gid, saga.ErrInvalid)
	}
	if options.LocalWork != nil {
		return saga.Outcome{GID: gid}, fmt.Errorf("dtm: confirm %s: %w", gid, errLocalWork)
	}
	// Asked first, because the server takes a gid that it does not know for a
	// new transaction without branches.
	found, err := e.open(ctx, gid)
	if err != nil && (found.Transaction == nil || !found.state().Decided()) {
		return saga.Outcome{GID: gid}, fmt.Errorf("dtm: confirm %s: %w", gid, err)
	}
	if found.state().Decided() {
		outcome := found.outcome()
		return outcome, outcome.Err(nil)
	}
	t := &transaction{engine: e, gid: gid, wait: !options.ReturnDecided}
	if time.Until(found.deadline()) <= 0 {
		// The server would still take it, until it looks at its clock.
		outcome, err := t.abort(ctx, "it was undecided at its deadline")
		if err != nil {
			return saga.Outcome{GID: gid}, &saga.UnknownError{GID: gid, Cause: err}
		}
		return outcome, outcome.Err(nil)
	}
	return t.submit(ctx)
}

// Cancel decides to cancel a transaction that is undecided, and drives it; see
// [saga.Engine].
func (e *Engine) Cancel(ctx context.Context, gid, reason string) (saga.Outcome, error) {
	if err := checkGID(gid); err != nil {
		return saga.Outcome{}, fmt.Errorf("dtm: cancel: %w", err)
	}
	if reason == "" {
		reason = "cancelled by the caller"
	}
	found, err := e.query(ctx, gid)
	switch {
	case errors.Is(err, saga.ErrNotFound):
		return saga.Outcome{GID: gid}, fmt.Errorf("dtm: cancel %s: %w", gid, err)
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
		return outcome, fmt.Errorf("dtm: cancel %s: %w", gid, saga.ErrConfirmed)
	}
	return outcome, nil
}
