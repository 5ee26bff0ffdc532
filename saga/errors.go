package saga

import (
	"errors"
	"fmt"
)

var (
	// ErrCancelled is matched, with [errors.Is], by the error of every call
	// that wanted a transaction confirmed which is cancelled, or is decided to
	// be. The error is a [*CancelledError].
	ErrCancelled = errors.New("the transaction is cancelled")

	// ErrConfirmed is wrapped by the error of a Cancel that comes after the
	// decision to confirm.
	ErrConfirmed = errors.New("the transaction was decided to be confirmed")

	// ErrUnknown is matched by the error of a call that ended before it could
	// learn how its transaction is decided. The error is an [*UnknownError].
	// The same call with the same gid, or Lookup, finds out.
	ErrUnknown = errors.New("the outcome is unknown")

	// ErrNotFound is wrapped when a gid names no transaction in the log.
	ErrNotFound = errors.New("no such transaction")

	// ErrMismatch is wrapped when a gid that is in use is started again with
	// another plan, or a branch id is tried again with another payload.
	ErrMismatch = errors.New("in use with a different plan")

	// ErrInUse is wrapped by an ExecuteIn whose gid another local transaction has just
	// begun: roll back, and execute it again.
	ErrInUse = errors.New("the gid is in use by another local transaction")

	// ErrNotOpen is wrapped when a branch is added to a transaction, or a
	// decision asked of it, that is not open for it: it is decided, or past its
	// deadline, or is being executed by a plan of its own.
	ErrNotOpen = errors.New("the transaction is not open")

	// ErrNotTried is wrapped by a Confirm of an open transaction with a branch
	// whose Try is under way, or has failed, or was never answered: try the
	// branch again, or cancel.
	ErrNotTried = errors.New("a branch has not been tried with success")

	// ErrInvalid is wrapped by every refusal of bad input. Nothing was written.
	ErrInvalid = errors.New("invalid")

	// ErrUnknownKind is wrapped when a branch is asked for whose kind is not
	// registered in this process.
	ErrUnknownKind = errors.New("unknown kind of branch")

	// ErrOngoing is wrapped by the error of a branch call that is not at its end
	// and was not begun again. A branch that needs time may return it too: a
	// Confirm or Cancel is called again, like after any other error.
	ErrOngoing = errors.New("the call is not at its end")

	// ErrStopped is wrapped by calls to an orchestrator that is stopping, or
	// has stopped. Nothing was written.
	ErrStopped = errors.New("the engine has stopped")

	// ErrPaused is wrapped by calls that would try a branch of a kind that an
	// operator has paused. Nothing was written.
	ErrPaused = errors.New("an operator has paused the kind of branch")

	// ErrNoLease is wrapped by calls to an orchestrator whose lease has run
	// out, because Run was not called or because the database could not be
	// reached. Nothing was written.
	ErrNoLease = errors.New("the engine has no lease: is Run running, and the database reachable?")
)

// CancelledError says that a transaction is cancelled, and why. It matches
// [ErrCancelled]. In the call in which a Try failed it also wraps that error;
// later calls with the same gid know the reason in words and the code.
type CancelledError struct {
	GID    string
	State  State  // Cancelling or Cancelled
	Reason string // for people

	// Code says for programs why, and BranchID names the branch whose Try was
	// the reason, if it was one; see [Outcome]. They are kept in the log.
	Code, BranchID string

	Cause error // of the Try that failed; if another call made it, a [*Rejection] with the code and the reason, or nil
}

func (e *CancelledError) Error() string {
	return fmt.Sprintf("saga: %s is %s: %s", e.GID, e.State, e.Reason)
}

// Is matches [ErrCancelled].
func (e *CancelledError) Is(target error) bool { return target == ErrCancelled }

// Unwrap returns the Cause.
func (e *CancelledError) Unwrap() error { return e.Cause }

// UnknownError says that the outcome of a transaction could not be learned. It
// matches [ErrUnknown]: the transaction may be confirmed, may be cancelled, or
// may never have begun.
type UnknownError struct {
	GID   string
	Cause error // what kept the caller from learning the outcome
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("saga: the outcome of %s is unknown, ask again with the same gid: %v", e.GID, e.Cause)
}

// Is matches [ErrUnknown].
func (e *UnknownError) Is(target error) bool { return target == ErrUnknown }

// Unwrap returns the Cause.
func (e *UnknownError) Unwrap() error { return e.Cause }

// Rejection is a branch's business "no": see [Reject] and [RejectCode].
type Rejection struct {
	// Code says for programs why the branch said no: 1 to 64 letters, digits,
	// dots, dashes and underscores. Empty if the branch gave none.
	Code string
	err  error
}

// Reject marks err as a business "no" of a Try, such as stock that is short.
// The transaction is cancelled with err's text as its reason. Every other
// error of a Try cancels too, but a passing fault of the database is tried
// again first. Confirm and Cancel cannot say no: there, a Rejection is an
// error like any other, and retried.
func Reject(err error) error { return RejectCode("", err) }

// RejectCode is [Reject] with a code for programs, such as "stock.short". It is
// kept in the log with the reason, and later calls with the same gid return it.
// A code that cannot be one is dropped.
func RejectCode(code string, err error) error {
	if err == nil {
		return nil
	}
	if !validKind.MatchString(code) {
		code = ""
	}
	return &Rejection{Code: code, err: err}
}

func (r *Rejection) Error() string { return r.err.Error() }

// Unwrap returns the error that was given to Reject.
func (r *Rejection) Unwrap() error { return r.err }

// Rejected keeps a Rejection from being taken for a passing fault, whatever it
// wraps.
func (r *Rejection) Rejected() bool { return true }
