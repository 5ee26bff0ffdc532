package saga

import (
	"encoding/json"
	"time"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// Summary is what the log holds of a transaction itself. Times are the
// database's; a zero time is of something that has not happened, and is left out
// of JSON.
type Summary struct {
	GID        string    `json:"gid"`
	Pattern    string    `json:"pattern"`
	State      State     `json:"state"`
	Reason     string    `json:"reason,omitempty"`        // why it is cancelled, for people; empty otherwise
	Code       string    `json:"reason_code,omitempty"`   // the same for programs; see [Outcome]
	BranchID   string    `json:"reason_branch,omitempty"` // whose Try was the reason
	DecidedBy  string    `json:"decided_by,omitempty"`    // caller, deadline, recovery or operator; empty before the decision
	Attention  string    `json:"attention,omitempty"`     // why a person should look at it; empty when nobody has to
	Owner      string    `json:"owner,omitempty"`         // the instance that drives it; empty while it is open
	Epoch      int64     `json:"epoch"`                   // goes up with every change of driver
	Failures   int       `json:"failures"`                // failed branch calls so far
	CreatedAt  time.Time `json:"created_at,omitzero"`
	DeadlineAt time.Time `json:"deadline_at,omitzero"` // when it is cancelled if it is still undecided
	DueAt      time.Time `json:"due_at,omitzero"`      // when somebody looks at it next; zero once it is finished
	DecidedAt  time.Time `json:"decided_at,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
	PausedAt   time.Time `json:"paused_at,omitzero"` // since when an operator has paused it
}

// Transaction is all that is known of a transaction.
type Transaction struct {
	Summary
	Branches []BranchView `json:"branches"`
	Acts     []Action     `json:"acts,omitempty"` // what operators have done, in order
}

// BranchView is all that is known of a branch of a transaction.
type BranchView struct {
	ID      string          `json:"id"`
	Kind    string          `json:"kind"`
	Payload json.RawMessage `json:"payload"`
	DoneAt  time.Time       `json:"done_at,omitzero"`  // when it was confirmed or cancelled, if that was before the whole transaction
	Barrier *barrier.Row    `json:"barrier,omitempty"` // nil if the branch has none
	// BarrierError says why the barrier row could not be read: the kind is not
	// registered here, or lives in another service, or its database did not
	// answer. Empty otherwise.
	BarrierError string `json:"barrier_error,omitempty"`
	// UnderWay is a call of the branch that is under way, or whose end nobody
	// knows: of a branch that acts on something other than a database, wherever it
	// is made, as its barrier row says; and every call that this instance makes to
	// another service or to another database. Nil if none is known.
	UnderWay *CallUnderWay `json:"under_way,omitempty"`
	Attempts []Attempt     `json:"attempts,omitempty"` // failed calls; the latest 20 of each operation
}

// Attempt is a failed call of a branch.
type Attempt struct {
	Operation barrier.Op `json:"operation"`
	Number    int        `json:"number"` // from 1
	Error     string     `json:"error"`
	Code      string     `json:"code,omitempty"` // CodeConflict if no repetition can succeed; of a Try, as [Outcome] has it
	Instance  string     `json:"instance"`       // that made the call
	FailedAt  time.Time  `json:"failed_at"`
	NextAt    time.Time  `json:"next_at,omitzero"` // not before this time it is called again; zero for a Try, which is not
}

// CallUnderWay is a call of a branch that is under way.
type CallUnderWay struct {
	Op    barrier.Op `json:"op"`
	By    string     `json:"by"`             // the instance that makes it
	Since time.Time  `json:"since"`          // by the database's clock, or, if this process makes it, by its own
	Until time.Time  `json:"until,omitzero"` // when it is over at the latest, or was; zero if that is not recorded
}

// Filter narrows a List. The zero value is all; its parts add up.
type Filter struct {
	States        []State   // any of these
	Pattern       string    // of this pattern
	Prefix        string    // gids that begin so
	Unfinished    bool      // only those that somebody has to look at again; cheap in a large log
	Attention     bool      // only those that a person should look at; cheap in a large log
	CreatedAfter  time.Time // only later ones
	CreatedBefore time.Time // only earlier ones

	// After pages on: only gids greater than this one, commonly the last of
	// the page before.
	After string
	// Limit is the most to return. Defaults to 100; at most 1,000.
	Limit int
}
