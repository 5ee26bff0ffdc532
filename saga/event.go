package saga

import (
	"time"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// Event tells an [Observer] what happens. All events are structs of this package.
type Event interface{ event() }

// Subject is the transaction that an event is about.
type Subject struct {
	GID     string
	Pattern string // empty if this process has not read it
	Trace   string // trace context of the caller that began it; see [Summary.Trace]
}

// OperationStarted is an Event: a call of an engine's method begins. The returned context is
// that of the call.
type OperationStarted struct {
	Name string // execute, execute in, begin, try, confirm, cancel, record, prepare, confirm nested or cancel nested
	GID  string
}

// OperationEnded is an Event: a call of an engine's method has ended. It may have returned
// earlier, when its caller's context had ended.
type OperationEnded struct {
	Name string
	GID  string
	Took time.Duration
	Err  error
}

// Decided is an Event: a transaction is decided, durably, and this process has made the
// decision. A transaction of ExecuteIn is decided by the COMMIT of its caller. The event comes
// when this process sees that COMMIT, and never if the COMMIT has also finished it.
type Decided struct {
	Subject
	State State         // Confirming or Cancelling
	By    string        // caller, deadline, recovery or operator; as in [Summary.DecidedBy]
	Code  string        // of a cancel; see [Outcome]
	Took  time.Duration // since it was begun; 0 if that is not known
}

// Finished is an Event: a transaction is finished, and this process has done it. It comes
// after [Decided], perhaps in another process.
type Finished struct {
	Subject
	State State         // Confirmed or Cancelled
	Took  time.Duration // since it was begun; 0 if that is not known
}

// BranchCall names one call of a branch.
type BranchCall struct {
	GID       string
	BranchID  string
	Kind      string
	Operation barrier.Op
	Attempt   int  // from 1; always 1 in a participant, which does not know it
	Remote    bool // another service has the branch
	Hosted    bool // the call has come to a participant
}

// CallStarted is an Event: a call of a branch begins. The returned context is that of the
// call: the branch gets it.
//
// Calls that share a local transaction have an event each. A call has only one pair of events,
// also if it is made again after a passing fault, with one exception: the Trys, and the
// Confirms in the commit that decides, are told of each time they run.
type CallStarted struct{ BranchCall }

// CallEnded is an Event: a call of a branch has ended.
type CallEnded struct {
	BranchCall
	Result  CallResult
	Verdict barrier.Verdict // what the barrier has said; empty if this process has not asked it
	Took    time.Duration
	Err     error // nil if the Result is CallOK
}

// CallResult says how a call of a branch has ended.
type CallResult string

// The results of calls.
const (
	CallOK           CallResult = "ok"            // it has succeeded, now or before
	CallRejected     CallResult = "rejected"      // the branch has rejected the Try
	CallSuspended    CallResult = "suspended"     // the Try came after its Cancel, and is refused
	CallConflict     CallResult = "conflict"      // it contradicts the barrier row
	CallNotCommitted CallResult = "not committed" // the answer to an Ask
	CallOngoing      CallResult = "ongoing"       // an earlier call has not ended, or it has to wait
	CallUnknown      CallResult = "unknown"       // there was no answer: it may have had its effect
	CallFailed       CallResult = "failed"        // any other error
)

// AttentionRaised is an Event: a transaction needs a person; see [Summary.Attention].
type AttentionRaised struct {
	Subject
	Why string
}

// TakenOver is an Event: this instance has taken over transactions of instances that are gone.
type TakenOver struct{ Transactions int }

// LeaseLost is an Event: the lease of this instance has ended. Other instances may take over its
// transactions. It is noticed at the next heartbeat.
type LeaseLost struct{}

// LeaseHeldAgain is an Event: this instance holds its lease again, after [LeaseLost].
type LeaseHeldAgain struct{}

// CommitUnanswered is an Event: the connection was lost during a COMMIT, which may have happened
// or not. The engine finds out.
type CommitUnanswered struct{}

// BatchCommitted is an Event: a number of calls or writes was made together.
type BatchCommitted struct {
	// Batch is decide, for plans that were decided in one commit; log, for writes of the
	// log; calls, for calls in the database of a branch; effects, for effects that were made
	// at once, such as publishes; or finish, for the last commits of transactions.
	Batch string
	Size  int // from 1
}

// KindPaused is an Event: this process has read that an operator has paused a kind of branch.
type KindPaused struct{ Kind string }

// KindResumed is an Event: this process has read that a kind of branch is not paused any more.
type KindResumed struct{ Kind string }

// CircuitOpened is an Event: calls of a kind of branch fail, and repeated calls wait.
type CircuitOpened struct{ Kind string }

// CircuitClosed is an Event: a call of the kind has succeeded, and the circuit is closed again.
type CircuitClosed struct{ Kind string }

// MessageStarted is an Event: the handler of a consumer is called for a message. The returned
// context is that of the handler.
type MessageStarted struct {
	Stream, Consumer string
	ID               string // of the message
	Subject          string
	Attempt          int // from 1
}

// MessageEnded is an Event: the handler of a consumer has returned for a message.
type MessageEnded struct {
	MessageStarted
	Took time.Duration
	Err  error
}

func (OperationStarted) event() {}
func (OperationEnded) event()   {}
func (Decided) event()          {}
func (Finished) event()         {}
func (CallStarted) event()      {}
func (CallEnded) event()        {}
func (AttentionRaised) event()  {}
func (TakenOver) event()        {}
func (LeaseLost) event()        {}
func (LeaseHeldAgain) event()   {}
func (CommitUnanswered) event() {}
func (BatchCommitted) event()   {}
func (KindPaused) event()       {}
func (KindResumed) event()      {}
func (CircuitOpened) event()    {}
func (CircuitClosed) event()    {}
func (MessageStarted) event()   {}
func (MessageEnded) event()     {}
