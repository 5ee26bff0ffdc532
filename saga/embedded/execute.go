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
	"github.com/tccsaga/tccsaga/saga/internal/observe"
	"github.com/tccsaga/tccsaga/saga/internal/pause"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// planned has the method for transactions whose branches are all known.
type planned struct {
	admission *admission
	builder   *txn.Builder
	paused    *pause.Kinds
	inFlight  *inflight.Registry
	decider   *decide.Decider
	finisher  *finisher
	reader    *follow.Reader
	again     func(t *txn.Txn, postponed bool) // see recovery.Recovery.Again
	instance  string
	timeout   time.Duration // unless the plan says otherwise
	observe   *observe.Notifier
}

// Execute runs a transaction whose branches are all known; see [saga.Engine].
//
// The Trys are called in the order of the plan. Trys in the engine's own database share local
// transactions with the log: those before the first Try in another database or service are in
// the commit that begins the transaction, and those after the last one are in the commit with
// the decision. If all branches are in the engine's own database, one local transaction
// begins the transaction, tries every branch, decides, and confirms the branches that work
// only in that database. Callers at the same time share it, and a failed Try leaves nothing
// to cancel.
//
// If ctx ends before the decision, the transaction is cancelled. If it ends later, the
// Confirms continue. If a branch decides, and does not say whether its Try was committed, the
// error is a [*saga.UnknownError], and recovery asks the branch again. In both cases Execute
// returns within a second after the end of ctx.
func (p *planned) Execute(ctx context.Context, plan saga.Plan) (saga.Outcome, error) {
	ctx, ended := p.observe.Operation(ctx, "execute", plan.GID)
	outcome, err := p.start(ctx, plan)
	ended(err)
	return outcome, txn.Wrap("execute", plan.GID, err)
}

func (p *planned) start(ctx context.Context, plan saga.Plan) (saga.Outcome, error) {
	ctx, plan, err := withLocalWork(ctx, plan)
	if err != nil {
		return saga.Outcome{}, txn.Invalid("%w", err)
	}
	t, err := p.builder.Prepare(plan)
	if err != nil {
		return saga.Outcome{}, err
	}
	timeout, err := timeoutOf(plan.Timeout, p.timeout)
	if err != nil {
		return saga.Outcome{}, txn.Invalid("%w", err)
	}
	if err = local.Expired(ctx); err != nil {
		return saga.Outcome{}, fmt.Errorf("nothing was begun: %w", err)
	}
	ctx, leave, err := p.admission.enter(ctx, true)
	if err != nil {
		return saga.Outcome{}, err
	}
	return awaitOutcome(ctx, plan.GID, func() (saga.Outcome, error) {
		defer leave()
		return p.execute(ctx, plan, t, timeout)
	})
}

// execute makes sure that this process drives the gid once, decides, and drives it.
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
		// The other caller ended before anything was written.
		entry, first = p.inFlight.Start(t.GID)
	}
	if entry == nil {
		return saga.Outcome{}, saga.ErrStopped
	}
	start := txlog.Start{
		GID: t.GID, Pattern: plan.Pattern, Digest: digest, Owner: p.instance, Deadline: timeout, Branches: t.Rows(), Labels: t.Labels,
	}
	start.Trace = p.observe.Inject(ctx)
	t.Trace = start.Trace
	decision := p.decider.Decide(ctx, t, start, plan.LocalWork)
	switch {
	case errors.Is(decision.Cause, txlog.ErrExists):
		p.inFlight.Release(entry)
		return p.follow(ctx, t.GID, digest, nil)
	case errors.Is(decision.Cause, decide.ErrPostponed):
		p.again(t, p.inFlight.Release(entry))
		return p.follow(ctx, t.GID, digest, nil)
	case !decision.State.Decided():
		if postponed := p.inFlight.Release(entry); t.Next > 0 {
			p.again(t, postponed)
		}
		return saga.Outcome{GID: t.GID}, &saga.UnknownError{GID: t.GID, Cause: decision.Cause}
	case decision.Taken:
		p.inFlight.Release(entry)
		return decision.Outcome, decision.Err(nil)
	}
	outcome := p.finisher.finish(ctx, t, entry, decision.Outcome, plan.ReturnDecided)
	return outcome, outcome.Err(decision.Cause)
}

// follow returns the outcome of a transaction that another call has started. It waits for the
// decision. If that call is in flight in this process as other, it waits for its end first.
func (p *planned) follow(ctx context.Context, gid, digest string, other *inflight.Entry) (saga.Outcome, error) {
	if other != nil {
		select {
		case <-other.Done():
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return p.outcomeNow(ctx, gid, digest)
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

// outcomeNow returns the outcome of a transaction that is in flight, for a caller whose
// context has ended. If the transaction is undecided, the error is an UnknownError.
func (p *planned) outcomeNow(ctx context.Context, gid, digest string) (saga.Outcome, error) {
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
