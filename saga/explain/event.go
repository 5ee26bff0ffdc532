package explain

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// EventKind says what an [Event] is.
type EventKind string

// The kinds of events.
const (
	Began      EventKind = "began"       // the log got the transaction
	Tried      EventKind = "tried"       // the Try of a branch ran
	Failed     EventKind = "failed"      // a call of a branch failed
	Omitted    EventKind = "omitted"     // Number failed calls before this time are not kept
	Prepared   EventKind = "prepared"    // a nested transaction was prepared
	Decided    EventKind = "decided"     // the one decision
	Confirmed  EventKind = "confirmed"   // the Confirm or Apply of a branch ran
	Cancelled  EventKind = "cancelled"   // the Cancel of a branch ran
	Suspended  EventKind = "suspended"   // a Cancel or Ask found no Try: an empty rollback
	Done       EventKind = "done"        // the log shows that a branch is done, and its barrier row was not read
	TurnedAway EventKind = "turned away" // the last of Number calls that the barrier turned away
	UnderWay   EventKind = "under way"   // a call of a branch began that has no recorded end
	Acted      EventKind = "acted"       // an operator acted
	Ended      EventKind = "ended"       // the transaction is finished
	Planned    EventKind = "planned"     // the next attempt of a call
	Due        EventKind = "due"         // an instance works on the transaction next
	Deadline   EventKind = "deadline"    // the transaction is cancelled if it is undecided then
)

// Event is something that has happened to a transaction, or is planned. Fields that do not
// belong to its kind are empty.
type Event struct {
	Kind EventKind `json:"kind"`
	At   time.Time `json:"at"`

	BranchID   string     `json:"branch_id,omitempty"`
	BranchKind string     `json:"branch_kind,omitempty"`
	Operation  barrier.Op `json:"operation,omitempty"`
	Number     int        `json:"number,omitempty"` // of an attempt, from 1; or how many there were

	State  saga.State        `json:"state,omitempty"`  // of a decision or an end; of a resolve, the result of the branch
	By     string            `json:"by,omitempty"`     // who decided or acted, or the instance that called
	Act    string            `json:"act,omitempty"`    // of an operator
	Detail string            `json:"detail,omitempty"` // an error, a reason, or why an operator acted
	Code   string            `json:"code,omitempty"`   // the error or reason for programs
	Labels map[string]string `json:"labels,omitempty"` // of a begin
	Until  time.Time         `json:"until,omitzero"`   // the latest end of a call that is under way
}

// IsPlanned reports whether the event has not happened yet.
func (e Event) IsPlanned() bool { return e.Kind == Planned || e.Kind == Due || e.Kind == Deadline }

// IsFault reports whether the event is a failed call, or a call that the barrier turned away.
func (e Event) IsFault() bool { return e.Kind == Failed || e.Kind == TurnedAway }

// branch names the branch of an event.
func (e Event) branch() string { return "branch " + e.BranchID + ", " + e.BranchKind }

// Text says in one sentence what has happened or is planned. It does not say when. For a nil
// format of further times, see [Standing.Text].
func (e Event) Text(format func(time.Time) string) string {
	switch e.Kind {
	case Began:
		text := fmt.Sprintf("begun with %s", many(e.Number, "branch", "branches"))
		if e.Detail != "" {
			text += ", nested in " + e.Detail
		}
		for _, name := range slices.Sorted(maps.Keys(e.Labels)) {
			text += ", " + name + "=" + e.Labels[name]
		}
		return text
	case Tried:
		return "the Try of " + e.branch() + ", ran"
	case Confirmed:
		return "the Confirm of " + e.branch() + ", ran"
	case Cancelled:
		return "the Cancel of " + e.branch() + ", ran"
	case Suspended:
		return e.branch() + ", was cancelled before any Try (empty rollback): nothing was done, and a late Try is refused"
	case Done:
		return e.branch() + ", is done"
	case Failed:
		return fmt.Sprintf("the %s of %s, failed (attempt %d, by %s): %s", name(e.Operation), e.branch(), e.Number, e.By, e.Detail)
	case Omitted:
		return fmt.Sprintf("%s of the %s of %s, happened before; the log keeps only the latest", many(e.Number, "failed call", "failed calls"), name(e.Operation), e.branch())
	case TurnedAway:
		return fmt.Sprintf("the barrier turned away a call of %s, as repeated, late or in conflict (%s so far)", e.branch(), many(e.Number, "call", "calls"))
	case UnderWay:
		text := fmt.Sprintf("a %s of %s, began, made by %s, and has no recorded end", name(e.Operation), e.branch(), e.By)
		if !e.Until.IsZero() {
			text += "; it ends at " + at(format, e.Until) + " at the latest"
		}
		return text
	case Prepared:
		return "prepared: from now on only the parent decides"
	case Decided:
		text := "decided to confirm, by " + decider(e.By)
		if e.State == saga.Cancelled {
			text = "decided to cancel, by " + decider(e.By)
		}
		return text + because(e.Detail, e.Code, e.BranchID)
	case Acted:
		text := fmt.Sprintf("operator %s: %s", e.By, e.Act)
		if e.BranchID != "" {
			text += fmt.Sprintf(" of branch %s, which is believed to be %s", e.BranchID, e.State)
		}
		return text + ", because: " + e.Detail
	case Ended:
		return "finished: " + string(e.State)
	case Planned:
		return fmt.Sprintf("the next %s of %s, is due (attempt %d)", name(e.Operation), e.branch(), e.Number)
	case Due:
		return "an instance works on it next"
	case Deadline:
		return "deadline: if it is undecided then, it is cancelled"
	default:
		return string(e.Kind)
	}
}

// many returns a number with its noun.
func many(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// name returns an operation as the documentation writes it.
func name(op barrier.Op) string {
	if op == "" {
		return "call"
	}
	return strings.ToUpper(string(op[:1])) + string(op[1:])
}

// decider says in words who decided.
func decider(by string) string {
	switch by {
	case "caller":
		return "its caller"
	case "deadline":
		return "the deadline"
	case "recovery":
		return "recovery, after its process was gone"
	case "operator":
		return "an operator"
	default:
		return cmp.Or(by, "nobody who is recorded")
	}
}

// because returns the reason of a cancel as the end of a sentence.
func because(reason, code, branchID string) string {
	if reason == "" && code == "" {
		return ""
	}
	text := ": " + cmp.Or(reason, code)
	switch {
	case code != "" && code != reason && branchID != "":
		text += fmt.Sprintf(" (%s, branch %s)", code, branchID)
	case code != "" && code != reason:
		text += fmt.Sprintf(" (%s)", code)
	case branchID != "":
		text += fmt.Sprintf(" (branch %s)", branchID)
	}
	return text
}

// at formats a time.
func at(format func(time.Time) string, t time.Time) string {
	if format == nil {
		return t.UTC().Format(time.RFC3339)
	}
	return format(t)
}
