package explain

import (
	"fmt"
	"strings"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// Did says what a branch has done.
type Did string

// What a branch has done.
const (
	DidNothing Did = "nothing"   // it has no barrier row: its Try never ran, or was rolled back
	DidTry     Did = "tried"     // its Try ran, and nothing else
	DidConfirm Did = "confirmed" // its Confirm or Apply ran; this is final
	DidCancel  Did = "cancelled" // its Cancel ran; this is final
	DidSuspend Did = "suspended" // a Cancel or Ask found no Try; a late Try is refused
	DidUnknown Did = "unknown"   // its barrier row was not read, and the log does not show it
)

// Standing is what a branch has done, and what is called next.
type Standing struct {
	BranchID string    `json:"branch_id"`
	Kind     string    `json:"kind"`
	Role     saga.Role `json:"role,omitempty"`

	Did     Did          `json:"did"`
	At      time.Time    `json:"at,omitzero"`        // when; zero if it is not known
	FromLog bool         `json:"from_log,omitempty"` // the log shows Did, and the barrier row was not read
	Unread  string       `json:"unread,omitempty"`   // why the barrier row was not read
	Child   string       `json:"child,omitempty"`    // gid of the nested transaction that is the branch
	Reason  bool         `json:"reason,omitempty"`   // its failed Try is the reason of the cancel
	Resolve *saga.Action `json:"resolve,omitempty"`  // the act of the operator who stated its result; nil if there is none

	Undecided bool               `json:"undecided,omitempty"`  // the transaction is
	Due       barrier.Op         `json:"due,omitempty"`        // what is called until it succeeds; empty if nothing is
	Failures  int                `json:"failures,omitempty"`   // failed calls of the operation that is due, or of the Try
	LastError string             `json:"last_error,omitempty"` // of these
	Conflict  bool               `json:"conflict,omitempty"`   // the last call failed with a conflict, which no retry can end
	NextAt    time.Time          `json:"next_at,omitzero"`     // the earliest time of the next attempt, after a failure
	Paused    bool               `json:"paused,omitempty"`     // an operator has paused the transaction, so nothing is called
	UnderWay  *saga.CallUnderWay `json:"under_way,omitempty"`  // a call that has no recorded end

	TurnedAway   int       `json:"turned_away,omitempty"` // calls that the barrier turned away
	TurnedAwayAt time.Time `json:"turned_away_at,omitzero"`
}

// Branches returns the standing of each branch of a transaction.
func Branches(t *saga.Transaction) []Standing {
	all := make([]Standing, len(t.Branches))
	for i, b := range t.Branches {
		all[i] = Branch(t, b)
	}
	return all
}

// Branch returns the standing of a branch of a transaction.
func Branch(t *saga.Transaction, b saga.BranchView) Standing {
	s := Standing{BranchID: b.ID, Kind: b.Kind, Role: b.Role, Unread: b.BarrierError, Child: b.Child, UnderWay: b.UnderWay,
		Paused: !t.PausedAt.IsZero() && !t.State.Finished(), Reason: t.BranchID == b.ID, Undecided: !t.State.Decided()}
	for _, a := range t.Acts {
		if a.Name == "resolve" && a.BranchID == b.ID {
			s.Resolve = &a
		}
	}
	s.did(t, b)
	s.due(t, b)
	operation := s.Due
	if operation == "" {
		operation = barrier.Try
	}
	for _, a := range b.Attempts { // in order
		if a.Operation == operation {
			s.Failures, s.LastError, s.NextAt = a.Number, a.Error, a.NextAt
			s.Conflict = s.Due != "" && s.Due != barrier.Try && a.Code == saga.CodeConflict
		}
	}
	if s.Due == "" {
		s.NextAt = time.Time{}
	}
	return s
}

// did finds out what the branch has done: from its barrier row, or else from the log.
func (s *Standing) did(t *saga.Transaction, b saga.BranchView) {
	if row := b.Barrier; row != nil {
		s.TurnedAway, s.TurnedAwayAt = row.TurnedAway, row.TurnedAwayAt
		switch row.State {
		case barrier.StateTried:
			s.Did, s.At = DidTry, row.TriedAt
		case barrier.StateConfirmed:
			s.Did, s.At = DidConfirm, row.ConfirmedAt
		case barrier.StateCancelled:
			s.Did, s.At = DidCancel, row.CancelledAt
		case barrier.StateSuspended:
			s.Did, s.At = DidSuspend, row.CancelledAt
		default:
			s.Did = DidUnknown
		}
		return
	}
	if b.BarrierError == "" && b.Child == "" {
		s.Did = DidNothing
		return
	}
	s.FromLog = true
	done := !b.DoneAt.IsZero() || t.State.Finished()
	switch {
	case done && (t.State == saga.Confirming || t.State == saga.Confirmed):
		s.Did, s.At = DidConfirm, b.DoneAt
	case done:
		s.Did, s.At = DidCancel, b.DoneAt
	case b.Tried:
		s.Did = DidTry
	default:
		s.Did, s.FromLog = DidUnknown, false
	}
}

// due finds the operation that is called next. The log has the last word: a branch is called
// until the log shows that it is done.
func (s *Standing) due(t *saga.Transaction, b saga.BranchView) {
	switch {
	case !b.DoneAt.IsZero():
	case t.State == saga.Trying && s.Did == DidTry:
	case t.State == saga.Trying && asked(b):
		s.Due = barrier.Ask
	case t.State == saga.Trying && t.Planned && b.Role != saga.RoleAfter:
		s.Due = barrier.Try
	case t.State == saga.Confirming && b.Role == saga.RoleAfter:
		s.Due = barrier.Apply
	case t.State == saga.Confirming:
		s.Due = barrier.Confirm
	case t.State == saga.Cancelling && b.Role == "", t.State == saga.Cancelling && b.Role == saga.RoleAction:
		s.Due = barrier.Cancel
	}
}

// asked reports whether a question to the branch has failed.
func asked(b saga.BranchView) bool {
	for _, a := range b.Attempts {
		if a.Operation == barrier.Ask {
			return true
		}
	}
	return false
}

// Text says in one sentence what the branch has done, and what is next. Format formats the times
// in it; if it is nil, they are written as RFC 3339 in UTC.
func (s Standing) Text(format func(time.Time) string) string {
	parts := []string{s.history(format)}
	if s.Reason {
		parts = append(parts, "it is the reason of the cancel")
	}
	if s.Resolve != nil {
		parts = append(parts, fmt.Sprintf("operator %s believes that it is %s: %s", s.Resolve.Who, s.Resolve.Believed, s.Resolve.Why))
	}
	if next := s.next(format); next != "" {
		parts = append(parts, next)
	}
	if s.TurnedAway > 0 {
		parts = append(parts, "the barrier turned away "+many(s.TurnedAway, "call", "calls"))
	}
	if s.Unread != "" {
		parts = append(parts, "its barrier row was not read: "+s.Unread)
	}
	return strings.Join(parts, "; ")
}

// history says what the branch has done.
func (s Standing) history(format func(time.Time) string) string {
	var text string
	switch s.Did {
	case DidNothing:
		if s.Role == saga.RoleAfter {
			return "nothing was done: it is called after the decision to confirm"
		}
		return "nothing was done: no Try ran, or it was rolled back"
	case DidTry:
		text = "Try ran"
		if s.Role == saga.RoleAction {
			text = "the action ran"
		}
	case DidConfirm:
		text = "confirmed"
	case DidCancel:
		text = "cancelled"
		if s.FromLog {
			text = "cancelled, or it had nothing to cancel"
		}
	case DidSuspend:
		text = "cancelled before any Try (empty rollback): nothing was done, and a late Try is refused"
	default:
		return "it is not known here whether its Try ran"
	}
	if !s.At.IsZero() {
		text += " at " + at(format, s.At)
	}
	return text
}

// next says what is called next, or why nothing is.
func (s Standing) next(format func(time.Time) string) string {
	var text string
	if u := s.UnderWay; u != nil {
		text = fmt.Sprintf("a %s by %s is under way since %s", name(u.Op), u.By, at(format, u.Since))
		if s.Failures == 0 {
			return text
		}
		text += "; "
	}
	if s.Failures > 0 {
		operation := s.Due
		if operation == "" {
			operation = barrier.Try
		}
		text += fmt.Sprintf("%s has failed %s, the last time with: %s", name(operation), times(s.Failures), s.LastError)
	}
	switch {
	case s.Due == "":
		if s.Undecided && s.Did == DidTry {
			return "it waits for the decision"
		}
		return text
	case s.Paused:
		return join(text, "nothing is called, because an operator has paused the transaction")
	case s.Conflict:
		return join(text, "this is a conflict, which no retry can end: an operator has to resolve it")
	case s.Failures == 0:
		return join(text, name(s.Due)+" has not succeeded yet")
	case !s.NextAt.IsZero():
		return join(text, "the next attempt is due at "+at(format, s.NextAt))
	default:
		return text
	}
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	default:
		return fmt.Sprintf("%d times", n)
	}
}
