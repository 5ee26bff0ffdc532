package ctl

import (
	"context"
	"errors"
	"fmt"

	"github.com/tccsaga/tccsaga/branches/message"
	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/schema"
)

// Exit codes of the command. "check" has the exit codes of a monitoring plugin instead: 0 for
// ok, 1 for a warning, 2 for critical and 3 for unknown.
const (
	CodeOK          = 0
	CodeFailed      = 1   // anything else; after an act that failed, look at the transaction
	CodeUsage       = 2   // a flag, an argument or a profile is not valid; nothing was done
	CodeNotFound    = 3   // no such transaction, bulk action or dead letter
	CodeRefused     = 4   // an act was refused, because it would have no effect or break a promise
	CodeUnreachable = 5   // the database or the broker cannot be reached
	CodeTimeout     = 6   // the time limit has passed
	CodeDeclined    = 7   // a person did not confirm the act; nothing was done
	CodeCancelled   = 8   // "tx wait": the transaction is cancelled
	CodeSchema      = 9   // the schema of the database is missing, not complete, or newer than the program
	CodeInterrupted = 130 // an interrupt ended the command
)

const exitCodeHelp = `Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 refused, 5 the database or broker cannot be
reached, 6 time limit, 7 not confirmed by a person, 8 "tx wait": the transaction is cancelled,
9 the schema is missing, not complete or newer than the program, 130 interrupted. "check" has those
of a monitoring plugin: 0 ok, 1 warning, 2 critical, 3 unknown.`

// codeError is an error with its exit code.
type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *codeError) Unwrap() error { return e.err }

func usage(format string, arguments ...any) error {
	return &codeError{CodeUsage, fmt.Errorf(format, arguments...)}
}

// ExitCode returns the exit code of a process whose [Command] has returned err. It is 0 for nil.
func ExitCode(err error) int {
	var coded *codeError
	switch {
	case err == nil:
		return CodeOK
	case errors.As(err, &coded):
		return coded.code
	case errors.Is(err, saga.ErrNotFound), errors.Is(err, message.ErrNoLetter), errors.Is(err, message.ErrNoDeadLetters):
		return CodeNotFound
	case errors.Is(err, saga.ErrRefused), errors.Is(err, saga.ErrNotOpen), errors.Is(err, saga.ErrNotTried),
		errors.Is(err, saga.ErrConfirmed), errors.Is(err, saga.ErrCancelled):
		return CodeRefused
	case errors.Is(err, saga.ErrInvalid), errors.Is(err, message.ErrInvalid):
		return CodeUsage
	case errors.Is(err, schema.ErrNotMigrated), errors.Is(err, schema.ErrNewer):
		return CodeSchema
	case errors.Is(err, context.DeadlineExceeded):
		return CodeTimeout
	case errors.Is(err, context.Canceled):
		return CodeInterrupted
	default:
		return CodeFailed
	}
}
