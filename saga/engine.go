package saga

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"time"

	"gorm.io/gorm"
)

// Registrar takes kinds of branches: an [Engine] that drives transactions of
// them, or a [Participant] that has them for an engine elsewhere.
type Registrar interface {
	// Register makes a kind of branch known. It refuses a kind that is known
	// already and a branch that cannot work. Register all kinds at start-up.
	Register(Branch) error
}

// Engine drives transactions. It is the contract between the patterns, such as
// package tcc, and what runs them; package embedded has the one in the user's own process. All methods are safe for concurrent use.
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
	// is nil only if the transaction is decided so, by this call or before. Of the
	// options, only ReturnDecided may be set: the deadline was set by Begin.
	Confirm(ctx context.Context, gid string, options Options) (Outcome, error)

	// Cancel decides to cancel a transaction that is undecided, and drives it.
	// The error is nil only if the transaction is decided so, by this call or
	// before.
	Cancel(ctx context.Context, gid, reason string) (Outcome, error)

	// Lookup returns all that is known of a transaction, or ErrNotFound.
	Lookup(ctx context.Context, gid string) (*Transaction, error)
}

// LocalEngine is an [Engine] that has its log in a database of the user, and can execute
// plans in the user's own local transactions there.
type LocalEngine interface {
	Engine

	// ExecuteIn executes a plan in the local transaction tx of the caller: if and only if
	// the caller commits, the transaction is decided to be confirmed. Every Try runs in tx,
	// so each branch has to be a [Local] one in the engine's own database. Confirms that act
	// on nothing but the database run in tx too; the others follow soon after the commit.
	//
	// After an error the caller has to roll back. Executing a gid again with the same plan
	// does nothing new. Any number of plans may be executed in one local transaction.
	ExecuteIn(ctx context.Context, tx *gorm.DB, plan Plan) (Outcome, error)

	// ExecuteInSQL is ExecuteIn for a local transaction of package database/sql.
	ExecuteInSQL(ctx context.Context, tx *sql.Tx, plan Plan) (Outcome, error)
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
	Pattern string        // name of the pattern, for people who look at the log
	Timeout time.Duration // as in [Options]
}

// Options of one transaction. The zero value works.
type Options struct {
	// Timeout is how long the transaction may stay undecided: at its deadline it is
	// cancelled, also if no process was running at that moment. The database's clock
	// counts. Zero takes the engine's default: 30 seconds for a plan, and 15 minutes for a
	// transaction that is opened.
	Timeout time.Duration

	// ReturnDecided lets Execute and Confirm return as soon as the decision is durable,
	// while the Confirms go on in the background. By default they return when each branch
	// was called once. Confirms that were part of the decision's own commit are done in
	// either case.
	ReturnDecided bool

	// LocalWork, if it is not nil, is work of the caller in the engine's own database. It
	// runs in the local transaction that decides to confirm: it takes effect if and only if
	// the transaction is decided so. Execute and Confirm take it.
	//
	// In Execute, it runs after the Trys of branches elsewhere, and an error cancels the
	// transaction, as the error of a Try does; see [Reject]. In Confirm, an error is
	// returned, and the transaction stays open. LocalWork may run more than once, after a
	// deadlock for example; only the run that is committed counts. If the transaction was
	// decided before, LocalWork does not run. It neither commits nor rolls back tx.
	LocalWork func(ctx context.Context, tx *gorm.DB) error
}

// BranchID returns the id of the n-th branch of a plan, from 1: "01", "02", ...
func BranchID(n int) string { return fmt.Sprintf("%02d", n) }

var validKind = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$`)

// ValidateKind says what is wrong with the name of a kind of branch, if anything. It has
// 1 to 64 letters, digits, dots, dashes and underscores, and begins with a letter or digit.
func ValidateKind(kind string) error {
	if !validKind.MatchString(kind) {
		return fmt.Errorf("the kind of branch %.80q must be 1 to 64 letters, digits, dots, dashes and underscores, and begin with a letter or digit", kind)
	}
	return nil
}
