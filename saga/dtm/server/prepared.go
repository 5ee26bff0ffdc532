package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/tccsaga/tccsaga/saga"
)

// queriedID is the branch_id of a query_prepared, as on a DTM server.
const queriedID = "00"

// prepareMessage records a message whose client commits its local transaction later. Nothing
// is called before the submit, the abort or the timeout: each of them asks query_prepared
// whether the local transaction is committed. The answer decides.
func (p *planner) prepareMessage(ctx context.Context, in *request) error {
	if in.query == "" {
		return invalid("the message has no query_prepared: without it, nobody can tell whether its local transaction is committed")
	}
	at, err := p.targets.of(in.query)
	if err != nil {
		return fmt.Errorf("%w: the query_prepared: %w", saga.ErrInvalid, err)
	}
	steps, err := p.plan(in)
	if err != nil {
		return err
	}
	if len(steps) == 0 {
		return invalid("the message has no steps")
	}
	query := branch{Type: msg.stored(), ID: queriedID, Query: in.query, settings: in.settings}
	steps = append([]saga.Step{{Kind: at.query, Input: query, Decides: true}}, named(steps)...)
	if err = p.record(ctx, saga.Plan{GID: in.gid, Pattern: PatternMsg, Steps: steps, Options: saga.Options{Timeout: in.timeout}}); err != nil {
		return err
	}
	// Record succeeds for a decided message too, but a repeated prepare is too late.
	found, err := p.engines[msg].Lookup(ctx, in.gid)
	if err == nil && found.State.Decided() {
		err = fmt.Errorf("%s is %s: %w", in.gid, found.State, saga.ErrNotOpen)
	}
	return err
}

// named gives the branches the ids that they have without the branch that decides.
func named(steps []saga.Step) []saga.Step {
	for i, s := range steps {
		if b := s.Input.(branch); b.ID == "" {
			b.ID = saga.BranchID(i + 1)
			steps[i].Input = b
		}
	}
	return steps
}

// isPrepared reports whether a message began with a prepare.
func isPrepared(t *saga.Transaction) bool {
	return len(t.Branches) > 0 && t.Branches[0].Role == saga.RoleDecides
}

// submitPrepared decides a prepared message. The client says that its local transaction is
// committed. That is not taken for granted: Cancel asks query_prepared first, and confirms the
// message if the answer is that it is. Without an answer, nothing is decided, and the error
// matches [saga.ErrUnknown].
func (p *planner) submitPrepared(ctx context.Context, in *request, prepared *saga.Transaction, steps []saga.Step) error {
	recorded := *prepared
	recorded.Branches = prepared.Branches[1:]
	if len(steps) > 0 && !isPlan(&recorded, saga.Plan{Steps: named(steps)}) {
		return fmt.Errorf("the steps are not those of the prepare: the gid %s is %w", in.gid, saga.ErrMismatch)
	}
	outcome, err := p.engines[msg].Cancel(ctx, in.gid, "query_prepared says that the local transaction is not committed")
	switch {
	case errors.Is(err, saga.ErrConfirmed):
		return nil
	case err != nil:
		return err
	default:
		return fmt.Errorf("%s is %s: %s: %w", in.gid, outcome.State, outcome.Reason, saga.ErrCancelled)
	}
}
