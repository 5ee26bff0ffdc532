package saga

import (
	"time"
)

// Query selects transactions for a person who looks for some. All conditions must hold. The
// zero value selects all, the newest first.
//
// A search is bounded: it looks at no more than 10,000 transactions at once, in the order of
// the result, so it is quick in a log of millions. If fewer than Limit of these match, the
// [Page] has a Next all the same, with which the search continues.
type Query struct {
	States     []State `json:"states,omitempty"` // any of these
	Pattern    string  `json:"pattern,omitempty"`
	Prefix     string  `json:"prefix,omitempty"`     // of the gid; the result is then in the order of the gids
	Unfinished bool    `json:"unfinished,omitempty"` // only those that are not finished
	Attention  bool    `json:"attention,omitempty"`  // only those that need an operator; they are unfinished
	Paused     bool    `json:"paused,omitempty"`     // only those that an operator has paused, and that are unfinished
	Kind       string  `json:"kind,omitempty"`       // of a branch
	Owner      string  `json:"owner,omitempty"`      // the instance that drives or has driven it

	// Label and Value select the transactions with a label; see [Options.Labels]. With an
	// empty Label, the value of any label counts.
	Label string `json:"label,omitempty"`
	Value string `json:"value,omitempty"`

	// Text is part of the error of a failed call, of the reason of a cancel, or of the
	// attention. Upper and lower case of ASCII letters are the same.
	Text string `json:"text,omitempty"`

	CreatedAfter  time.Time `json:"created_after,omitzero"`  // only later ones
	CreatedBefore time.Time `json:"created_before,omitzero"` // only earlier ones

	OldestFirst bool   `json:"oldest_first,omitempty"` // or the smallest gid first, with a Prefix
	After       string `json:"after,omitempty"`        // Next of the page before; empty for the first page
	Limit       int    `json:"limit,omitempty"`        // the most to return; defaults to 50, at most 1,000
}

// Page is a part of the result of a [Query].
type Page struct {
	Transactions []Summary `json:"transactions"`
	Next         string    `json:"next,omitempty"` // for Query.After; empty if nothing is left to search
}

// Count is a number that was counted up to a bound.
type Count struct {
	N    int  `json:"n"`
	More bool `json:"more,omitempty"` // there are more, or may be more, than N
}

// Overview is the state of a log and its engines at a glance. It looks at the 10,000 oldest
// unfinished transactions, so a Count has More if there may be others.
type Overview struct {
	Now        time.Time `json:"now"` // by the database's clock
	Trying     Count     `json:"trying"`
	Confirming Count     `json:"confirming"`
	Cancelling Count     `json:"cancelling"`
	Attention  Count     `json:"attention"`
	Paused     Count     `json:"paused"`

	OldestUndecided  *Summary   `json:"oldest_undecided,omitempty"`  // nil if there is none
	OldestUnfinished *Summary   `json:"oldest_unfinished,omitempty"` // decided and not finished; nil if there is none
	Kinds            []KindView `json:"kinds"`                       // those that are registered in this process, or paused
	Instances        []Instance `json:"instances"`
}

// KindView is a kind of branch, as this process sees it.
type KindView struct {
	Kind       string    `json:"kind"`
	Registered bool      `json:"registered"`         // in this process
	Place      string    `json:"place,omitempty"`    // where its branches are, if it is registered: "engine's database", "another database" or "another service"
	PausedAt   time.Time `json:"paused_at,omitzero"` // zero if it is not paused
	Circuit    *Circuit  `json:"circuit,omitempty"`  // of this process; nil if no engine runs in it or the kind is not registered
	Acts       []Action  `json:"acts,omitempty"`     // the last acts of operators on the kind, in order
}

// Circuit is the state of the circuit breaker of a kind of branch in one process.
type Circuit struct {
	Open      bool      `json:"open"`
	Failed    int       `json:"failed"`            // transactions that failed since the last success
	RetryAt   time.Time `json:"retry_at,omitzero"` // when an open circuit lets the next call through, by the clock of the process
	Postponed int       `json:"postponed"`         // transactions that wait until it closes
}

// Instance is a running engine, or one that ended without a goodbye in the last hour.
type Instance struct {
	ID         string    `json:"instance"`
	Host       string    `json:"host"`
	PID        int       `json:"pid"`
	StartedAt  time.Time `json:"started_at"`
	LeaseUntil time.Time `json:"lease_until"`
	Alive      bool      `json:"alive"` // it holds its lease, by the database's clock
	This       bool      `json:"this,omitempty"`
}

// Activity is what finished in a part of time. It is an estimate from a sample of at most a
// thousand transactions, from the begin of the part.
type Activity struct {
	From      time.Time     `json:"from"`
	For       time.Duration `json:"for"`       // the length of the part
	Rate      float64       `json:"rate"`      // transactions finished per second
	Cancelled float64       `json:"cancelled"` // of these, the share that was cancelled, from 0 to 1
	Failed    float64       `json:"failed"`    // the share with a failed call, from 0 to 1
	P50       time.Duration `json:"p50"`       // from begin to end; half of them were faster
	P99       time.Duration `json:"p99"`       // 99 of 100 were faster
}

// ActionRecord is an act of an operator in the audit log.
type ActionRecord struct {
	Action
	GID    string `json:"gid,omitempty"`     // of an act on a transaction
	Kind   string `json:"kind,omitempty"`    // of an act on a kind of branch
	BulkID string `json:"bulk_id,omitempty"` // of an act that is part of a [BulkAction]
}

// ActionQuery selects acts of operators, the newest first. All conditions must hold.
type ActionQuery struct {
	GID    string // of an act on a transaction
	Kind   string // of an act on a kind
	Who    string // exactly
	Name   string // retry, pause, resume, confirm, cancel or resolve
	BulkID string

	After string // Next of the page before; empty for the first page
	Limit int    // the most to return; defaults to 50, at most 1,000
}

// ActionPage is a part of the audit log.
type ActionPage struct {
	Actions []ActionRecord `json:"actions"`
	Next    string         `json:"next,omitempty"` // for ActionQuery.After; empty at the end
}

// BulkAction is an act on many transactions. Its list of transactions is made once and does not
// change. Each of them is then acted on, and the act is recorded, in a local transaction of its
// own. It can be continued by any process until it is finished.
type BulkAction struct {
	ID   string `json:"id"`
	Name string `json:"act"` // retry, pause, resume, confirm or cancel
	Operator
	Query      Query     `json:"query"`   // that selected the transactions
	Total      int       `json:"total"`   // transactions in the list
	Done       int       `json:"done"`    // acted on
	Refused    int       `json:"refused"` // not acted on, because the act had no effect any more
	Failed     int       `json:"failed"`  // the act failed; it is not repeated
	CreatedAt  time.Time `json:"created_at"`
	StartedAt  time.Time `json:"started_at,omitzero"` // when it began; zero if nobody has confirmed it
	FinishedAt time.Time `json:"finished_at,omitzero"`
}

// BulkTarget is a transaction of a [BulkAction].
type BulkTarget struct {
	Number int       `json:"number"` // place in the list, from 1
	GID    string    `json:"gid"`
	Result string    `json:"result,omitempty"` // done, refused or failed; empty before
	Error  string    `json:"error,omitempty"`
	At     time.Time `json:"at,omitzero"`
}
