package saga

import "context"

// ChildEngine is an [Engine] that has nested transactions: a nested transaction is a branch of
// another transaction, its parent, which may be in another service. [Opening.Parent] begins
// one. Package nested uses a ChildEngine; see its page for the protocol.
type ChildEngine interface {
	Engine

	// Prepare ends the first phase of a nested transaction, if it has exactly the given
	// number of branches, all are tried, and its deadline has not passed. From then on it
	// takes no branch and has no deadline: only its parent, or an operator, decides it. If
	// it is prepared already, Prepare does nothing and succeeds, also after the decision to
	// confirm.
	//
	// The error wraps [ErrNotTried] if a branch is not tried, [ErrMismatch] if the number of
	// branches is another one, and [ErrNotOpen] if the transaction is cancelled or its
	// deadline has passed.
	Prepare(ctx context.Context, gid string, branches int) error

	// ConfirmNested is the Confirm of the parent. It returns nil if the decision to confirm
	// is durable, by this call or an earlier one; the engine then confirms the branches. The
	// error wraps [barrier.ErrConflict] if the transaction is unknown, not prepared,
	// cancelled, or has another parent.
	ConfirmNested(ctx context.Context, gid, parent string) error

	// CancelNested is the Cancel of the parent. It returns nil if the decision to cancel is
	// durable; the engine then cancels the branches. If no transaction has the gid, it
	// records one that is cancelled, so that a Try that arrives later has no effect. The
	// error wraps [barrier.ErrConflict] if the transaction is confirmed or has another
	// parent.
	CancelNested(ctx context.Context, gid, parent string) error
}

// MaxParent is the most characters of an [Opening.Parent].
const MaxParent = 255

// Explain describes the state in words. Of a nested transaction, it says who decides.
func (s Summary) Explain() string {
	switch {
	case s.Parent == "" || s.State != Trying:
		return s.State.Explain()
	case s.PreparedAt.IsZero():
		return "undecided: nested in " + s.Parent + " and not prepared yet; at the deadline it is cancelled"
	default:
		return "undecided and prepared: " + s.Parent + " decides it with its own transaction; it has no deadline"
	}
}
