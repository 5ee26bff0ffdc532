package saga

import (
	"context"
	"errors"
	"regexp"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
)

// reason is why a transaction is cancelled.
type reason struct {
	text     string // for people
	code     string // for programs
	branchID string // whose Try it was; empty if it was none
}

// reasonOf says why err cancels a transaction. Its text keeps internal addresses
// out: callers pass it on.
func reasonOf(err error) reason {
	r := reason{text: clip(public(err), maxReason), code: codeOf(err)}
	var failed *branchError
	if errors.As(err, &failed) {
		r.branchID = failed.id
	}
	return r
}

// public is the text of an error without internal addresses.
func public(err error) string {
	var failed *branchError
	if errors.As(err, &failed) {
		return failed.kind + ": " + public(failed.err)
	}
	var rejection *Rejection
	if errors.As(err, &rejection) {
		return rejection.Error()
	}
	var known interface{ Public() string }
	if errors.As(err, &known) {
		return known.Public()
	}
	return address.ReplaceAllString(err.Error(), "…")
}

// address matches URLs, IP addresses, and hosts with a port.
var address = regexp.MustCompile(`\b[a-z][a-z0-9+.-]*://[^\s"']+|\[[0-9a-fA-F:.]+\](:\d+)?|\b\d{1,3}(\.\d{1,3}){3}(:\d+)?\b|\b[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*:\d{2,5}\b`)

func codeOf(err error) string {
	var rejection *Rejection
	switch {
	case errors.As(err, &rejection) && rejection.Code != "":
		return rejection.Code
	case rejection != nil:
		return CodeRejected
	case errors.Is(err, errDeadline):
		return CodeDeadline
	case errors.Is(err, barrier.ErrConflict):
		return CodeConflict
	case errors.Is(err, local.ErrCommitRefused):
		return CodeRefused
	case errors.Is(err, context.Canceled):
		return CodeGone
	default:
		return CodeFailed
	}
}

// outcomeOf is what a row of the log says.
func outcomeOf(r txlog.Record) Outcome {
	return Outcome{GID: r.GID, State: State(r.State), Reason: r.Reason, Code: r.Code, BranchID: r.BranchID}
}
