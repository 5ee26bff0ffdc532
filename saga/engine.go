package saga

import (
	"context"
	"time"

	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga/barrier"
)

// Registrar takes kinds of branches: an [Engine] that drives transactions of
// them, or a [Participant] that has them for an engine elsewhere.
type Registrar interface {
	// Register makes a kind of branch known. It refuses a kind that is known
	// already and a branch that cannot work. Register all kinds at start-up.
	Register(Branch) error
}

// Engine drives transactions. It is the contract between the patterns, such as
// package tcc, and what runs them; [Orchestrator] is the one that is embedded
// in the user's process. All methods are safe for concurrent use.
type Engine interface {
	Registrar

	// Execute runs a transaction whose branches are all known: every Try, then
	// the decision, then the Confirms or Cancels. The error is nil only if the
	// transaction is decided to be confirmed. Executing a gid again with the
	// same plan does nothing new and gives the same transaction's outcome.
	Execute(context.Context, Plan) (Outcome, error)

	// Begin opens a transaction whose decision comes later. Beginning an open
	// gid again does nothing new.
	Begin(context.Context, Opening) error

	// Try adds a branch to an open transaction and tries it. Trying a branch
	// id again with the same step does nothing new, also after the transaction
	// was decided to be confirmed.
	Try(ctx context.Context, gid, branchID string, step Step) error

	// Confirm decides to confirm an open transaction, and drives it. The error
	// is nil only if the transaction is decided so, by this call or before. Of
	// the options, ReturnDecided counts.
	Confirm(ctx context.Context, gid string, options Options) (Outcome, error)

	// Cancel decides to cancel a transaction that is undecided, and drives it.
	// The error is nil only if the transaction is decided so, by this call or
	// before.
	Cancel(ctx context.Context, gid, reason string) (Outcome, error)

	// Lookup returns all that is known of a transaction, or ErrNotFound.
	Lookup(ctx context.Context, gid string) (*Transaction, error)
}

// Step asks for one branch: a kind, and the input of its calls.
type Step struct {
	Kind  string
	Input any
}

// Plan is a transaction whose branches are all known.
type Plan struct {
	GID     string
	Pattern string // name of the pattern, for people who look at the log
	Steps   []Step // 1 to MaxBranches
	Options
}

// MaxBranches is the most branches that a transaction can have.
const MaxBranches = 99

// Opening is a transaction whose decision comes later.
type Opening struct {
	GID     string
	Pattern string
	Options
}

// Options of one transaction. The zero value works.
type Options struct {
	// Timeout is how long the transaction may stay undecided: at its deadline
	// it is cancelled, also if no process was running at that moment. The
	// database's clock counts. Defaults to [Config.Timeout] when the branches
	// are known up front, and to [Config.OpenTimeout] when it is opened.
	Timeout time.Duration

	// ReturnDecided lets Execute and Confirm return as soon as the decision is
	// durable, while the Confirms go on in the background. By default they
	// return when each branch was called once. Confirms that were part of the
	// decision's own commit are done in either case.
	ReturnDecided bool
}

// Call is one call of a branch.
type Call struct {
	GID      string
	BranchID string
	Kind     string
	Op       barrier.Op
	Caller   string // the engine that calls: its log's id, the same for all its instances; empty if the caller does not say
	Attempt  int    // from 1
	Payload  []byte // the encoded input
	Receipt  any    // what the Outside part of the same call returned
}

// Key is the identity of the branch, the same in every call: use it, as
// "gid/branch", where another system asks for an idempotency key.
func (c Call) Key() barrier.Key { return barrier.Key{GID: c.GID, BranchID: c.BranchID} }

// IdempotencyKey names the branch among those of all engines: "LOG/gid/branch",
// where LOG is the id of the engine's log. It is the same in every call of the
// branch. Use it where several engines share a side outside, such as an account at
// a payment gateway; [Call.Key] is unique within one engine only. Neither is unique
// for ever: a gid that is used again after the retention has the same.
func (c Call) IdempotencyKey() string {
	if c.Caller == "" {
		return c.Key().String()
	}
	return c.Caller + "/" + c.Key().String()
}

// JointCall is one of several calls that are made together.
type JointCall struct {
	// Context holds the values of the caller's context, such as a trace. It
	// does not end; the context of the joint call does.
	Context context.Context
	Call
}

// Branch is a kind of branch as an engine runs it. Users write typed branches
// with a pattern, such as package tcc, which makes these.
//
// The engine opens the local transaction, asks the barrier in it, calls Inside
// only if the verdict is Run, and commits. A panic is an error.
type Branch struct {
	Kind string

	// Database is where the branch works and has its barrier rows. Defaults to
	// the engine's own database. A branch in the engine's own database shares
	// commits with the log, and with other branches there.
	Database *gorm.DB

	// Encode checks the type of an input and turns it into JSON.
	Encode func(input any) ([]byte, error)

	// Inside does the work of a call in the local transaction tx, which it
	// neither commits nor rolls back. Nil for a branch without a database.
	Inside func(ctx context.Context, tx *gorm.DB, call Call) error

	// Outside holds the operations that act on something other than a
	// database. They are called outside any local transaction, and may be
	// called more than once: they need Call.Key as an idempotency key.
	//
	// An outside Try is marked in the barrier before it is called, so that
	// Cancel comes whenever it may have had an effect. An outside Confirm or
	// Cancel is called first, and only if the barrier says that it is due; then
	// Inside, if any, is called with its receipt and the two are committed.
	Outside map[barrier.Op]func(ctx context.Context, call Call) (receipt any, err error)

	// Together, if it is not nil, does the work of Inside for the same operation
	// of several transactions at once, in tx: one statement for all instead of
	// one each. It returns the failures in the order of the calls, or nil if
	// there is none; a Try that failed has changed nothing. The error is of the
	// database and fails them all, for now: each is then called by itself.
	Together func(ctx context.Context, tx *gorm.DB, op barrier.Op, calls []JointCall) (failures []error, err error)

	// OutsideTogether does, for the operations that it holds, the work of Outside
	// for several transactions at once. It returns the receipts and the
	// failures in the order of the calls; failures is nil if there is none. It
	// is called right after the Trys; Outside is called otherwise.
	OutsideTogether map[barrier.Op]func(ctx context.Context, calls []JointCall) (receipts []any, failures []error)

	// Remote, if it is not nil, makes the calls, in a service that has the
	// branch and keeps its barrier there. All but Kind and Encode is then nil.
	Remote Remote

	// Clean, if it is not nil, removes what the branch keeps of transactions
	// that are finished and past [Config.Retention], in a local transaction in
	// Database, with their barrier rows. The gids are at most a few hundred.
	Clean func(ctx context.Context, tx *gorm.DB, gids []string) error
}

// Remote is a service that has branches, and their barrier, for an engine
// elsewhere.
type Remote interface {
	// Call makes one call of a branch. It may be made again, also after it was
	// made with success, and a Try may come after the Cancel: the barrier there
	// knows. The error of a Try that the branch said no to wraps a [Rejection];
	// after any other, Cancel is called. It has to end when ctx does.
	Call(ctx context.Context, call Call) error
}
