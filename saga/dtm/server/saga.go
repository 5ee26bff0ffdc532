package server

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/tccsaga/tccsaga/saga"
)

// noTimeout is the timeout of a saga without timeout_to_fail: the longest that the engine
// takes.
const noTimeout = 10 * 365 * 24 * time.Hour

// submitSaga begins a saga, and returns when it is durable or, with wait_result, when it has
// ended.
func (p *planner) submitSaga(ctx context.Context, in *request) error {
	steps, err := p.plan(in)
	if err != nil {
		return err
	}
	if len(steps) == 0 {
		return invalid("the saga has no steps")
	}
	options := saga.Options{Timeout: in.timeout, TryAttempts: saga.Unlimited}
	if in.timeout == 0 {
		options.Timeout = noTimeout
	}
	if in.retryLimit > 0 {
		options.TryAttempts = in.retryLimit + 1
	}
	before := stateBefore(ctx, p.engines[sagas], in)
	err = p.begin(ctx, saga.Plan{GID: in.gid, Steps: steps, Options: options})
	if err != nil || !in.waitResult {
		return err
	}
	return p.waiting(in, "submitted", func() error {
		found, err := p.settled(ctx, p.engines[sagas], before)
		switch {
		case err != nil:
			return err
		case found.State == saga.Confirmed:
			return nil
		case found.State == saga.Cancelling || found.State == saga.Cancelled:
			return fmt.Errorf("%s is %s: %s: %w", in.gid, found.State, found.Reason, saga.ErrCancelled)
		default:
			return fmt.Errorf("%s is submitted, but not every branch has succeeded yet: %w", in.gid, saga.ErrOngoing)
		}
	})
}

// begin executes a plan with forward recovery, and returns when the log has it. The engine
// goes on without its caller.
func (p *planner) begin(ctx context.Context, plan saga.Plan) error {
	engine := p.engines[sagas]
	executing, leave := context.WithCancel(ctx)
	defer leave()
	ended := make(chan error, 1)
	go func() {
		_, err := engine.Execute(executing, plan)
		ended <- err
	}()
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		timer := time.NewTimer(pause)
		var executed error
		select {
		case executed = <-ended:
			ended <- executed
		case <-timer.C:
		}
		timer.Stop()
		found, err := engine.Lookup(ctx, plan.GID)
		switch {
		case err == nil && !isPlan(found, plan):
			return fmt.Errorf("the gid %s is %w", plan.GID, saga.ErrMismatch)
		case err == nil:
			return nil
		case executed != nil:
			return executed
		case !errors.Is(err, saga.ErrNotFound):
			return err
		}
	}
}

// isPlan reports whether a transaction has the steps of a plan.
func isPlan(found *saga.Transaction, plan saga.Plan) bool {
	if len(found.Branches) != len(plan.Steps) {
		return false
	}
	for i, b := range found.Branches {
		stored, err := decode(b.Payload)
		if err != nil || b.Kind != plan.Steps[i].Kind || !reflect.DeepEqual(stored, plan.Steps[i].Input) {
			return false
		}
	}
	return true
}
