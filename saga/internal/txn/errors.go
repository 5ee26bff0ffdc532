package txn

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
)

// MaxLooks bounds how often a local transaction is begun anew because its COMMIT was not
// answered, or because a Try came between two looks at the barrier. Once is the rule; the
// barrier makes any number safe.
const MaxLooks = 3

// BranchError says which branch an error came from.
type BranchError struct {
	Index int // of the step
	ID    string
	Kind  string
	Err   error
}

func (e *BranchError) Error() string { return e.Kind + ": " + e.Err.Error() }
func (e *BranchError) Unwrap() error { return e.Err }

// ErrDeadline is why the Trys of a transaction end at its deadline.
var ErrDeadline = errors.New("the deadline of the transaction has passed")

// CauseOf adds why ctx ended to an error that followed from it.
func CauseOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) && !strings.Contains(err.Error(), cause.Error()) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// Wrap says which operation of the API has failed, and what it was about: "saga: execute
// order-1: ...". It is called once, where the operation returns. The errors that tell an
// outcome name the transaction themselves and stay as they are.
func Wrap(operation, subject string, err error) error {
	if err == nil {
		return nil
	}
	switch err.(type) {
	case *saga.CancelledError, *saga.UnknownError:
		return err
	}
	if subject == "" || len(subject) > maxSubject || strings.ContainsFunc(subject, func(r rune) bool { return r < ' ' || r > '~' }) {
		return fmt.Errorf("saga: %s: %w", operation, err) // err says what is wrong with the subject
	}
	return fmt.Errorf("saga: %s %s: %w", operation, subject, err)
}

// maxSubject is the longest subject that stands in an error: a gid and a branch id.
const maxSubject = barrier.MaxGID + 1 + barrier.MaxBranchID

// Invalid returns an error that wraps [saga.ErrInvalid].
func Invalid(format string, arguments ...any) error {
	return fmt.Errorf("%w: %w", saga.ErrInvalid, fmt.Errorf(format, arguments...))
}
