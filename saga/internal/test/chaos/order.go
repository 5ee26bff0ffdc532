package chaos

import "time"

// Order is what a caller asks a worker to make happen all together or not at
// all. Its parts are the branches, in this order; a zero part is none.
type Order struct {
	GID     string
	Cents   int64  // to be held at the gateway, which has no database of ours
	Account string // whose points are taken, in the other database
	Points  int64
	SKU     string // locked in the orchestrators' own database
	Pieces  int64
	Notify  bool // publish a message

	Timeout time.Duration
	Decided bool // return when it is decided
}

// Request asks a worker for one step with an order. Execute does all of it; the
// others are for an open transaction, and may each come to another worker.
type Request struct {
	Act   Act
	Order Order
	Parts int // Try the first so many parts; those that are tried already are recognised
}

// Act is what a Request asks for.
type Act string

// The acts.
const (
	Execute Act = "execute"
	Try     Act = "try" // begins the transaction, too
	Confirm Act = "confirm"
	Cancel  Act = "cancel"
)

// Answer is what a worker says to a Request.
type Answer struct {
	Told Told
	Text string // of the error
}

// Told is what a caller was told about a transaction.
type Told string

// What callers are told.
const (
	Confirmed Told = "confirmed" // it is, or is decided to be
	Cancelled Told = "cancelled" // it is, or is decided to be
	Tried     Told = "tried"     // the parts of an open transaction are reserved
	Failed    Told = "failed"    // a part is not reserved
	Missing   Told = "missing"   // there is no such transaction
	Unknown   Told = "unknown"   // nobody knows yet: ask again
	Wrong     Told = "wrong"     // an error that must not come
)

// Setup is what a worker is started with, as JSON in its first argument.
type Setup struct {
	Name       string
	Home, Away string // data source names
	Prepare    bool   // statements
	NATS       string // URL
	Stream     string
	Gateway    string // URL
	Lease      time.Duration
}

// Ready is the line of JSON that a worker prints when it serves.
type Ready struct {
	Address  string // of its HTTP server
	Instance string // of its orchestrator
	Clock    time.Time
}

// Operation is what a branch asks the gateway for: POST /operation with the key
// and the cents in the query.
type Operation string

// The operations of the gateway. It answers 200; 409 to a Hold that it refuses;
// and 503 when it does not feel well.
const (
	Hold    Operation = "hold"
	Capture Operation = "capture"
	Release Operation = "release"
)
