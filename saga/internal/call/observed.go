package call

import (
	"context"
	"errors"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/local"
	"github.com/tccsaga/tccsaga/saga/internal/observe"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// batchCalls is the name of the batches of calls for observers.
const batchCalls = "calls"

// ResultOf returns the result of a call with an error, as observers know it.
func ResultOf(b *txn.Branch, op barrier.Op, err error) saga.CallResult {
	var rejection *saga.Rejection
	var unanswered interface{ Unanswered() }
	switch {
	case err == nil:
		return saga.CallOK
	case op == barrier.Try && errors.As(err, &rejection):
		return saga.CallRejected
	case errors.Is(err, barrier.ErrSuspended):
		return saga.CallSuspended
	case errors.Is(err, barrier.ErrConflict):
		return saga.CallConflict
	case errors.Is(err, saga.ErrNotCommitted):
		return saga.CallNotCommitted
	case errors.Is(err, saga.ErrOngoing):
		return saga.CallOngoing
	case errors.Is(err, local.ErrCommitUnknown), errors.As(err, &unanswered):
		return saga.CallUnknown
	case !b.Outside(op): // a local transaction that has failed is rolled back
		return saga.CallFailed
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return saga.CallUnknown
	default:
		return saga.CallFailed
	}
}

// observedCalls are the calls of a WorkBatch.
type observedCalls []*observe.Call

// startAll tells observers that calls begin, and gives the calls their contexts.
func startAll(n *observe.Notifier, calls []saga.BatchCall) observedCalls {
	if n == nil {
		return nil
	}
	all := make(observedCalls, len(calls))
	for i := range calls {
		calls[i].Context, all[i] = n.Call(calls[i].Context, calls[i].Call, false)
	}
	return all
}

// end tells observers how the calls have ended.
func (all observedCalls) end(b *txn.Branch, op barrier.Op, failures []error, err error) {
	for i, one := range all {
		failure := err
		if failures != nil && failures[i] != nil {
			failure = failures[i]
		}
		one.Saw(barrier.Run)
		one.End(ResultOf(b, op, failure), failure)
	}
}
