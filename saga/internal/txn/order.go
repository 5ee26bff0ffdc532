package txn

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// setOrder sets the stages and roles of the steps of a plan. A plan in which every branch has
// Try, Confirm and Cancel, and is tried after the one before, has none.
func setOrder(p saga.Plan, t *Txn) error {
	if p.ParallelTrys {
		p.Steps = allParallel(p.Steps)
	}
	ordered := false
	for i, s := range t.Steps {
		role, err := roleOf(p.Steps, i, s)
		if err != nil {
			return fmt.Errorf("branch %s, %s: %w", s.ID, s.Kind, err)
		}
		s.Role = role
		ordered = ordered || role != "" || p.Steps[i].Parallel
	}
	if !ordered {
		return nil
	}
	stage := 0
	for i, s := range t.Steps {
		if !p.Steps[i].Parallel {
			stage++
		}
		s.Stage = stage
	}
	return nil
}

// allParallel returns steps of which each but the first is Parallel, if it is before the
// decision.
func allParallel(steps []saga.Step) []saga.Step {
	steps = slices.Clone(steps)
	for i := 1; i < len(steps); i++ {
		if !steps[i].AfterDecision && !steps[i].Decides {
			steps[i].Parallel = true
		}
	}
	return steps
}

// roleOf returns the role of the n-th step.
func roleOf(steps []saga.Step, n int, s *Step) (string, error) {
	step := steps[n]
	first := n == 0
	switch {
	case step.Parallel && first:
		return "", errors.New("the first step cannot be Parallel: there is no step before it")
	case step.Parallel && steps[n-1].AfterDecision != step.AfterDecision:
		return "", errors.New("a step after the decision cannot be Parallel with one before it")
	case !first && steps[n-1].AfterDecision && !step.AfterDecision:
		return "", errors.New("it follows a step that is AfterDecision, so it has to be AfterDecision too")
	case step.AfterDecision && step.Decides:
		return "", errors.New("it cannot be AfterDecision and decide")
	case step.Decides && step.Parallel:
		return "", errors.New("the step that decides cannot be Parallel: it is tried after all others")
	case (step.AfterDecision || step.Decides) && !s.Branch.Action:
		return "", errors.New("a step that decides, or is AfterDecision, has to be an action: see Branch.AsAction")
	case step.AfterDecision:
		return txlog.RoleAfter, nil
	case step.Decides:
		return roleOfDeciding(steps, n, s)
	case s.Branch.Action:
		return txlog.RoleAction, nil
	default:
		return "", nil
	}
}

// roleOfDeciding checks the step that decides.
func roleOfDeciding(steps []saga.Step, n int, s *Step) (string, error) {
	if s.Branch.Resident {
		return "", errors.New("it decides, and works in the engine's own database: use LocalWork there")
	}
	if s.Branch.Work == nil && s.Branch.Remote == nil {
		return "", errors.New("it decides, and has no barrier in a local transaction of its own: an External branch cannot decide")
	}
	if service, ok := s.Branch.Remote.(interface{ CannotDecide() error }); ok {
		if err := service.CannotDecide(); err != nil {
			return "", fmt.Errorf("it decides: %w", err)
		}
	}
	for _, after := range steps[n+1:] {
		if !after.AfterDecision {
			return "", errors.New("it decides, so only steps that are AfterDecision can follow it")
		}
	}
	return txlog.RoleDecides, nil
}
