// Package observe tells observers what happens, and costs nothing if there are none: a nil
// *Notifier does nothing, and makes no event.
package observe

import (
	"context"
	"time"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/local"
)

// Notifier tells observers what happens. A nil *Notifier has no observers. It is safe for
// concurrent use.
type Notifier struct {
	observers *saga.Observers
	hosted    bool
}

// New returns a Notifier; nil if there are no observers. Hosted says that the calls of branches
// come from an engine in another process.
func New(observers *saga.Observers, hosted bool) *Notifier {
	if observers == nil {
		return nil
	}
	return &Notifier{observers, hosted}
}

// Attach returns a context with which local transactions tell of a COMMIT that is not answered.
func (n *Notifier) Attach(ctx context.Context) context.Context {
	if n == nil {
		return ctx
	}
	return local.WithUnanswered(ctx, func(ctx context.Context) { n.observers.Observe(ctx, saga.CommitUnanswered{}) })
}

// Operation begins a call of an engine's method. The caller has to call end with its error.
func (n *Notifier) Operation(ctx context.Context, name, gid string) (operation context.Context, end func(error)) {
	if n == nil {
		return ctx, ignore
	}
	return n.operation(ctx, name, gid)
}

// operation is not part of Operation, so that nothing is allocated without observers.
func (n *Notifier) operation(ctx context.Context, name, gid string) (operation context.Context, end func(error)) {
	began := time.Now()
	operation = n.observers.Observe(n.Attach(ctx), saga.OperationStarted{Name: name, GID: gid})
	return operation, func(err error) {
		n.observers.Observe(operation, saga.OperationEnded{Name: name, GID: gid, Took: time.Since(began), Err: err})
	}
}

func ignore(error) {}

// Inject returns the trace context of ctx.
func (n *Notifier) Inject(ctx context.Context) string {
	if n == nil {
		return ""
	}
	return n.observers.Inject(ctx)
}

// Extract returns a context that continues a trace.
func (n *Notifier) Extract(ctx context.Context, trace string) context.Context {
	if n == nil {
		return ctx
	}
	return n.observers.Extract(ctx, trace)
}

// Call is a call of a branch that observers were told of. A nil *Call is not observed.
type Call struct {
	Verdict barrier.Verdict // of the barrier; the caller sets it

	notifier *Notifier
	ctx      context.Context
	call     saga.BranchCall
	began    time.Time
	ended    bool
}

// Call begins a call of a branch. Remote says that another service has the branch.
func (n *Notifier) Call(ctx context.Context, call saga.Call, remote bool) (context.Context, *Call) {
	if n == nil {
		return ctx, nil
	}
	c := &Call{notifier: n, began: time.Now(), call: saga.BranchCall{
		GID: call.GID, BranchID: call.BranchID, Kind: call.Kind, Operation: call.Op, Attempt: call.Attempt, Remote: remote, Hosted: n.hosted,
	}}
	c.ctx = n.observers.Observe(ctx, saga.CallStarted{BranchCall: c.call})
	return c.ctx, c
}

// In returns the context of the call, or ctx if the call is not observed.
func (c *Call) In(ctx context.Context) context.Context {
	if c == nil {
		return ctx
	}
	return c.ctx
}

// Saw notes the verdict of the barrier.
func (c *Call) Saw(verdict barrier.Verdict) {
	if c != nil {
		c.Verdict = verdict
	}
}

// End ends a call. Only the first End counts.
func (c *Call) End(result saga.CallResult, err error) {
	if c == nil || c.ended {
		return
	}
	c.ended = true
	c.notifier.observers.Observe(c.ctx, saga.CallEnded{BranchCall: c.call, Result: result, Verdict: c.Verdict, Took: time.Since(c.began), Err: err})
}

// Decided tells of a decision. Began is when the transaction was begun; zero if that is not known.
func (n *Notifier) Decided(ctx context.Context, t saga.Subject, state saga.State, by, code string, began time.Time) {
	if n == nil {
		return
	}
	switch state {
	case saga.Confirmed:
		state = saga.Confirming
	case saga.Cancelled:
		state = saga.Cancelling
	}
	n.observers.Observe(ctx, saga.Decided{Subject: t, State: state, By: by, Code: code, Took: since(began)})
}

// Finished tells of the end of a transaction.
func (n *Notifier) Finished(ctx context.Context, t saga.Subject, state saga.State, began time.Time) {
	if n == nil {
		return
	}
	n.observers.Observe(ctx, saga.Finished{Subject: t, State: state, Took: since(began)})
}

func since(began time.Time) time.Duration {
	if began.IsZero() {
		return 0
	}
	return time.Since(began)
}

// Attention tells of a transaction that was raised to attention.
func (n *Notifier) Attention(ctx context.Context, t saga.Subject, why string) {
	if n == nil {
		return
	}
	n.observers.Observe(ctx, saga.AttentionRaised{Subject: t, Why: why})
}

// TakenOver tells that transactions of instances that are gone were taken over.
func (n *Notifier) TakenOver(ctx context.Context, transactions int) {
	if n == nil || transactions == 0 {
		return
	}
	n.observers.Observe(ctx, saga.TakenOver{Transactions: transactions})
}

// Lease tells that the lease was lost, or is held again.
func (n *Notifier) Lease(held bool) {
	switch {
	case n == nil:
	case held:
		n.observers.Observe(context.Background(), saga.LeaseHeldAgain{})
	default:
		n.observers.Observe(context.Background(), saga.LeaseLost{})
	}
}

// Batch tells of calls or writes that were made together; see [saga.BatchCommitted].
func (n *Notifier) Batch(ctx context.Context, name string, size int) {
	if n == nil {
		return
	}
	n.observers.Observe(ctx, saga.BatchCommitted{Batch: name, Size: size})
}

// Log tells of writes of the log that were made in one commit.
func (n *Notifier) Log(ctx context.Context, writes int) { n.Batch(ctx, "log", writes) }

// Kind tells that a kind of branch is paused, or is not paused any more.
func (n *Notifier) Kind(kind string, paused bool) {
	switch {
	case n == nil:
	case paused:
		n.observers.Observe(context.Background(), saga.KindPaused{Kind: kind})
	default:
		n.observers.Observe(context.Background(), saga.KindResumed{Kind: kind})
	}
}

// Circuit tells that the circuit of a kind of branch was opened or closed.
func (n *Notifier) Circuit(kind string, open bool) {
	switch {
	case n == nil:
	case open:
		n.observers.Observe(context.Background(), saga.CircuitOpened{Kind: kind})
	default:
		n.observers.Observe(context.Background(), saga.CircuitClosed{Kind: kind})
	}
}
