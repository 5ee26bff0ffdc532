package action

import (
	"context"
	"database/sql"
	"fmt"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/tcc"
)

// pattern names the transactions of this package in the log.
const pattern = "saga"

// Saga is a plan of steps. Each step is an action, or a TCC branch. Its methods add steps, in
// the order of the calls, and return the same Saga. A wrong step is reported by the Execute
// methods. A Saga is not safe for concurrent use, but a Saga without further changes may be
// executed again.
type Saga struct {
	gid   string
	steps []saga.Step
	err   error
}

// NewSaga returns an empty plan. The gid names the saga, as that of [tcc.Execute] names a
// transaction.
func NewSaga(gid string) *Saga { return &Saga{gid: gid} }

// GID returns the gid of the saga.
func (s *Saga) GID() string { return s.gid }

// Step adds a step. It is done when all steps before it have succeeded.
func (s *Saga) Step(payload tcc.Payload) *Saga { return s.add(saga.Step{}, payload) }

// Parallel adds a group of steps that are done at the same time, when all steps before the
// group have succeeded. Steps in the engine's own database share one connection, and are
// done one after the other. If a step of the group fails, the others are awaited.
func (s *Saga) Parallel(payloads ...tcc.Payload) *Saga { return s.add(saga.Step{}, payloads...) }

// AfterDecision adds an action after the point of no return, or a group of actions that are
// done at the same time. It is done after the decision to confirm, when the AfterDecision steps
// before it have succeeded, and again until it succeeds. It cannot reject and is never
// compensated. All steps that follow it are AfterDecision too.
func (s *Saga) AfterDecision(payloads ...tcc.Payload) *Saga {
	return s.add(saga.Step{AfterDecision: true}, payloads...)
}

// add adds a group of steps.
func (s *Saga) add(like saga.Step, payloads ...tcc.Payload) *Saga {
	if len(payloads) == 0 && s.err == nil {
		s.err = fmt.Errorf("step %d: the group is empty: %w", len(s.steps)+1, saga.ErrInvalid)
	}
	for i, payload := range payloads {
		step, err := tcc.StepOf(payload)
		if err != nil && s.err == nil {
			s.err = fmt.Errorf("step %d: %w", len(s.steps)+1, err)
		}
		step.Parallel, step.AfterDecision = i > 0, like.AfterDecision
		s.steps = append(s.steps, step)
	}
	return s
}

// Execute executes the saga. If all steps before the decision succeed, the saga is decided to
// be confirmed, and the error is nil. If one fails, the saga is decided to be cancelled, and
// the steps that may have had an effect are compensated, in reverse order. The outcome and the
// errors are those of [tcc.Execute]: a saga is confirming until its AfterDecision steps have
// succeeded, and cancelling until it is compensated.
func (s *Saga) Execute(ctx context.Context, engine saga.Engine) (saga.Outcome, error) {
	return s.ExecuteWith(ctx, engine, saga.Options{})
}

// ExecuteWith is Execute with options. With TryAttempts, the saga has forward recovery: a step
// that fails is done again, up to that number of times, or without a limit with
// [saga.Unlimited]. Another instance continues if the process ends. The saga is compensated
// when the attempts of a step are used up, when a step rejects, or at the deadline, which
// Timeout sets. Without TryAttempts, the first failure and the end of the process cancel it.
func (s *Saga) ExecuteWith(ctx context.Context, engine saga.Engine, options saga.Options) (saga.Outcome, error) {
	plan, err := s.plan(ctx, engine)
	if err != nil {
		return saga.Outcome{}, err
	}
	plan.Options = options
	return engine.Execute(ctx, plan)
}

// ExecuteIn executes the saga in a local transaction of the caller on the engine's database, as
// [tcc.ExecuteIn] does. All steps before the decision have to be in that database. The COMMIT
// of the caller is the decision. The AfterDecision steps follow it, and may be anywhere.
func (s *Saga) ExecuteIn(ctx context.Context, engine saga.LocalEngine, tx *gorm.DB) (saga.Outcome, error) {
	return s.ExecuteInWith(ctx, engine, tx, saga.Options{})
}

// ExecuteInWith is ExecuteIn with options: Labels, Timeout and ReturnDecided.
func (s *Saga) ExecuteInWith(ctx context.Context, engine saga.LocalEngine, tx *gorm.DB, options saga.Options) (saga.Outcome, error) {
	plan, err := s.plan(ctx, engine)
	if err != nil {
		return saga.Outcome{}, err
	}
	plan.Options = options
	return engine.ExecuteIn(ctx, tx, plan)
}

// ExecuteInSQL is ExecuteIn for a local transaction of package database/sql.
func (s *Saga) ExecuteInSQL(ctx context.Context, engine saga.LocalEngine, tx *sql.Tx) (saga.Outcome, error) {
	return s.ExecuteInSQLWith(ctx, engine, tx, saga.Options{})
}

// ExecuteInSQLWith is ExecuteInWith for a local transaction of package database/sql.
func (s *Saga) ExecuteInSQLWith(ctx context.Context, engine saga.LocalEngine, tx *sql.Tx, options saga.Options) (saga.Outcome, error) {
	plan, err := s.plan(ctx, engine)
	if err != nil {
		return saga.Outcome{}, err
	}
	plan.Options = options
	return engine.ExecuteInSQL(ctx, tx, plan)
}

// plan returns the plan, or says what is wrong with the call.
func (s *Saga) plan(ctx context.Context, engine saga.Engine) (saga.Plan, error) {
	if s == nil {
		return saga.Plan{}, fmt.Errorf("action: execute: the Saga is nil: use NewSaga: %w", saga.ErrInvalid)
	}
	err := tcc.Usable(ctx, engine)
	if err == nil {
		err = s.err
	}
	if err != nil {
		return saga.Plan{}, fmt.Errorf("action: execute %s: %w", s.gid, err)
	}
	return saga.Plan{GID: s.gid, Pattern: pattern, Steps: s.steps}, nil
}
