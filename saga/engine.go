package saga

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"gorm.io/gorm"
)

// Registrar registers kinds of branches: an [Engine], or a participant, which has branches for
// an engine in another process.
type Registrar interface {
	// Register registers a kind of branch. It refuses a kind that is registered already
	// and a branch that is not complete. Register all kinds when the process starts.
	Register(Branch) error
}

// Engine runs transactions. Patterns, such as package tcc, are written on it. Package embedded
// has the engine for the user's own process. All methods are safe for concurrent use.
type Engine interface {
	Registrar

	// Execute runs a transaction whose branches are all known: every Try, then the
	// decision, then the Confirms or Cancels. The error is nil only if the transaction is
	// decided to be confirmed. If the gid was executed before with the same plan, Execute
	// calls nothing and returns the outcome of that transaction.
	Execute(context.Context, Plan) (Outcome, error)

	// Begin opens a transaction that is decided later. If the gid is open already, Begin
	// does nothing.
	Begin(context.Context, Opening) error

	// Try adds a branch to an open transaction and tries it. If the same step with the same
	// branch id was tried before with success, Try does nothing and succeeds, also after
	// the transaction was decided to be confirmed.
	Try(ctx context.Context, gid, branchID string, step Step) error

	// Confirm decides to confirm an open transaction, and drives it. The error is nil only
	// if the transaction is decided to be confirmed, by this call or before. Only the
	// option ReturnDecided may be set: Begin has set the deadline.
	Confirm(ctx context.Context, gid string, options Options) (Outcome, error)

	// Cancel decides to cancel an undecided transaction, and drives it. The error is nil
	// only if the transaction is decided to be cancelled, by this call or before.
	Cancel(ctx context.Context, gid, reason string) (Outcome, error)

	// Lookup returns a transaction with its branches, or an error that matches
	// [ErrNotFound].
	Lookup(ctx context.Context, gid string) (*Transaction, error)
}

// LocalEngine is an [Engine] with its log in a database of the user. It can execute plans in
// the user's own local transactions there.
type LocalEngine interface {
	Engine

	// ExecuteIn executes a plan in the local transaction tx of the caller. If the caller
	// commits, the transaction is decided to be confirmed; if not, nothing has happened.
	// Every Try runs in tx, so each branch has to be a [Local] one in the engine's own
	// database. Confirms that act on nothing but the database run in tx too. The other
	// Confirms follow soon after the commit.
	//
	// After an error the caller has to roll back. If the gid was executed before with the
	// same plan, ExecuteIn does nothing and returns the outcome. One local transaction may
	// execute any number of plans.
	ExecuteIn(ctx context.Context, tx *gorm.DB, plan Plan) (Outcome, error)

	// ExecuteInSQL is ExecuteIn for a local transaction of package database/sql.
	ExecuteInSQL(ctx context.Context, tx *sql.Tx, plan Plan) (Outcome, error)
}

// Step is one branch of a transaction: its kind, and the input of its calls. A plan tries its
// steps one after the other, and then decides. The other fields change that.
type Step struct {
	Kind  string
	Input any

	// Parallel makes the Try run at the same time as the Try of the step before. So a
	// number of steps that follow each other can form a group. The next step that is not
	// Parallel is tried when all Trys of the group have succeeded.
	Parallel bool

	// AfterDecision places the step after the point of no return. It is called after the
	// decision to confirm, with the operation Apply, in the order of the plan, until it
	// succeeds. It cannot reject, and is never cancelled. The branch has to be an action;
	// see [Branch.AsAction]. All steps that follow it are AfterDecision too.
	AfterDecision bool

	// Decides makes the COMMIT of this step's Try the decision: the transaction is
	// confirmed if and only if that Try is committed. The Try is called after all others
	// that are not AfterDecision. If its outcome is not known, the engine asks the
	// barrier of the branch, for ever, and never guesses; see "A branch that decides" in
	// the documentation of this package. At most one step decides. Its branch has
	// to be an action in another database or service than the engine's own; in that
	// database, use LocalWork of [Options].
	Decides bool
}

// Plan is a transaction whose branches are all known.
type Plan struct {
	GID     string
	Pattern string // name of the pattern, for people who read the log
	Steps   []Step // 1 to MaxBranches
	Options
}

// MaxBranches is the most branches that a transaction can have.
const MaxBranches = 99

// Opening is a transaction that is decided later.
type Opening struct {
	GID     string
	Pattern string            // name of the pattern, for people who read the log
	Timeout time.Duration     // as in [Options]
	Labels  map[string]string // as in [Options]

	// Parent makes the transaction a nested one: it is a branch of another transaction, and
	// Parent names that branch, as [Call.IdempotencyKey] of its Try does. At most MaxParent
	// printable ASCII characters, without spaces. Nobody but the parent decides it; see
	// [ChildEngine]. The Pattern has to be empty and becomes "nested". Empty for a
	// transaction that is not nested.
	Parent string
}

// Options of one transaction. The zero value works.
type Options struct {
	// Timeout is how long the transaction may stay undecided. At its deadline it is
	// cancelled; if no process runs at that moment, it is cancelled when one does. The
	// deadline is on the database's clock. Zero means the engine's default: 30 seconds for
	// a plan, and 15 minutes for an opened transaction.
	Timeout time.Duration

	// ReturnDecided makes Execute and Confirm return when the decision is durable; the
	// Confirms continue in the background. By default they return when each branch was
	// called once. Confirms in the commit of the decision are done in both cases.
	ReturnDecided bool

	// Labels are names and values by which people find the transaction, such as the number of
	// an order: {"order": "1001", "customer": "7"}. They are stored with the transaction, and
	// removed with it. If the gid was executed before, its labels stay as they are. At most
	// MaxLabels; see [ValidateLabels]. Only Execute and ExecuteIn take them, and Begin with
	// [Opening.Labels]. An engine that does not keep labels refuses them with [ErrInvalid].
	Labels map[string]string

	// ParallelTrys calls the Trys of all steps before the decision at the same time, as if
	// each step after the first were [Step.Parallel]. By default they are called in the order
	// of the plan, each when those before it have succeeded; a Try that rejects then saves the
	// calls of those after it. The step that decides is still tried last. Only Execute takes
	// it. An engine may call the Trys in order all the same.
	ParallelTrys bool

	// TryAttempts is how often the Try of a branch may be called if it fails. Zero and one
	// mean once: a failed Try cancels the transaction, and so does the end of the process
	// of Execute. With a greater number, the transaction has forward recovery: a failed
	// Try is called again, with a growing pause, and another instance continues if the
	// process ends. The transaction is cancelled when the attempts of a branch are used
	// up, when a Try rejects, or at the deadline. [Unlimited] leaves only the last two. If a
	// Try was repeated, Execute returns when the transaction is decided.
	// Only Execute takes it, and not with LocalWork, which another instance does not have.
	TryAttempts int

	// LocalWork, if it is not nil, is work of the caller in the engine's own database. It
	// runs in the local transaction that decides to confirm. So it takes effect if and only
	// if the transaction is decided to be confirmed. Execute and Confirm take it.
	//
	// In Execute, it runs after the Trys of branches in other databases and services. Its
	// error cancels the transaction, as the error of a Try does; see [Reject]. In Confirm,
	// its error is returned, and the transaction stays open. LocalWork may run more than
	// once, for example after a deadlock; only the run that is committed counts. It does
	// not run if the transaction was decided before. It neither commits nor rolls back tx.
	// It excludes TryAttempts: a process that continues the transaction does not have it.
	LocalWork func(ctx context.Context, tx *gorm.DB) error

	// LocalWorkIn, if it is not empty, is the kind of a [NewDatabase]. LocalWork then runs
	// in a local transaction of that database, as the last step before the decision, and
	// its COMMIT is the decision; see [Step.Decides]. If the process ends before the
	// COMMIT, the work is lost and the transaction is cancelled. Only Execute takes it.
	LocalWorkIn string
}

// Unlimited is a number of attempts without a limit; see [Options.TryAttempts].
const Unlimited = -1

// BranchID returns the id of the n-th branch of a plan, from 1: "01", "02", ...
func BranchID(n int) string { return fmt.Sprintf("%02d", n) }

// MaxLabels is the most labels that a transaction can have.
const MaxLabels = 8

var validLabel = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,31}$`)

// ValidateLabels returns an error if labels are not valid. There are at most MaxLabels. A valid
// name has 1 to 32 letters, digits, dots, dashes and underscores, and begins with a letter or
// digit. A valid value is UTF-8 text of 1 to 128 characters, without control characters.
func ValidateLabels(labels map[string]string) error {
	if len(labels) > MaxLabels {
		return fmt.Errorf("there are %d labels, at most %d are possible", len(labels), MaxLabels)
	}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		value := labels[name]
		switch {
		case !validLabel.MatchString(name):
			return fmt.Errorf("the name of the label %.80q must be 1 to 32 letters, digits, dots, dashes and underscores, and begin with a letter or digit", name)
		case value == "":
			return fmt.Errorf("the label %s has no value", name)
		case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
			return fmt.Errorf("the value of the label %s must be UTF-8 text without control characters", name)
		case utf8.RuneCountInString(value) > 128:
			return fmt.Errorf("the value of the label %s has %d characters, at most 128 are possible", name, utf8.RuneCountInString(value))
		}
	}
	return nil
}

var validKind = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$`)

// ValidateKind returns an error if the name of a kind of branch is not valid. A valid name has
// 1 to 64 letters, digits, dots, dashes and underscores, and begins with a letter or digit.
func ValidateKind(kind string) error {
	if !validKind.MatchString(kind) {
		return fmt.Errorf("the kind of branch %.80q must be 1 to 64 letters, digits, dots, dashes and underscores, and begin with a letter or digit", kind)
	}
	return nil
}
