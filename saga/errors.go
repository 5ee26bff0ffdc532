package saga

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrCancelled is matched, with [errors.Is], by the error of a call that asks for a
	// transaction to be confirmed, if the transaction is cancelled or decided to be. The
	// error is a [*CancelledError].
	ErrCancelled = errors.New("the transaction is cancelled")

	// ErrConfirmed is wrapped by the error of a Cancel after the decision to confirm.
	ErrConfirmed = errors.New("the transaction was decided to be confirmed")

	// ErrUnknown is matched by the error of a call that ended before it knew the decision.
	// The error is an [*UnknownError]. To get the decision, make the same call with the
	// same gid again, or use Lookup.
	ErrUnknown = errors.New("the outcome is unknown")

	// ErrNotFound is wrapped if no transaction in the log has the gid.
	ErrNotFound = errors.New("no such transaction")

	// ErrOtherLog is wrapped by the answer of an engine that is asked for the outcome of a
	// transaction in the log of another engine. It says nothing about the transaction.
	ErrOtherLog = errors.New("the transaction is in the log of another engine")

	// ErrMismatch is wrapped if a gid that is in use is started again with another plan, or
	// a branch id is tried again with another payload.
	ErrMismatch = errors.New("in use with a different plan")

	// ErrInUse is wrapped by an ExecuteIn whose gid another local transaction has just
	// begun: roll back, and execute it again.
	ErrInUse = errors.New("the gid is in use by another local transaction")

	// ErrNotOpen is wrapped if a transaction cannot get a branch or a decision: it is
	// decided, or its deadline has passed, or Execute runs it, or it is nested and its
	// parent decides it.
	ErrNotOpen = errors.New("the transaction is not open")

	// ErrNotTried is wrapped by a Confirm of an open transaction, if the Try of a branch is
	// under way, or has failed, or was not answered. Try the branch again, or cancel.
	ErrNotTried = errors.New("a branch has not been tried with success")

	// ErrInvalid is wrapped if the input of a call is not valid. Nothing was written.
	ErrInvalid = errors.New("invalid")

	// ErrUnknownKind is wrapped if a kind of branch is not registered in this process.
	ErrUnknownKind = errors.New("unknown kind of branch")

	// ErrOngoing is wrapped by the error of a branch call if an earlier call of the branch
	// has not ended; no new call was made. A branch that needs more time may return it too:
	// a Confirm or Cancel is called again, as after any other error.
	ErrOngoing = errors.New("the call is not at its end")

	// ErrNotCommitted is wrapped by the error of a branch call with the operation Ask, if
	// the Try was not committed, and never will be: a Try that arrives later is refused.
	ErrNotCommitted = errors.New("the Try was not committed, and never will be")

	// ErrStopped is wrapped by calls to an engine that is stopping or has stopped. Nothing
	// was written.
	ErrStopped = errors.New("the engine has stopped")

	// ErrPaused is wrapped by calls that would try a branch, if an operator has paused its
	// kind. Nothing was written.
	ErrPaused = errors.New("an operator has paused the kind of branch")

	// ErrNoLease is wrapped by calls to an engine whose lease has ended, because Run was not
	// called or because the database could not be reached. Nothing was written.
	ErrNoLease = errors.New("the engine has no lease: is Run running, and the database reachable?")
)

// RetryError is the error of a branch call that says when the call is repeated, if it is. It
// replaces the random pause of the engine after this attempt, and MaxBackoff does not limit
// it.
type RetryError struct {
	After time.Duration // positive
	Err   error
}

func (e *RetryError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *RetryError) Unwrap() error { return e.Err }

// CancelledError says that a transaction is cancelled, and why. It matches [ErrCancelled]. The
// call in which a Try failed returns it with that error as the Cause. Later calls with the
// same gid return the reason and the code from the log.
type CancelledError struct {
	GID    string
	State  State  // Cancelling or Cancelled
	Reason string // for people

	// Code is the reason for programs. BranchID names the branch whose Try was the reason,
	// if there is one. See [Outcome]. The log keeps both.
	Code, BranchID string

	Cause error // the error of the failed Try; in later calls a [*Rejection] from the log, or nil
}

func (e *CancelledError) Error() string {
	return fmt.Sprintf("saga: %s is %s: %s", e.GID, e.State, e.Reason)
}

// Is matches [ErrCancelled].
func (e *CancelledError) Is(target error) bool { return target == ErrCancelled }

// Unwrap returns the Cause.
func (e *CancelledError) Unwrap() error { return e.Cause }

// UnknownError says that the outcome of a transaction is not known. It matches [ErrUnknown].
// The transaction may be confirmed, or cancelled, or was never begun.
type UnknownError struct {
	GID   string
	Cause error // why the outcome is not known
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("saga: the outcome of %s is unknown, ask again with the same gid: %v", e.GID, e.Cause)
}

// Is matches [ErrUnknown].
func (e *UnknownError) Is(target error) bool { return target == ErrUnknown }

// Unwrap returns the Cause.
func (e *UnknownError) Unwrap() error { return e.Cause }

// Rejection is the error of a branch that rejects a Try for a business reason; see [Reject] and
// [RejectCode].
type Rejection struct {
	// Code is the reason for programs: 1 to 64 letters, digits, dots, dashes and
	// underscores. Empty if the branch gave none.
	Code string
	err  error
}

// Reject marks err as a business rejection of a Try, such as "stock is short". The transaction
// is cancelled with err's text as its reason. Every other error of a Try cancels the
// transaction too, but after a transient error of the database the Try runs again first.
// Confirm and Cancel cannot reject: there, a Rejection is retried like any other error.
func Reject(err error) error { return RejectCode("", err) }

// RejectCode is [Reject] with a code for programs, such as "stock.short". The log keeps it with
// the reason, and later calls with the same gid return it. A code that is not valid is
// dropped.
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

// Rejected marks the error as a rejection, so that it does not count as a transient error,
// whatever it wraps.
func (r *Rejection) Rejected() bool { return true }
