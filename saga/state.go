package saga

import "errors"

// State is the state of a transaction.
type State string

// The states. A transaction goes from Trying to Confirming and Confirmed, or
// from Trying to Cancelling and Cancelled, and never back.
const (
	Trying     State = "trying"     // undecided
	Confirming State = "confirming" // decided; branches are being confirmed until all are
	Confirmed  State = "confirmed"  // every branch is confirmed
	Cancelling State = "cancelling" // decided; branches are being cancelled until all are
	Cancelled  State = "cancelled"  // every branch is cancelled
)

// Finished reports whether nothing is left to do.
func (s State) Finished() bool { return s == Confirmed || s == Cancelled }

// Decided reports whether the decision has been made.
func (s State) Decided() bool { return s != Trying && s != "" }

// Outcome is the state of a transaction when a call returns.
//
// A call that asks for a transaction to be confirmed, such as Execute, returns no error if that
// is decided. The state is then [Confirmed], or it is [Confirming] and each Confirm is called
// until it succeeds. Finished distinguishes the two.
type Outcome struct {
	GID      string `json:"gid"`
	State    State  `json:"state"`
	Reason   string `json:"reason,omitempty"`        // why it was cancelled, for people; empty otherwise
	Code     string `json:"reason_code,omitempty"`   // why, for programs: the code of the branch's [RejectCode], or one of the Code constants
	BranchID string `json:"reason_branch,omitempty"` // the branch whose Try was the reason; empty if there is none
}

// Codes of a cancel, if no branch gave one.
const (
	CodeRejected  = "rejected"  // a branch rejected, without a code
	CodeFailed    = "failed"    // a Try failed
	CodeRefused   = "refused"   // the database refused to commit
	CodeDeadline  = "deadline"  // the transaction was undecided at its deadline
	CodeGone      = "gone"      // the process that executed it was gone, or its caller's context ended
	CodeCancelled = "cancelled" // the caller cancelled
	CodeOperator  = "operator"  // an operator cancelled
	CodeParent    = "parent"    // it is nested, and its parent was cancelled
	CodeConflict  = "conflict"  // the barrier row of a branch is of another transaction with this gid
)

// Finished reports whether nothing is left to do: every branch is confirmed, or every branch is
// cancelled. After a call without an error, false means that the transaction is decided to be
// confirmed, but is not confirmed yet.
func (o Outcome) Finished() bool { return o.State.Finished() }

// Err returns the error for a caller that asked for the transaction to be confirmed. It is nil
// if the transaction is confirmed or decided to be. Cause is the cause of a cancel, or nil if
// it is not known.
func (o Outcome) Err(cause error) error {
	switch o.State {
	case Confirming, Confirmed:
		return nil
	case Cancelling, Cancelled:
		if cause == nil && o.rejected() {
			// The rejection is made from the text and the code in the log.
			code := o.Code
			if code == CodeRejected { // it gave none
				code = ""
			}
			cause = &Rejection{Code: code, err: errors.New(o.Reason)}
		}
		return &CancelledError{GID: o.GID, State: o.State, Reason: o.Reason, Code: o.Code, BranchID: o.BranchID, Cause: cause}
	default:
		return &UnknownError{GID: o.GID, Cause: cause}
	}
}

// rejected reports whether a branch has rejected the transaction.
func (o Outcome) rejected() bool {
	switch o.Code {
	case "", CodeFailed, CodeRefused, CodeDeadline, CodeGone, CodeCancelled, CodeOperator, CodeParent, CodeConflict:
		return false
	}
	return true
}

// Explain describes the state in words.
func (s State) Explain() string {
	switch s {
	case Trying:
		return "undecided: branches may still be added; at the deadline it is cancelled"
	case Confirming:
		return "decided to be confirmed: every branch is called until its Confirm succeeds"
	case Confirmed:
		return "finished: every branch is confirmed"
	case Cancelling:
		return "decided to be cancelled: every branch is called until its Cancel succeeds"
	case Cancelled:
		return "finished: every branch is cancelled, and nothing is left reserved"
	default:
		return "unknown state " + string(s)
	}
}
