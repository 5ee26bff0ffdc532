package timeline

import (
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// Sentence says in one word how a branch is. It is the last part of the key of a text.
type Sentence string

// How a branch is.
const (
	NotCalled   Sentence = "notcalled"   // undecided, and no barrier row
	Waits       Sentence = "waits"       // tried, undecided
	ConfirmDue  Sentence = "confirmdue"  // tried, decided to be confirmed
	CancelDue   Sentence = "canceldue"   // tried, decided to be cancelled
	ApplyDue    Sentence = "applydue"    // called after the decision, not yet done
	ApplyWaits  Sentence = "applywaits"  // called after the decision, undecided
	IsConfirmed Sentence = "isconfirmed" // final
	IsApplied   Sentence = "isapplied"   // final, called after the decision
	IsActed     Sentence = "isacted"     // an action: its Try is final while it is not compensated
	IsCancelled Sentence = "iscancelled" // final
	IsEmpty     Sentence = "isempty"     // an empty rollback
	NothingDue  Sentence = "nothingdue"  // no barrier row; the Cancel will find nothing
	MissingRow  Sentence = "missingrow"  // no barrier row, though a Confirm needs it
	RowGone     Sentence = "rowgone"     // finished, without a barrier row
	NeverCalled Sentence = "nevercalled" // cancelled before its turn came
	Resolved    Sentence = "resolved"    // an operator has ended it
	Elsewhere   Sentence = "elsewhere"   // the row is in another service or process
	DoneThere   Sentence = "donethere"   // the same, and it has ended
	Nested      Sentence = "nested"      // it is a transaction of its own
)

// Read says how a branch of a transaction is.
func Read(t *saga.Transaction, b saga.BranchView) Sentence {
	for _, a := range t.Acts {
		if a.Name == "resolve" && a.BranchID == b.ID {
			return Resolved
		}
	}
	switch {
	case b.Child != "":
		return Nested
	case b.Barrier != nil:
		return readRow(t.State, b)
	case b.BarrierError != "" && (t.State.Finished() || !b.DoneAt.IsZero()):
		return DoneThere
	case b.BarrierError != "":
		return Elsewhere
	}
	return readNone(t.State, b)
}

// readRow reads a branch with a barrier row.
func readRow(state saga.State, b saga.BranchView) Sentence {
	switch b.Barrier.State {
	case barrier.StateSuspended:
		return IsEmpty
	case barrier.StateCancelled:
		return IsCancelled
	case barrier.StateConfirmed:
		if b.Role == saga.RoleAfter {
			return IsApplied
		}
		return IsConfirmed
	}
	switch {
	case state == saga.Cancelling:
		return CancelDue
	case b.Role == saga.RoleAction || b.Role == saga.RoleDecides:
		return IsActed
	case state == saga.Trying:
		return Waits
	}
	return ConfirmDue
}

// readNone reads a branch without a barrier row, in a database that was asked.
func readNone(state saga.State, b saga.BranchView) Sentence {
	switch state {
	case saga.Trying:
		if b.Role == saga.RoleAfter {
			return ApplyWaits
		}
		return NotCalled
	case saga.Confirming:
		if b.Role == saga.RoleAfter {
			return ApplyDue
		}
		return MissingRow
	case saga.Cancelling:
		if b.Role == saga.RoleAfter {
			return NeverCalled
		}
		return NothingDue
	case saga.Cancelled:
		return NeverCalled
	}
	return RowGone
}
