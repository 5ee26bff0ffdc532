package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/decide"
	"github.com/tccsaga/tccsaga/saga/internal/follow"
	"github.com/tccsaga/tccsaga/saga/internal/inflight"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/pause"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// planned executes transactions whose branches are all known.
type planned struct {
	admission *admission
	builder   *txn.Builder
	paused    *pause.Kinds
	inFlight  *inflight.Registry
	decider   *decide.Decider
	finisher  *finisher
	reader    *follow.Reader
	instance  string
	timeout   time.Duration // unless the plan says otherwise
}

// Execute runs a transaction whose branches are all known; see [Engine].
//
// The Trys come in the order of the plan. Those in the orchestrator's own database
// share local transactions with the log: the ones before the first Try elsewhere
// are in the commit that begins the transaction, and the ones after the last are in
// the commit with the decision. If all live there, one local transaction begins
// it, tries every branch, decides, and confirms those that act on nothing else; a
// Try that fails leaves nothing to cancel; and callers at the same time share it.
//
// When ctx ends before the decision, the transaction is cancelled; after it, the
// Confirms go on. Either way Execute returns within a second of the end of ctx.
func (p *planned) Execute(ctx context.Context, plan saga.Plan) (saga.Outcome, error) {
	outcome, err := p.start(ctx, plan)
	return outcome, txn.Wrap("execute", plan.GID, err)
}

func (p *planned) start(ctx context.Context, plan saga.Plan) (saga.Outcome, error) {
	t, err := p.builder.Prepare(plan)
	if err != nil {
		return saga.Outcome{}, err
	}
	timeout, err := timeoutOf(plan.Timeout, p.timeout)
	if err != nil {
		return saga.Outcome{}, txn.Invalid("%w", err)
	}
	if err := local.Expired(ctx); err != nil {
		return saga.Outcome{}, fmt.Errorf("nothing was begun: %w", err)
	}
	ctx, leave, err := p.admission.enter(ctx)
	if err != nil {
		return saga.Outcome{}, err
	}
	return awaitOutcome(ctx, plan.GID, func() (saga.Outcome, error) {
		defer leave()
		return p.execute(ctx, plan, t, timeout)
	})
}

func (p *planned) execute(ctx context.Context, plan saga.Plan, t *txn.Txn, timeout time.Duration) (saga.Outcome, error) {
	digest := t.Digest(plan.Pattern)
	if err := p.paused.Refuse(t.Steps); err != nil {
		if outcome, followErr := p.follow(ctx, t.GID, digest, nil); !errors.Is(followErr, txlog.ErrNotFound) {
			return outcome, followErr
		}
		return saga.Outcome{}, err
	}
	entry, first := p.inFlight.Start(t.GID)
	for entry != nil && !first {
		outcome, err := p.follow(ctx, t.GID, digest, entry)
		if !errors.Is(err, txlog.ErrNotFound) {
			return outcome, err
		}
		// The other caller went away before anything was written.
		entry, first = p.inFlight.Start(t.GID)
	}
	if entry == nil {
		return saga.Outcome{}, saga.ErrStopped
	}
	start := txlog.Start{
		GID: t.GID, Pattern: plan.Pattern, Digest: digest, Owner: p.instance, Deadline: timeout, Branches: t.Rows(),
	}
	decision := p.decider.Decide(ctx, t, start, plan.LocalWork)
	switch {
	case errors.Is(decision.Cause, txlog.ErrExists):
		p.inFlight.Release(entry)
		return p.follow(ctx, t.GID, digest, nil)
	case !decision.State.Decided():
		p.inFlight.Release(entry)
		return saga.Outcome{GID: t.GID}, &saga.UnknownError{GID: t.GID, Cause: decision.Cause}
	case decision.Taken:
		p.inFlight.Release(entry)
		return decision.Outcome, decision.Err(nil)
	}
	outcome := p.finisher.finish(ctx, t, entry, decision.Outcome, plan.ReturnDecided)
	return outcome, outcome.Err(decision.Cause)
}

// follow gives the outcome of a transaction that was started before, here or
// elsewhere. It waits for the decision, and for its end in this process, if it is in flight here.
func (p *planned) follow(ctx context.Context, gid, digest string, other *inflight.Entry) (saga.Outcome, error) {
	if other != nil {
		select {
		case <-other.Done():
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return p.decidedBy(ctx, gid, digest)
		}
	}
	record, err := p.reader.Locked(ctx, gid)
	if err == nil {
		if record.Digest != digest {
			return saga.Outcome{}, fmt.Errorf("the gid is %w", saga.ErrMismatch)
		}
		if !saga.State(record.State).Decided() {
			record, err = p.reader.AwaitDecision(ctx, gid)
		}
	}
	if err != nil {
		return saga.Outcome{GID: gid}, &saga.UnknownError{GID: gid, Cause: err}
	}
	outcome := follow.Outcome(record)
	return outcome, outcome.Err(nil)
}

// decidedBy is what a caller is told whose context ends while the transaction is
// driven: its outcome, if it is decided.
func (p *planned) decidedBy(ctx context.Context, gid, digest string) (saga.Outcome, error) {
	cause := context.Cause(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerGrace/2)
	defer cancel()
	record, err := p.reader.Locked(ctx, gid)
	switch outcome := follow.Outcome(record); {
	case err != nil || !outcome.State.Decided():
		return saga.Outcome{GID: gid}, &saga.UnknownError{GID: gid, Cause: cause}
	case record.Digest != digest:
		return saga.Outcome{}, fmt.Errorf("the gid is %w", saga.ErrMismatch)
	default:
		return outcome, outcome.Err(nil)
	}
}
