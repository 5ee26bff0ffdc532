package invariant

import "time"

// Records are what a run has left behind.
type Records struct {
	Transactions map[string]*Transaction // the log, by gid
	Transitions  []Transition            // each committed change of the log, in order; nil if they were not recorded
	Branches     map[Key]*Branch         // each branch that is in the log or has left a trace
	Clients      map[string]*Client      // by gid
}

// NewRecords returns empty records.
func NewRecords() *Records {
	return &Records{Transactions: map[string]*Transaction{}, Branches: map[Key]*Branch{}, Clients: map[string]*Client{}}
}

// Branch returns the branch, and adds it if it is new.
func (r *Records) Branch(key Key) *Branch {
	if r.Branches[key] == nil {
		r.Branches[key] = &Branch{}
	}
	return r.Branches[key]
}

// State is the state of a transaction or of a barrier row.
type State string

// The states of a transaction.
const (
	Trying     State = "trying"
	Confirming State = "confirming"
	Confirmed  State = "confirmed"
	Cancelling State = "cancelling"
	Cancelled  State = "cancelled"
)

// The states of a barrier row: [Confirmed], [Cancelled], and these.
const (
	NoRow     State = ""
	Tried     State = "tried"
	Suspended State = "suspended"
)

func (s State) final() bool { return s == Confirmed || s == Cancelled }

// The operations of a branch.
const (
	Try     = "try"
	Confirm = "confirm"
	Cancel  = "cancel"
	Apply   = "apply"
)

// Role says when a branch is called, if not as one with Try, Confirm and Cancel.
type Role string

// The roles.
const (
	Action Role = "action" // its Try is final: its Confirm has no effect
	After  Role = "after"  // it is applied after the decision to confirm

	Decides Role = "decides" // the COMMIT of its Try is the decision
)

// Transaction is a transaction as the log has it.
type Transaction struct {
	State                      State
	Planned                    bool // all of its branches were named when it began
	DecidedByCaller            bool // and neither by its deadline, nor by recovery, nor by an operator
	Created, Decided, Finished time.Time
	Deadline                   time.Time
	Conflicts                  int  // calls that contradicted what a branch had done
	ByBranch                   bool // the COMMIT of one of its branches decides
}

// Outcome is what the transaction is decided to be: [Confirmed], [Cancelled], or
// [Trying] while it is not decided.
func (t *Transaction) Outcome() State {
	switch t.State {
	case Confirming:
		return Confirmed
	case Cancelling:
		return Cancelled
	}
	return t.State
}

// Transition is one committed change of a transaction.
type Transition struct {
	GID                string
	From               State // empty when it began
	To                 State
	FromEpoch, ToEpoch int
}

// Key names a branch.
type Key struct{ GID, ID string }

func (k Key) String() string { return k.GID + "/" + k.ID }

// Branch is one branch as all tables have it.
type Branch struct {
	Logged   bool // the log names it
	Kind     string
	Shape    Shape
	Role     Role
	Rows     []State  // of the barrier, one for each database that has one
	Database []string // operations that had effect in a local transaction, in order
	Service  []string // operations that a service without a database accepted, in order; a repeated one counts once
}

// Row is the state of its barrier row.
func (b *Branch) Row() State {
	if len(b.Rows) == 0 {
		return NoRow
	}
	return b.Rows[0]
}

// Shape says where a branch has its effects.
type Shape int

// The shapes.
const (
	InDatabase          Shape = iota // each operation has effect in a local transaction
	AtService                        // each operation has effect at a service without a database
	ServiceThenDatabase              // as InDatabase, and a Confirm calls a service before
	NotRecorded                      // its effects are not recorded here
	InLog                            // it is a nested transaction, whose row in the log is its barrier row
	Prepared                         // its Try has effect if it is confirmed, as in two-phase commit
)

// Client is what the clients of a transaction asked for, and what they were told.
type Client struct {
	Asked     []Asked // in the order of their ids
	Partial   bool    // it may have asked for the decision before it had tried all of its branches
	Abandoned bool    // no client asked for a decision

	ToldConfirmed int // answers that it is confirmed, or is decided to be
	ToldCancelled int // answers that it is cancelled, or is decided to be
}

// Asked is a branch that a client asked for.
type Asked struct {
	ID, Kind string
	Refused  bool // its Try is always refused
}
