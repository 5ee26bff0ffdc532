package main

import (
	"context"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/action"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/test/chaos"
	"github.com/tccsaga/tccsaga/tcc"
)

// addReward is an action of a saga, and sendReceipt one after the decision. Both only record
// their calls, in the database of the other service.
type (
	addReward   struct{ N int }
	sendReceipt struct{}
)

func (addReward) Branch() string   { return chaos.RewardKind }
func (sendReceipt) Branch() string { return chaos.ReceiptKind }

type rewards struct{ db *gorm.DB }

func (r rewards) Database() *gorm.DB { return r.db }

func (rewards) Do(ctx context.Context, tx *gorm.DB, in addReward) (int, error) {
	return in.N, recordCall(ctx, tx)
}

func (rewards) Compensate(ctx context.Context, tx *gorm.DB, _ addReward, _ int) error {
	return recordCall(ctx, tx)
}

type receipts struct{ db *gorm.DB }

func (r receipts) Database() *gorm.DB { return r.db }

func (receipts) Do(ctx context.Context, tx *gorm.DB, _ sendReceipt) (action.None, error) {
	return action.None{}, recordCall(ctx, tx)
}

func (receipts) Compensate(ctx context.Context, tx *gorm.DB, _ sendReceipt, _ action.None) error {
	return recordCall(ctx, tx)
}

func recordCall(ctx context.Context, tx *gorm.DB) error {
	call := tcc.CallOf(ctx)
	return recordEffect(tx, call.GID, call.BranchID, call.Op)
}

func recordEffect(tx *gorm.DB, gid, branchID string, op barrier.Op) error {
	return tx.Exec("INSERT INTO branch_effects (gid, branch_id, operation, at) VALUES (?, ?, ?, UTC_TIMESTAMP(6))", gid, branchID, string(op)).Error
}

// execute executes an order as a plan: with actions, the decision of a branch, and a step after
// the decision, if it has them.
func (s *service) execute(ctx context.Context, o chaos.Order, options saga.Options) error {
	options.TryAttempts = o.TryAttempts
	plan, steps := action.NewSaga(o.GID), 0
	for _, payload := range branches(o) {
		plan.Step(payload)
		steps++
	}
	for n := range o.Rewards {
		plan.Step(addReward{n})
		steps++
	}
	if o.Decides {
		options.LocalWorkIn = chaos.DecideKind
		options.LocalWork = func(_ context.Context, tx *gorm.DB) error {
			return recordEffect(tx, o.GID, saga.BranchID(steps+1), barrier.Try)
		}
	}
	if o.Receipt {
		plan.AfterDecision(sendReceipt{})
	}
	_, err := plan.ExecuteWith(ctx, s.orch, options)
	return err
}
