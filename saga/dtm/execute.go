package dtm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// Execute runs a transaction whose branches are all known; see [saga.Engine].
func (e *Engine) Execute(ctx context.Context, p saga.Plan) (saga.Outcome, error) {
	steps, digest, err := e.plan(ctx, p)
	if err != nil {
		return saga.Outcome{}, fmt.Errorf("dtm: execute %s: %w", p.GID, err)
	}
	if p.LocalWork != nil {
		return saga.Outcome{}, fmt.Errorf("dtm: execute %s: %w", p.GID, errLocalWork)
	}
	timeout, err := seconds(p.Timeout, e.config.Timeout)
	if err != nil {
		return saga.Outcome{}, fmt.Errorf("dtm: execute %s: %w", p.GID, err)
	}
	t := &transaction{engine: e, gid: p.GID, timeout: timeout, mark: digest, wait: !p.ReturnDecided}
	found, err := t.prepare(ctx)
	if err != nil {
		return saga.Outcome{GID: p.GID}, err
	}
	if found.state().Decided() {
		outcome := found.outcome()
		return outcome, outcome.Err(nil)
	}
	trying, cancel := context.WithTimeout(ctx, time.Duration(timeout)*time.Second)
	defer cancel()
	for _, s := range steps {
		if err := t.try(trying, s, found); err != nil {
			return t.giveUp(ctx, err)
		}
	}
	return t.submit(ctx)
}

// plan checks and encodes a plan, and identifies it.
func (e *Engine) plan(ctx context.Context, p saga.Plan) (steps []*step, digest string, err error) {
	if err := checkGID(p.GID); err != nil {
		return nil, "", err
	}
	if err := checkPattern(p.Pattern); err != nil {
		return nil, "", err
	}
	if len(p.Steps) == 0 || len(p.Steps) > saga.MaxBranches {
		return nil, "", fmt.Errorf("%w: the plan has %d branches, it needs 1 to %d", saga.ErrInvalid, len(p.Steps), saga.MaxBranches)
	}
	hash := sha256.New()
	for i, s := range p.Steps {
		step, err := e.newStep(ctx, p.GID, saga.BranchID(i+1), s)
		if err != nil {
			return nil, "", err
		}
		fmt.Fprintf(hash, "%d:%s%d:%s", len(s.Kind), s.Kind, len(step.call.Payload), step.call.Payload)
		steps = append(steps, step)
	}
	return steps, planMark + hex.EncodeToString(hash.Sum(nil)), nil
}

func checkPattern(pattern string) error {
	if pattern != wire.TransType {
		return fmt.Errorf("%w: the pattern %q: only %s is driven by a DTM server here", saga.ErrInvalid, pattern, wire.TransType)
	}
	return nil
}

// What tells, in DTM's custom data, who made a transaction: with a plan, whose
// digest follows, or open.
const (
	planMark = "tccsaga plan "
	openMark = "tccsaga open"
)

// transaction is one that this process works on.
type transaction struct {
	engine  *Engine
	gid     string
	timeout int64 // seconds
	mark    string
	wait    bool // for the first round of calls
}

// looks bounds how often something is asked again that got no answer. All that
// is asked may be asked again.
const looks = 3

// prepare begins the transaction, or finds it, in whatever state.
func (t *transaction) prepare(ctx context.Context) (found record, err error) {
	tb := t.engine.client.base(t.gid)
	tb.TimeoutToFail, tb.CustomData, tb.WaitResult = t.timeout, t.mark, t.wait
	tb.RetryInterval = int64(t.engine.config.RetryInterval / time.Second)
	for range looks {
		if err = t.engine.client.post(ctx, "prepare", tb); err == nil || errors.Is(err, errRefused) || ctx.Err() != nil {
			break
		}
	}
	if err != nil && !errors.Is(err, errRefused) {
		return found, &saga.UnknownError{GID: t.gid, Cause: fmt.Errorf("beginning it: %w", err)}
	}
	// The server takes any transaction with the same gid for this one.
	found, err = t.engine.query(ctx, t.gid)
	if err != nil {
		return found, &saga.UnknownError{GID: t.gid, Cause: fmt.Errorf("reading it: %w", err)}
	}
	if found.Transaction.CustomData != t.mark || found.Transaction.TransType != wire.TransType {
		return found, fmt.Errorf("dtm: the gid %s: %w", t.gid, saga.ErrMismatch)
	}
	return found, nil
}

// query reads a transaction, and asks again when it gets no answer.
func (e *Engine) query(ctx context.Context, gid string) (r record, err error) {
	for range looks {
		if r, err = e.client.query(ctx, gid); err == nil || errors.Is(err, saga.ErrNotFound) || ctx.Err() != nil {
			break
		}
	}
	return r, err
}

// try tells the server of a branch, unless it knows it, and makes the Try.
func (t *transaction) try(ctx context.Context, s *step, found record) error {
	if _, known := found.find(s); !known {
		if err := t.engine.register(ctx, s); err != nil {
			return err
		}
	}
	return s.tryBranch(ctx)
}

// errDecided is of a branch that came too late.
var errDecided = fmt.Errorf("the transaction is decided: %w", saga.ErrNotOpen)

// register tells the server of a branch. One that it knows already it refuses,
// and one may be known though its answer was lost: what it has then says so.
func (e *Engine) register(ctx context.Context, s *step) error {
	for look := 1; ; look++ {
		err := e.client.register(ctx, s)
		if err == nil {
			return nil
		}
		found, queryErr := e.query(ctx, s.call.GID)
		if queryErr != nil {
			return fmt.Errorf("registering the branch %s: %w", s.call.BranchID, errors.Join(err, queryErr))
		}
		b, known := found.find(s)
		switch {
		case found.state().Decided():
			return fmt.Errorf("%s: %w", found.state(), errDecided)
		case known && b.is(s):
			return nil
		case known:
			return fmt.Errorf("branch %s: %w", s.call.BranchID, saga.ErrMismatch)
		case look == looks:
			return fmt.Errorf("registering the branch %s: %w", s.call.BranchID, err)
		}
	}
}

// submit decides to confirm, until it is certain how the transaction is decided.
func (t *transaction) submit(ctx context.Context) (saga.Outcome, error) {
	tb := t.engine.client.base(t.gid)
	tb.WaitResult = t.wait
	var err error
	for range looks {
		if err = t.engine.client.post(ctx, "submit", tb); err == nil {
			if t.wait {
				return saga.Outcome{GID: t.gid, State: saga.Confirmed}, nil
			}
			return saga.Outcome{GID: t.gid, State: saga.Confirming}, nil
		}
		found, queryErr := t.engine.query(ctx, t.gid)
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

// giveUp decides to cancel because of cause. The caller may be gone; the
// decision is made all the same.
func (t *transaction) giveUp(ctx context.Context, cause error) (saga.Outcome, error) {
	if errors.Is(cause, errDecided) {
		return t.follow(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.engine.config.RequestTimeout)
	defer cancel()
	outcome, err := t.abort(ctx, cause.Error())
	if err != nil {
		return saga.Outcome{GID: t.gid}, &saga.UnknownError{GID: t.gid, Cause: fmt.Errorf("%w; and cancelling failed, so that it will be cancelled at its deadline: %w", cause, err)}
	}
	return outcome, outcome.Err(cause)
}

// maxReason is what DTM's tables hold of the reason of a rollback, in characters.
const maxReason = 1024

// abort decides to cancel, until it is certain how the transaction is decided.
func (t *transaction) abort(ctx context.Context, reason string) (outcome saga.Outcome, err error) {
	tb := t.engine.client.base(t.gid)
	tb.RollbackReason = wire.Clip(reason, maxReason)
	for range looks {
		err = t.engine.client.post(ctx, "abort", tb)
		found, queryErr := t.engine.query(ctx, t.gid)
		if queryErr != nil {
			return outcome, errors.Join(err, queryErr)
		}
		if found.state().Decided() {
			return found.outcome(), nil
		}
	}
	return outcome, fmt.Errorf("deciding: %w", err)
}

// follow gives the outcome of a transaction that somebody else executes, as soon
// as it is decided.
func (t *transaction) follow(ctx context.Context) (saga.Outcome, error) {
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		found, err := t.engine.query(ctx, t.gid)
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

// errLocalWork is of local work, which needs the log in the database where it runs.
var errLocalWork = fmt.Errorf("%w: a DTM server cannot decide in a local transaction of yours: LocalWork needs package embedded", saga.ErrInvalid)
