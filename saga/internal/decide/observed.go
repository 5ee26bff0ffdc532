package decide

import (
	"context"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/observe"
	"github.com/tccsaga/tccsaga/saga/internal/txlog"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
)

// batchDecide is the name of the batches of decisions for observers.
const batchDecide = "decide"

// ended tells observers of the end of a call in a local transaction of the log.
func (d *Decider) ended(observed *observe.Call, b *txn.Branch, op barrier.Op, verdict barrier.Verdict, err error) {
	if observed != nil {
		observed.Saw(verdict)
		observed.End(call.ResultOf(b, op, err), err)
	}
}

// tell tells observers of the decision, if this execution has made it, and of the end, if the
// commit of the decision has finished the transaction.
func (e *execution) tell(ctx context.Context) {
	if e.d.Observe == nil || !e.made {
		return
	}
	t := e.txn
	e.d.Observe.Decided(ctx, t.Subject(), t.State, txlog.ByCaller, e.reason.Code, t.Begun)
	if t.State.Finished() {
		e.d.Observe.Finished(ctx, t.Subject(), t.State, t.Begun)
	}
}
