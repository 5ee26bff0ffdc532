package dtm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// Execute runs a transaction with a known list of branches; see [saga.Engine].
func (e *Engine) Execute(ctx context.Context, p saga.Plan) (saga.Outcome, error) {
	steps, digest, err := e.plan(ctx, p)
	if err != nil {
		return saga.Outcome{}, wrap("execute", p.GID, err)
	}
	if p.LocalWork != nil || p.LocalWorkIn != "" {
		return saga.Outcome{}, wrap("execute", p.GID, errLocalWork)
	}
	timeout, err := seconds(p.Timeout, e.config.Timeout)
	if err != nil {
		return saga.Outcome{}, wrap("execute", p.GID, err)
	}
	t := &transaction{engine: e, gid: p.GID, timeout: timeout, mark: digest, wait: !p.ReturnDecided}
	found, err := t.prepare(ctx)
	if err != nil {
		return saga.Outcome{GID: p.GID}, wrap("execute", p.GID, err)
	}
	if found.state().Decided() {
		outcome := found.outcome()
		return outcome, outcome.Err(nil)
	}
	trying, cancel := context.WithTimeout(ctx, time.Duration(timeout)*time.Second)
	defer cancel()
	for _, s := range steps {
		if err := t.try(trying, s, found); err != nil {
			return t.cancel(ctx, err)
		}
	}
	return t.submit(ctx)
}

// plan checks and encodes a plan, and returns a mark with its digest.
func (e *Engine) plan(ctx context.Context, p saga.Plan) (steps []*step, mark string, err error) {
	if err := checkGID(p.GID); err != nil {
		return nil, "", err
	}
	if err := checkPattern(p.Pattern); err != nil {
		return nil, "", err
	}
	if len(p.Steps) == 0 || len(p.Steps) > saga.MaxBranches {
		return nil, "", fmt.Errorf("%w: the plan has %d branches, it needs 1 to %d", saga.ErrInvalid, len(p.Steps), saga.MaxBranches)
	}
	if len(p.Labels) > 0 {
		return nil, "", errLabels
	}
	hash := sha256.New()
	if p.TryAttempts > 1 || p.TryAttempts < 0 {
		return nil, "", fmt.Errorf("%w: a DTM server has no TryAttempts in its TCC pattern", saga.ErrInvalid)
	}
	for i, s := range p.Steps {
		if s.Parallel || s.AfterDecision || s.Decides {
			return nil, "", fmt.Errorf("%w: branch %s: a DTM server has no steps that are Parallel, AfterDecision or decide in its TCC pattern", saga.ErrInvalid, saga.BranchID(i+1))
		}
		id := saga.BranchID(i + 1)
		step, err := e.kinds.newStep(ctx, p.GID, id, s)
		if err != nil {
			return nil, "", fmt.Errorf("branch %s: %w", id, err)
		}
		fmt.Fprintf(hash, "%d:%s%d:%s", len(s.Kind), s.Kind, len(step.call.Payload), step.call.Payload)
		steps = append(steps, step)
	}
	return steps, planMark + hex.EncodeToString(hash.Sum(nil)), nil
}

func checkPattern(pattern string) error {
	if pattern != wire.TransType {
		return fmt.Errorf("%w: the pattern is %q, and this engine runs only %s", saga.ErrInvalid, pattern, wire.TransType)
	}
	return nil
}

// errLocalWork is of local work, which runs in the database of the log.
var errLabels = fmt.Errorf("%w: a DTM server does not keep Labels: use package embedded", saga.ErrInvalid)

var errLocalWork = fmt.Errorf("%w: a DTM server cannot decide in a local transaction of yours: use package embedded for LocalWork", saga.ErrInvalid)
