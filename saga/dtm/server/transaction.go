package server

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

func (a *api) newGID(_ context.Context, in *request) (any, error) {
	return map[string]string{"gid": in.prefix + uuid.NewString(), "dtm_result": wire.Success}, nil
}

func (a *api) version(context.Context, *request) (any, error) {
	return map[string]string{"version": "tccsaga"}, nil
}

func (a *api) prepare(ctx context.Context, in *request) (any, error) {
	if err := in.only("prepare", tcc, msg, xa); err != nil {
		return nil, err
	}
	if in.transType == msg {
		return nil, a.planner.prepareMessage(ctx, in)
	}
	engine := a.engines[in.transType]
	err := engine.Begin(ctx, saga.Opening{GID: in.gid, Timeout: in.timeout})
	if err != nil {
		return nil, err
	}
	// Begin succeeds for a decided transaction too, but a repeated prepare is too late.
	found, err := engine.Lookup(ctx, in.gid)
	switch {
	case err != nil:
		return nil, err
	case found.State.Decided():
		return nil, fmt.Errorf("%s is %s: %w", in.gid, found.State, saga.ErrNotOpen)
	case in.settings.empty():
		return nil, nil
	}
	return nil, engine.Try(ctx, in.gid, settingsID, settingsStep(in.settings))
}

// only refuses a request for another type of transaction.
func (in *request) only(endpoint string, all ...transType) error {
	if !slices.Contains(all, in.transType) {
		return invalid("%s is not possible for the trans_type %s, only for %v", endpoint, in.transType, all)
	}
	return nil
}

func (a *api) registerBranch(ctx context.Context, in *request) (any, error) {
	if err := in.only("registerBranch", tcc, xa); err != nil {
		return nil, err
	}
	if err := in.checkBranch(a.config); err != nil {
		return nil, err
	}
	target, err := a.targets.find(in.branch)
	if err != nil {
		return nil, err
	}
	found, err := a.engines[in.transType].Lookup(ctx, in.gid)
	if err != nil {
		return nil, err
	}
	if in.branch.settings, err = settingsOf(found); err != nil {
		return nil, err
	}
	if err := a.checkSize(found, in); err != nil {
		return nil, err
	}
	return nil, a.engines[in.transType].Try(ctx, in.gid, in.branchID, saga.Step{Kind: target.kind, Input: in.branch})
}

// checkSize limits the branches of a transaction and their data. Registrations at the
// same time can exceed these limits together. The engine also limits the number of
// branches, and no registration exceeds that limit.
func (a *api) checkSize(found *saga.Transaction, in *request) error {
	size := in.branch.size()
	for _, b := range found.Branches {
		if b.ID == in.branchID {
			return nil // Try finds a repetition or a mismatch
		}
		if stored, known := storedBranch(b); known {
			size += stored.size()
		}
	}
	switch {
	case len(found.Branches) >= saga.MaxBranches:
		return invalid("%s has %d branches already, which is the most that a transaction can have", in.gid, len(found.Branches))
	case size > a.config.MaxTransactionData:
		return invalid("with branch %s, the branches of %s have %d bytes of data and URLs, %d are allowed", in.branchID, in.gid, size, a.config.MaxTransactionData)
	}
	return nil
}

func (a *api) submit(ctx context.Context, in *request) (any, error) {
	switch in.transType {
	case sagas:
		return nil, a.planner.submitSaga(ctx, in)
	case msg:
		return nil, a.planner.submitMessage(ctx, in)
	}
	return nil, a.decide(ctx, in, "confirmed", func() error {
		_, err := a.engines[in.transType].Confirm(ctx, in.gid, saga.Options{ReturnDecided: true})
		return err
	})
}

func (a *api) abort(ctx context.Context, in *request) (any, error) {
	if err := in.only("abort", tcc, msg, xa); err != nil {
		return nil, err
	}
	return nil, a.decide(ctx, in, "cancelled", func() error {
		_, err := a.engines[in.transType].Cancel(ctx, in.gid, in.rollbackReason)
		return err
	})
}

// decide makes a decision and, with wait_result, waits for the end of the transaction.
func (a *api) decide(ctx context.Context, in *request, end string, decision func() error) error {
	if !in.waitResult {
		return decision()
	}
	engine := a.engines[in.transType]
	before, err := engine.Lookup(ctx, in.gid)
	if err != nil {
		return err
	}
	if err := decision(); err != nil {
		return err
	}
	return a.awaiter.waiting(in, "decided to be "+end, func() error {
		found, err := a.awaiter.settled(ctx, engine, before)
		if err == nil && !found.State.Finished() {
			err = fmt.Errorf("%s is decided to be %s, but not every branch is yet: %w", in.gid, end, saga.ErrOngoing)
		}
		return err
	})
}
