package drive

import (
	"errors"
	"fmt"
	"time"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/reason"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// attention finds out whether a person has to look at the transaction of a round.
type attention struct{ *round }

// why returns why the round raises its transaction to attention. It is empty if the
// round does not, or if the transaction was raised before. A conflict replaces an earlier
// reason.
func (a attention) why() string {
	if why := a.conflict(); why != "" {
		if why == a.txn.Attention {
			return ""
		}
		return why
	}
	if a.txn.Attention != "" {
		return ""
	}
	if why := a.tooManyAttempts(); why != "" {
		return why
	}
	return a.tooOld()
}

func (a attention) conflict() string {
	for _, s := range a.txn.Steps {
		if cause := a.failures[s]; errors.Is(cause, barrier.ErrConflict) {
			return reason.Clip(fmt.Sprintf("conflict: branch %s, %s: %v", s.ID, s.Kind, cause))
		}
	}
	return ""
}

func (a attention) tooManyAttempts() string {
	for _, s := range a.txn.Steps {
		if cause := a.failures[s]; cause != nil && s.Failed >= a.d.AttentionAttempts {
			return reason.Clip(fmt.Sprintf("attempts: branch %s, %s, has failed %d times, the last time with: %v", s.ID, s.Kind, s.Failed, cause))
		}
	}
	return ""
}

func (a attention) tooOld() string {
	age := time.Since(a.txn.Decided)
	if age < a.d.AttentionAge {
		return ""
	}
	for _, s := range a.txn.Steps {
		if !s.Done {
			return reason.Clip(fmt.Sprintf("age: decided %s ago, and branch %s, %s, is not done: %s", age.Round(time.Second), s.ID, s.Kind, a.whyNotDone(s)))
		}
	}
	return ""
}

func (a attention) whyNotDone(s *txn.Step) string {
	switch cause := a.failures[s]; {
	case cause != nil:
		return cause.Error()
	case s.WaitReason != "":
		return s.WaitReason
	default:
		return "it waits for its next attempt"
	}
}
