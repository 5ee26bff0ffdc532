package drive

import (
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// wave is the branches of a round that may be called at the same time. Cancels of actions are
// called in the reverse order of their stages, and steps after the decision in the order of
// their stages. Other branches are not ordered, and belong to the first wave.
type wave struct {
	due     []*txn.Step
	ordered []*txn.Step // the steps of the stage that have to be done before the next wave
	last    bool        // no branch is left besides due
}

// nextWave returns the next branches to call.
func (r *round) nextWave() wave {
	due, waiting := r.pending()
	stage, ordered := r.stage()
	w := wave{last: len(waiting) == 0}
	for _, s := range due {
		switch {
		case r.failures[s] != nil: // it was called in an earlier wave
			w.last = false
		case r.ordered(s) && s.Stage != stage:
			s.WaitReason = "it waits for branch " + ordered[0].ID
			w.last = false
		default:
			w.due = append(w.due, s)
		}
	}
	w.ordered = ordered
	return w
}

// complete reports whether another wave may follow: all steps of the stage are done.
func (w wave) complete() bool {
	for _, s := range w.ordered {
		if !s.Done {
			return false
		}
	}
	return len(w.ordered) > 0
}

// ordered reports whether the call of a step has a place in the order of the stages.
func (r *round) ordered(s *txn.Step) bool {
	if r.end == saga.Cancelled {
		return s.Role == txlog.RoleAction
	}
	return s.Role == txlog.RoleAfter
}

// stage returns the stage whose calls come next, and the pending steps of it.
func (r *round) stage() (stage int, steps []*txn.Step) {
	for _, s := range r.txn.Steps {
		switch {
		case s.Done || !r.ordered(s):
		case len(steps) == 0 || r.end == saga.Cancelled && s.Stage > stage || r.end == saga.Confirmed && s.Stage < stage:
			stage, steps = s.Stage, []*txn.Step{s}
		case s.Stage == stage:
			steps = append(steps, s)
		}
	}
	return stage, steps
}
