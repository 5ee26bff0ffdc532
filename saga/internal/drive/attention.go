package drive

import (
	"errors"
	"fmt"
	"time"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/reason"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// attention returns why the round raises its transaction to attention. It is empty if the
// round does not, or if the transaction was raised before. A conflict replaces an earlier
// reason.
func (r *round) attention() string {
	if why := r.conflict(); why != "" {
		if why == r.txn.Attention {
			return ""
		}
		return why
	}
	if r.txn.Attention != "" {
		return ""
	}
	if why := r.tooManyAttempts(); why != "" {
		return why
	}
	return r.tooOld()
}

func (r *round) conflict() string {
	for _, s := range r.txn.Steps {
		if cause := r.failures[s]; errors.Is(cause, barrier.ErrConflict) {
			return reason.Clip(fmt.Sprintf("conflict: branch %s, %s: %v", s.ID, s.Kind, cause))
		}
	}
	return ""
}

func (r *round) tooManyAttempts() string {
	for _, s := range r.txn.Steps {
		if cause := r.failures[s]; cause != nil && s.Failed >= r.d.AttentionAttempts {
			return reason.Clip(fmt.Sprintf("attempts: branch %s, %s, has failed %d times, the last time with: %v", s.ID, s.Kind, s.Failed, cause))
		}
	}
	return ""
}

func (r *round) tooOld() string {
	age := time.Since(r.txn.Decided)
	if age < r.d.AttentionAge {
		return ""
	}
	for _, s := range r.txn.Steps {
		if !s.Done {
			return reason.Clip(fmt.Sprintf("age: decided %s ago, and branch %s, %s, is not done: %s", age.Round(time.Second), s.ID, s.Kind, r.whyNotDone(s)))
		}
	}
	return ""
}

func (r *round) whyNotDone(s *txn.Step) string {
	switch cause := r.failures[s]; {
	case cause != nil:
		return cause.Error()
	case s.WaitReason != "":
		return s.WaitReason
	default:
		return "it waits for its next attempt"
	}
}
