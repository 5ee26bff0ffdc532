package saga

import (
	"encoding/json"
	"time"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// Summary is the log's row of a transaction. Times are on the database's clock. A zero time
// means that the event has not happened; it is left out of JSON.
type Summary struct {
	GID         string            `json:"gid"`
	Pattern     string            `json:"pattern"`
	State       State             `json:"state"`
	Reason      string            `json:"reason,omitempty"`        // why it is cancelled, for people; empty otherwise
	Code        string            `json:"reason_code,omitempty"`   // the same for programs; see [Outcome]
	BranchID    string            `json:"reason_branch,omitempty"` // the branch whose Try was the reason
	DecidedBy   string            `json:"decided_by,omitempty"`    // caller, deadline, recovery or operator; empty before the decision
	Attention   string            `json:"attention,omitempty"`     // why it needs an operator; empty if it does not
	Owner       string            `json:"owner,omitempty"`         // the instance that drives it; empty while it is open
	Epoch       int64             `json:"epoch"`                   // rises when another instance takes over
	Failures    int               `json:"failures"`                // failed branch calls so far
	Planned     bool              `json:"planned,omitempty"`       // Execute runs it, and decides; nobody else can decide to confirm it
	TryAttempts int               `json:"try_attempts,omitempty"`  // how often a Try may be called; see [Options.TryAttempts]
	Parent      string            `json:"parent,omitempty"`        // of a nested transaction: the branch that it is, as "LOG/gid/branch"; its parent is the caller that decides it
	Labels      map[string]string `json:"labels,omitempty"`        // see [Options.Labels]
	Trace       string            `json:"trace,omitempty"`         // trace context of the caller that began it, as W3C traceparent
	CreatedAt   time.Time         `json:"created_at,omitzero"`
	DeadlineAt  time.Time         `json:"deadline_at,omitzero"` // when it is cancelled if it is undecided
	DueAt       time.Time         `json:"due_at,omitzero"`      // when an instance works on it next; zero if it is finished
	DecidedAt   time.Time         `json:"decided_at,omitzero"`
	FinishedAt  time.Time         `json:"finished_at,omitzero"`
	PausedAt    time.Time         `json:"paused_at,omitzero"`   // when an operator paused it; zero if it is not paused
	PreparedAt  time.Time         `json:"prepared_at,omitzero"` // of a nested transaction: when it was prepared; it has no deadline from then on
}

// Transaction is a transaction with its branches and the acts of operators.
type Transaction struct {
	Summary
	Branches []BranchView `json:"branches"`
	Acts     []Action     `json:"acts,omitempty"` // the acts of operators, in order
}

// BranchView is a branch of a transaction: from the log, the barrier and this process.
type BranchView struct {
	ID      string          `json:"id"`
	Kind    string          `json:"kind"`
	Payload json.RawMessage `json:"payload"`
	Stage   int             `json:"stage,omitempty"` // place in the order of the calls, from 1; 0 in a transaction without an order
	Role    Role            `json:"role,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`  // what its Try has returned
	Tried   bool            `json:"tried,omitempty"`   // the log shows that its Try has succeeded; of an open transaction, or with forward recovery
	DoneAt  time.Time       `json:"done_at,omitzero"`  // when it was confirmed or cancelled; zero if that was with the end of the transaction
	Barrier *barrier.Row    `json:"barrier,omitempty"` // nil if the branch has none
	Child   string          `json:"child,omitempty"`   // gid of the nested transaction that is the branch, if its engine is in this process
	// BarrierError says why the barrier row could not be read: the kind is not registered
	// in this process, or its database or service did not answer, or its service does not
	// answer questions about its barrier. Empty otherwise.
	BarrierError string `json:"barrier_error,omitempty"`
	// UnderWay is a call of the branch that is under way, or has no recorded end. The
	// barrier row shows the effects and external calls of every instance. The calls to
	// another service or another database are shown for this instance only. Nil if there
	// is none.
	UnderWay *CallUnderWay `json:"under_way,omitempty"`
	Attempts []Attempt     `json:"attempts,omitempty"` // failed calls; the latest 20 of each operation
}

// Role says when a branch is called, if not as a branch with Try, Confirm and Cancel.
type Role string

// The roles.
const (
	RoleAction  Role = "action"  // its Try is final; see [Branch.AsAction]
	RoleAfter   Role = "after"   // it is called after the decision; see [Step.AfterDecision]
	RoleDecides Role = "decides" // the COMMIT of its Try is the decision; see [Step.Decides]
)

// Attempt is a failed call of a branch.
type Attempt struct {
	Operation barrier.Op `json:"operation"`
	Number    int        `json:"number"` // from 1
	Error     string     `json:"error"`
	Code      string     `json:"code,omitempty"` // CodeConflict if no retry can succeed; of a Try, as in [Outcome]
	Instance  string     `json:"instance"`       // made the call
	FailedAt  time.Time  `json:"failed_at"`
	NextAt    time.Time  `json:"next_at,omitzero"` // the earliest time of the next attempt; zero for a Try, which has none
}

// CallUnderWay is a call of a branch that is under way.
type CallUnderWay struct {
	Op    barrier.Op `json:"op"`
	By    string     `json:"by"`             // the instance that makes the call
	Since time.Time  `json:"since"`          // on the database's clock, or on this process's clock if this process makes the call
	Until time.Time  `json:"until,omitzero"` // the latest end, which may be past; zero if it is not recorded
}

// Filter selects the transactions of a List. All conditions must hold. The zero value selects
// all.
type Filter struct {
	States        []State // any of these
	Pattern       string
	Prefix        string    // of the gid
	Unfinished    bool      // only unfinished ones; cheap in a large log
	Attention     bool      // only those that need an operator; cheap in a large log
	CreatedAfter  time.Time // only later ones
	CreatedBefore time.Time // only earlier ones

	// After selects greater gids. For the next page, set it to the last gid of the page
	// before.
	After string
	// Limit is the most to return. Defaults to 100; at most 1,000.
	Limit int
}
