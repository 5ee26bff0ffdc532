package explain

import (
	"cmp"
	"fmt"
	"time"

	"github.com/tccsaga/tccsaga/saga"
)

// Cause says what a transaction waits for.
type Cause string

// The causes.
const (
	Finished        Cause = "finished"          // nothing
	WaitsForCaller  Cause = "waits for caller"  // open: a Confirm or Cancel of its caller, or the deadline
	WaitsForParent  Cause = "waits for parent"  // nested and prepared: the decision of its parent
	WaitsForTry     Cause = "waits for try"     // a plan: the Trys of its branches
	WaitsForAnswer  Cause = "waits for answer"  // a branch that decides has not answered a question
	WaitsForResume  Cause = "waits for resume"  // an operator has paused it
	WaitsForResolve Cause = "waits for resolve" // a branch has a conflict, which no retry can end
	WaitsForRetry   Cause = "waits for retry"   // calls of a branch fail; the next attempt
	WaitsForCall    Cause = "waits for call"    // calls of branches that have not failed
)

// Diagnosis says where a transaction stands, and what it waits for.
type Diagnosis struct {
	Cause  Cause      `json:"cause"`
	State  saga.State `json:"state"`
	Branch *Standing  `json:"branch,omitempty"` // the branch that it waits for; the one with the most failed calls, if there are several
	Open   int        `json:"open"`             // branches that are not done
	NextAt time.Time  `json:"next_at,omitzero"` // when it goes on, as far as it is known

	DecidedBy string `json:"decided_by,omitempty"`
	Reason    string `json:"reason,omitempty"` // why it is cancelled
	Code      string `json:"code,omitempty"`   // the same for programs
	BranchID  string `json:"branch_id,omitempty"`
	Parent    string `json:"parent,omitempty"`
	Owner     string `json:"owner,omitempty"`
}

// Diagnose says where a transaction stands. The log has no pauses of kinds of branches, so look at
// [saga.KindView.PausedAt] as well.
func Diagnose(t *saga.Transaction) Diagnosis {
	d := Diagnosis{State: t.State, DecidedBy: t.DecidedBy, Reason: t.Reason, Code: t.Code, BranchID: t.BranchID, Parent: t.Parent, Owner: t.Owner}
	if t.State.Finished() {
		d.Cause = Finished
		return d
	}
	d.NextAt = t.DueAt
	var worst Standing
	for _, s := range Branches(t) {
		if s.Due == "" {
			continue
		}
		d.Open++
		if worst.Due == "" || s.Conflict && !worst.Conflict || s.Conflict == worst.Conflict && s.Failures > worst.Failures {
			worst = s
		}
	}
	if worst.Due != "" {
		d.Branch = &worst
	}
	d.Cause = d.cause(t, worst)
	if d.Cause == WaitsForRetry && !worst.NextAt.IsZero() {
		d.NextAt = worst.NextAt
	}
	if d.Cause == WaitsForResume || d.Cause == WaitsForResolve {
		d.NextAt = time.Time{}
	}
	return d
}

func (d Diagnosis) cause(t *saga.Transaction, worst Standing) Cause {
	switch {
	case t.State == saga.Trying && !t.PreparedAt.IsZero():
		return WaitsForParent
	case t.State == saga.Trying && worst.Due == "ask":
		return WaitsForAnswer
	case t.State == saga.Trying && !t.Planned:
		return WaitsForCaller
	case t.State == saga.Trying:
		return WaitsForTry
	case !t.PausedAt.IsZero():
		return WaitsForResume
	case worst.Conflict:
		return WaitsForResolve
	case worst.Failures > 0:
		return WaitsForRetry
	default:
		return WaitsForCall
	}
}

// Text says the diagnosis in one or two sentences. For the format of times, see [Standing.Text].
func (d Diagnosis) Text(format func(time.Time) string) string {
	decided := "It is decided to be confirmed"
	if d.State == saga.Cancelling {
		decided = "It is decided to be cancelled by " + decider(d.DecidedBy) + because(d.Reason, d.Code, d.BranchID)
	}
	switch d.Cause {
	case Finished:
		if d.State == saga.Cancelled {
			return "It is cancelled, by " + decider(d.DecidedBy) + because(d.Reason, d.Code, d.BranchID) + "."
		}
		return "It is confirmed: every branch is confirmed."
	case WaitsForCaller:
		return "It is undecided: it waits for the Confirm or Cancel of its caller, and is cancelled at " + at(format, d.NextAt) + "."
	case WaitsForParent:
		return "It is undecided and prepared: " + d.Parent + " decides it with its own transaction, and it has no deadline."
	case WaitsForAnswer:
		return fmt.Sprintf("It is undecided: branch %s, %s, decides, and has to say whether its Try was committed. The question has failed %s, the last time with: %s",
			d.Branch.BranchID, d.Branch.Kind, times(d.Branch.Failures), d.Branch.LastError)
	case WaitsForTry:
		text := "It is undecided: instance " + cmp.Or(d.Owner, "unknown") + " tries its branches."
		if b := d.Branch; b != nil && b.Failures > 0 {
			text += fmt.Sprintf(" The Try of branch %s, %s, has failed %s, the last time with: %s", b.BranchID, b.Kind, times(b.Failures), b.LastError)
		}
		return text
	case WaitsForResume:
		return decided + ". An operator has paused it: no branch is called until an operator resumes it."
	case WaitsForResolve:
		return fmt.Sprintf("%s. Branch %s, %s, has a conflict, which no retry can end: %s. An operator has to resolve it.",
			decided, d.Branch.BranchID, d.Branch.Kind, d.Branch.LastError)
	case WaitsForRetry:
		text := fmt.Sprintf("%s, and waits for branch %s, %s, whose %s has failed %s, the last time with: %s.",
			decided, d.Branch.BranchID, d.Branch.Kind, name(d.Branch.Due), times(d.Branch.Failures), d.Branch.LastError)
		if !d.NextAt.IsZero() {
			text += " The next attempt is due at " + at(format, d.NextAt) + "."
		}
		return text
	default:
		return fmt.Sprintf("%s, and %s not done yet.", decided, map[bool]string{true: "1 branch is", false: fmt.Sprintf("%d branches are", d.Open)}[d.Open == 1])
	}
}
