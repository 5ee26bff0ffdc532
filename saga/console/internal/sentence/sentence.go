// Package sentence writes what package explain says of a transaction in the languages of the
// console.
package sentence

import (
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/console/internal/words"
	"github.com/tccsaga/tccsaga/saga/explain"
)

// Writer writes sentences in one language. Time writes a time.
type Writer struct {
	*words.Printer
	Time func(time.Time) string
}

// Operation writes the name of an operation, as the documentation does.
func Operation(op barrier.Op) string {
	if op == "" {
		return "Try"
	}
	return strings.ToUpper(string(op[:1])) + string(op[1:])
}

// name writes a branch with its kind.
func (w Writer) name(id, kind string) string { return w.T("branch.name", id, kind) }

// Decider says who decided.
func (w Writer) Decider(by string) string {
	if key := "decider." + by; w.Has(key) {
		return w.T(key)
	}
	return by
}

// State writes a state.
func (w Writer) State(s saga.State) string {
	if key := "state." + string(s); w.Has(key) {
		return w.T(key)
	}
	return string(s)
}

// Act writes the name of an act of an operator.
func (w Writer) Act(name string) string {
	if key := "act." + name; w.Has(key) {
		return w.T(key)
	}
	return name
}

// Event says what has happened or is planned, without the error or reason, which is in its
// Detail.
func (w Writer) Event(e explain.Event) string {
	branch := w.name(e.BranchID, e.BranchKind)
	switch e.Kind {
	case explain.Began:
		if e.Detail != "" {
			return w.N("event.nested", e.Number)
		}
		return w.N("event.began", e.Number)
	case explain.Tried, explain.Confirmed, explain.Cancelled, explain.Suspended, explain.Done:
		return w.T("event."+string(e.Kind), branch)
	case explain.Failed:
		return w.T("event.failed", Operation(e.Operation), branch, w.Number(e.Number))
	case explain.Omitted:
		return w.N("event.omitted", e.Number, Operation(e.Operation), branch)
	case explain.TurnedAway:
		return w.N("event.turnedaway", e.Number, branch)
	case explain.UnderWay:
		text := w.T("event.underway", Operation(e.Operation), branch, e.By)
		if !e.Until.IsZero() {
			text += w.T("event.until", w.Time(e.Until))
		}
		return text
	case explain.Decided:
		if e.State == saga.Cancelled {
			return w.T("event.decided.cancel", w.Decider(e.By))
		}
		return w.T("event.decided.confirm", w.Decider(e.By))
	case explain.Acted:
		if e.BranchID != "" {
			return w.T("event.resolved", e.By, e.BranchID, w.State(e.State))
		}
		return w.T("event.acted", e.By, w.Act(e.Act))
	case explain.Ended:
		return w.T("event.ended", w.State(e.State))
	case explain.Planned:
		return w.T("event.planned", Operation(e.Operation), branch, w.Number(e.Number))
	case explain.Prepared, explain.Due, explain.Deadline:
		return w.T("event." + string(e.Kind))
	}
	return string(e.Kind)
}

// Standing says in one sentence what a branch has done, and what is next.
func (w Writer) Standing(s explain.Standing) string {
	parts := []string{w.history(s)}
	add := func(text string) {
		if text != "" {
			parts = append(parts, text)
		}
	}
	if s.Reason {
		add(w.T("standing.reason"))
	}
	if s.Resolve != nil {
		add(w.T("standing.resolved", s.Resolve.Who, w.State(s.Resolve.Believed)))
	}
	if u := s.UnderWay; u != nil {
		add(w.T("standing.underway", Operation(u.Op), u.By, w.Time(u.Since)))
	}
	if s.Failures > 0 {
		add(w.N("standing.failed", s.Failures, Operation(s.Due), s.LastError))
	}
	add(w.next(s))
	if s.TurnedAway > 0 {
		add(w.N("standing.turnedaway", s.TurnedAway))
	}
	if s.Unread != "" {
		add(w.T("standing.unread", s.Unread))
	}
	return strings.Join(parts, w.T("standing.and")) + w.T("standing.end")
}

func (w Writer) history(s explain.Standing) string {
	key := "standing.unknown"
	switch s.Did {
	case explain.DidNothing:
		key = "standing.nothing"
		if s.Role == saga.RoleAfter {
			key = "standing.after"
		}
		return w.T(key)
	case explain.DidTry:
		key = "standing.tried"
		if s.Role == saga.RoleAction {
			key = "standing.action"
		}
	case explain.DidConfirm:
		key = "standing.confirmed"
	case explain.DidCancel:
		key = "standing.cancelled"
		if s.FromLog {
			key = "standing.cancelled.log"
		}
	case explain.DidSuspend:
		key = "standing.suspended"
	}
	text := w.T(key)
	if !s.At.IsZero() && key != "standing.unknown" {
		text += w.T("standing.at", w.Time(s.At))
	}
	return text
}

// next says what is called next, or why nothing is.
func (w Writer) next(s explain.Standing) string {
	switch {
	case s.Due == "" && s.Undecided && s.Did == explain.DidTry:
		return w.T("standing.waits")
	case s.Due == "":
		return ""
	case s.Paused:
		return w.T("standing.paused")
	case s.Conflict:
		return w.T("standing.conflict")
	case s.Failures == 0 && s.UnderWay == nil:
		return w.T("standing.due", Operation(s.Due))
	case s.Failures > 0 && !s.NextAt.IsZero():
		return w.T("standing.next", w.Time(s.NextAt))
	}
	return ""
}

// Diagnosis says where a transaction stands, and what it waits for.
func (w Writer) Diagnosis(d explain.Diagnosis) string {
	decided := w.T("diagnosis.confirming")
	if d.State == saga.Cancelling {
		decided = w.T("diagnosis.cancelling", w.Decider(d.DecidedBy))
	}
	branch, failed, last := "", 0, ""
	op := barrier.Op("")
	if b := d.Branch; b != nil {
		branch, failed, last, op = w.name(b.BranchID, b.Kind), b.Failures, b.LastError, b.Due
	}
	switch d.Cause {
	case explain.Finished:
		if d.State == saga.Cancelled {
			return w.T("diagnosis.cancelled", w.Decider(d.DecidedBy))
		}
		return w.T("diagnosis.confirmed")
	case explain.WaitsForCaller:
		return w.T("diagnosis.caller", w.Time(d.NextAt))
	case explain.WaitsForParent:
		return w.T("diagnosis.parent", d.Parent)
	case explain.WaitsForAnswer:
		return w.T("diagnosis.answer", branch) + w.failed(op, branch, failed, last)
	case explain.WaitsForTry:
		owner := d.Owner
		if owner == "" {
			owner = "–"
		}
		return w.T("diagnosis.try", owner) + w.failed(op, branch, failed, last)
	case explain.WaitsForResume:
		return decided + w.T("diagnosis.resume")
	case explain.WaitsForResolve:
		return decided + w.T("diagnosis.resolve", branch, last)
	case explain.WaitsForRetry:
		text := decided + w.failed(op, branch, failed, last)
		if !d.NextAt.IsZero() {
			text += w.T("diagnosis.next", w.Time(d.NextAt))
		}
		return text
	}
	return decided + w.N("diagnosis.open", d.Open)
}

func (w Writer) failed(op barrier.Op, branch string, failures int, last string) string {
	if failures == 0 {
		return ""
	}
	return w.N("diagnosis.failed", failures, Operation(op), branch, last)
}

// refusals are the keys of what the engine says when it would refuse an act.
var refusals = map[string]string{
	"it is undecided, and a retry is only possible after the decision": "refusal.retry",
	"it is paused; resume it": "refusal.resume",
	"it is paused already":    "refusal.paused",
	"it is not paused":        "refusal.notpaused",
	"it is undecided":         "refusal.undecided",
	"it is being executed with a plan, which decides by itself": "refusal.planned",
}

// Refusal writes what the engine says when it would refuse an act. A text that it does not know
// stays as it is.
func (w Writer) Refusal(text string) string {
	if key, known := refusals[text]; known {
		return w.T(key)
	}
	if state, ok := strings.CutPrefix(text, "it is "); ok {
		if state, ok = strings.CutSuffix(state, " already"); ok && w.Has("state."+state) {
			return w.T("refusal.state", w.T("state."+state))
		}
	}
	return text
}
