package drive

import (
	"context"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
)

// Names of batches for observers.
const (
	batchEffects = "effects"
	batchFinish  = "finish"
)

// startCalls tells observers that calls begin that share a commit with the log.
func (r *round) startCalls(ctx context.Context, steps []readyStep) {
	if r.d.Observe == nil {
		return
	}
	for i := range steps {
		_, steps[i].observed = r.d.Observe.Call(ctx, steps[i].call, false)
	}
}

// endCalls tells observers how those calls have ended that were not told of before. Err is the
// error of the log.
func (r *round) endCalls(steps []readyStep, err error) {
	if r.d.Observe == nil {
		return
	}
	for _, one := range steps {
		r.mu.Lock()
		failure := r.failures[one.Step]
		r.mu.Unlock()
		switch {
		case one.Done:
			if one.observed.Verdict == "" {
				one.observed.Saw(barrier.Run) // in a batch, the rows are written together
			}
			one.observed.End(saga.CallOK, nil)
		case failure != nil:
			one.observed.End(call.ResultOf(one.Branch, one.call.Op, failure), failure)
		default:
			one.observed.End(call.ResultOf(one.Branch, one.call.Op, err), err)
		}
	}
}
