package chaos

import (
	"fmt"
	"time"

	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/nested"
)

// Order is what a client wants to happen as a whole or not at all. It has branches, in this
// order; one with a zero value is left out. An open transaction has only the first eight.
type Order struct {
	GID     string
	Cents   int64  // held at the gateway, which has no database of ours
	Account string // from which points are taken, in the database of another service
	Points  int64
	SKU     string // locked in the database of the engine
	Pieces  int64
	Notify  bool // publish a message
	XA      bool // a row in the database of another service, by two-phase commit
	Nested  bool // a nested transaction, with branches of its own
	Hall    string
	Seats   int64 // taken at the host, a service with a process of its own, each order for itself
	Show    string
	Tickets int64 // the same; many orders at once
	Rewards int   // actions of a saga, in the database of another service
	Decides bool  // the COMMIT of a row in the database of another service is the decision
	Receipt bool  // a step after the decision, there too
	Local   bool  // the worker executes it in a local transaction of its own, with a row of its own and a message more

	TryAttempts   int // of a plan with forward recovery
	Timeout       time.Duration
	ReturnDecided bool // answer when the order is decided, and not when it is finished
}

// The kinds of the branches of an order.
const (
	PaymentKind = "payment"
	PointsKind  = "points.take"
	StockKind   = "stock.lock"
	MessageKind = "message.publish"
	XAKind      = "row.insert"
	NestedKind  = "trip"
	SeatsKind   = "seats.take"
	TicketsKind = "tickets.take"
	RewardKind  = "reward.add"
	DecideKind  = "orders"
	ReceiptKind = "receipt.send"
)

// kinds are the kinds of the order's branches, in order.
func (o Order) kinds() (kinds []string) {
	for _, branch := range []struct {
		kind string
		has  bool
	}{{PaymentKind, o.Cents > 0}, {PointsKind, o.Points > 0}, {StockKind, o.Pieces > 0}, {MessageKind, o.Notify}, {XAKind, o.XA}, {NestedKind, o.Nested}, {SeatsKind, o.Seats > 0}, {TicketsKind, o.Tickets > 0}} {
		if branch.has {
			kinds = append(kinds, branch.kind)
		}
	}
	for range o.Rewards {
		kinds = append(kinds, RewardKind)
	}
	if o.Decides {
		kinds = append(kinds, DecideKind)
	}
	if o.Receipt {
		kinds = append(kinds, ReceiptKind)
	}
	return kinds
}

// A nested transaction takes points from an account, and inserts a row by two-phase commit.
const (
	NestedAccount = "account-0"
	NestedPoints  = 1
)

// nested returns the gid of the nested transaction of the order; empty if there is none.
func (o Order) nested() string {
	for i, kind := range o.kinds() {
		if kind == NestedKind {
			return nested.GID(barrier.Key{GID: o.GID, BranchID: fmt.Sprintf("%02d", i+1)})
		}
	}
	return ""
}

// Request asks a worker to do something with an order.
type Request struct {
	Command  Command
	Order    Order
	Branches int // how many of the branches Try tries; those that are tried already are not tried again
}

// Command is what a request asks for. Execute does all with an order; the others
// are for an open transaction, and each may go to another worker.
type Command string

// The commands.
const (
	Execute Command = "execute"
	Try     Command = "try" // also begins the transaction
	Confirm Command = "confirm"
	Cancel  Command = "cancel"
)

// LocalSubject is the subject of the messages of local transactions. Their data is the gid.
const LocalSubject = "chaos.local"

// Answer is the answer to a request.
type Answer struct {
	Result Result
	Text   string // of the error
}

// Result is what a client is told about a transaction.
type Result string

// The results.
const (
	Confirmed  Result = "confirmed"   // it is, or is decided to be
	Cancelled  Result = "cancelled"   // it is, or is decided to be
	Tried      Result = "tried"       // the branches of an open transaction are tried
	NotTried   Result = "not tried"   // a Try has failed
	NotFound   Result = "not found"   // there is no such transaction
	RolledBack Result = "rolled back" // the local transaction of the order is, and nothing is known of the order
	Unknown    Result = "unknown"     // the client has to ask again
	Unexpected Result = "unexpected"  // an error that must not come
)

// Setup is what a worker is started with, as JSON in its first argument.
type Setup struct {
	Name      string
	EngineDB  string // data source name
	ServiceDB string // data source name
	Prepare   bool   // use prepared statements
	NATS      string // URL
	Stream    string
	Gateway   string // URL
	Lease     time.Duration
	Host      string // URL of the branches of the host

	// Of the host: a process with HostListen has branches, and no engine.
	HostListen string // address
	HostDB     string // data source name
}

// HostName and HostSecret are those of the signatures of calls to the host. HostWindow is longer
// than two clocks differ.
const (
	HostName   = "host"
	HostSecret = "the secret of a test, with 32 bytes or more"
	HostWindow = 60 * 24 * time.Hour
)

// Ready is the line of JSON that a worker prints when it serves.
type Ready struct {
	Address  string // of its HTTP server
	Instance string // of its engine
	Clock    time.Time
}

// Operation is what a branch asks the gateway for: POST /operation with the key
// and the cents in the query.
type Operation string

// The operations of the gateway. It answers 200; 409 to a Hold that it refuses;
// and 503 if that fault is injected.
const (
	Hold    Operation = "hold"
	Capture Operation = "capture"
	Release Operation = "release"
)
