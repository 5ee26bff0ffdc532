package txn

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// MaxRuns is how often a local transaction runs at most, if its COMMIT is not answered or a
// Try comes between two reads of the barrier. The barrier makes any number of runs safe.
const MaxRuns = 3

// BranchError is an error of one branch.
type BranchError struct {
	Index int // of the step
	ID    string
	Kind  string
	Err   error
}

func (e *BranchError) Error() string { return e.Kind + ": " + e.Err.Error() }
func (e *BranchError) Unwrap() error { return e.Err }

// ErrDeadline is the cause with which the contexts of Trys end at the deadline.
var ErrDeadline = errors.New("the deadline of the transaction has passed")

// CauseOf adds the reason why ctx ended to an error that followed from it.
func CauseOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) && !strings.Contains(err.Error(), cause.Error()) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// Wrap adds the operation of the API and its subject to an error: "saga: execute order-1:
// ...". It is called once, where the operation returns. An error that carries an outcome
// names the transaction itself and stays as it is.
func Wrap(operation, subject string, err error) error {
	if err == nil {
		return nil
	}
	switch err.(type) { //nolint:errorlint // Only the error itself names the transaction first.
	case *saga.CancelledError, *saga.UnknownError:
		return err
	}
	if subject == "" || len(subject) > maxSubject || strings.ContainsFunc(subject, func(r rune) bool { return r < ' ' || r > '~' }) {
		return fmt.Errorf("saga: %s: %w", operation, err) // err describes the subject
	}
	return fmt.Errorf("saga: %s %s: %w", operation, subject, err)
}

// maxSubject is the longest subject in an error: a gid and a branch id.
const maxSubject = barrier.MaxGID + 1 + barrier.MaxBranchID

// Invalid returns an error that wraps [saga.ErrInvalid].
func Invalid(format string, arguments ...any) error {
	return fmt.Errorf("%w: %w", saga.ErrInvalid, fmt.Errorf(format, arguments...))
}
