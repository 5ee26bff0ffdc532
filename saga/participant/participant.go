package participant

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/clean"
	"github.com/tccsaga/tccsaga/saga/internal/observe"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/saga/schema"
)

// Participant has the branches of one service, and keeps their barrier rows. It is safe
// for concurrent use.
type Participant struct {
	db       *gorm.DB
	registry *txn.Registry
	calls    *call.Caller
	minAge   time.Duration // of the rows that Clean removes
	observe  *observe.Notifier
	doubts   doubts
}

var _ saga.Registrar = (*Participant)(nil)

// Config configures a [Participant]. The zero value works.
type Config struct {
	// CallTimeout bounds one call of a branch. Defaults to 10 seconds.
	CallTimeout time.Duration

	// MaxDelay is the longest time between the sending of a call and its arrival,
	// for example of a call that somebody has recorded and sends again. Clean
	// removes nothing that is younger. Defaults to 0; package remote derives it from
	// the lifetime of its signatures.
	MaxDelay time.Duration

	// Outcomes are the engines that the participant asks for the outcome of a transaction
	// of which it has a branch in doubt; see "In doubt" in the documentation of this
	// package. The participant asks one after the other, until one has the transaction in
	// its log. Defaults to none: the participant waits for calls.
	Outcomes []Outcomes

	// AskAfter is how long a branch has to be in doubt before the participant asks, by
	// the database's clock. It applies to Trys that are made with this configuration.
	// Defaults to 5 minutes.
	AskAfter time.Duration

	// MaxBatch is the most calls that share a commit. Calls share a commit if they come at the
	// same time, are the same operation of the same kind of branch, and are quick. 1 means
	// that every call commits alone. Defaults to 128; at most 1,000.
	MaxBatch int

	// Observers are told of the calls of branches; see [saga.Observer]. Defaults to none.
	Observers []saga.Observer

	// Logger logs errors. Defaults to [slog.Default].
	Logger *slog.Logger
}

// New returns a participant with its barrier rows in db. For a branch with another
// database, the rows are in that database. New checks the schema of db.
func New(ctx context.Context, db *gorm.DB, config Config) (*Participant, error) {
	p, err := open(ctx, db, config)
	return p, wrap("new", err)
}

// wrap adds the package and the operation to an error.
func wrap(operation string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("participant: %s: %w", operation, err)
}

func open(ctx context.Context, db *gorm.DB, config Config) (*Participant, error) {
	switch {
	case txn.CheckHandle(db) != nil:
		return nil, txn.Invalid("the database: %w", txn.CheckHandle(db))
	case config.CallTimeout < 0:
		return nil, txn.Invalid("the CallTimeout is negative: %s", config.CallTimeout)
	case config.MaxDelay < 0:
		return nil, txn.Invalid("the MaxDelay is negative: %s", config.MaxDelay)
	case config.AskAfter < 0:
		return nil, txn.Invalid("the AskAfter is negative: %s", config.AskAfter)
	case config.MaxBatch < 0 || config.MaxBatch > 1000:
		return nil, txn.Invalid("the MaxBatch is %d, it must be between 0 and 1,000", config.MaxBatch)
	case slices.Contains(config.Outcomes, nil):
		return nil, txn.Invalid("one of the Outcomes is nil")
	case config.AskAfter > 0 && len(config.Outcomes) == 0:
		return nil, txn.Invalid("there is an AskAfter without Outcomes: nobody can be asked")
	case config.AskAfter == 0 && len(config.Outcomes) > 0:
		config.AskAfter = 5 * time.Minute
	}
	if config.CallTimeout == 0 {
		config.CallTimeout = 10 * time.Second
	}
	if config.MaxBatch == 0 {
		config.MaxBatch = 128
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if err := schema.Check(ctx, db); err != nil {
		return nil, err
	}
	registry, err := txn.NewRegistry(db)
	if err != nil {
		return nil, err
	}
	observers, err := saga.NewObservers(config.Logger, config.Observers)
	if err != nil {
		return nil, txn.Invalid("the Observers: %w", err)
	}
	observed := observe.New(observers, true)
	calls := call.New(call.Config{
		Timeout: config.CallTimeout, Logger: config.Logger, Instance: uuid.NewString(), Prefix: callerPrefix, AskAfter: config.AskAfter,
		MaxBatch: config.MaxBatch, Observe: observed,
	})
	p := &Participant{db: db, registry: registry, calls: calls, minAge: 2*config.CallTimeout + config.MaxDelay, observe: observed}
	p.doubts = newDoubts(p, config)
	return p, nil
}

// Register registers a kind of branch; see [saga.Registrar]. A branch that another service has
// is refused. A [saga.Nesting] is accepted: an engine in this process has its transactions.
func (p *Participant) Register(b saga.Branch) error {
	registered, err := txn.NewBranch(b, nil)
	switch {
	case err != nil:
	case registered.Remote != nil && !nested(registered.Remote):
		err = txn.Invalid("the branch is in another service: register it there")
	default:
		err = p.registry.Add(context.Background(), registered)
	}
	return wrap(fmt.Sprintf("register %.64s", b.Kind()), err)
}

// nested reports whether the branches of a service are nested transactions of an engine in
// this process, which is their barrier.
func nested(service saga.Remote) bool {
	_, is := service.(saga.Nesting)
	return is
}

// Call makes one call of a branch, with the barrier, in a local transaction. A
// repeated call succeeds and does nothing.
//
// The error of a Try wraps a [*saga.Rejection] if the branch rejects it, and
// [barrier.ErrSuspended] if it arrives after its Cancel. Both are final. The error of a
// call that contradicts the barrier row wraps [barrier.ErrConflict]. The error of a call
// that is under way, or has an unknown outcome, wraps [saga.ErrOngoing]. The error of an Ask
// wraps [saga.ErrNotCommitted] if the Try was not committed. A call that the participant
// cannot make wraps [saga.ErrUnknownKind] or [saga.ErrInvalid]. After any
// other error the call may be repeated. Errors of the branch are returned as they are.
func (p *Participant) Call(ctx context.Context, c saga.Call) error {
	if err := c.Key().Validate(); err != nil {
		return wrap("call", txn.Invalid("%w", err))
	}
	switch c.Op {
	case barrier.Try, barrier.Confirm, barrier.Cancel, barrier.Apply, barrier.Ask:
	default:
		return wrap("call", txn.Invalid("unknown operation %q", string(c.Op)))
	}
	b, err := p.registry.Branch(c.Kind)
	if err != nil {
		return wrap("call", err)
	}
	return p.calls.Call(p.observe.Attach(p.observe.Extract(ctx, c.Trace)), b, c)
}

// callerPrefix begins the names of callers in the barrier rows of a participant. So the
// row of a participant never matches a call of an engine in the same database.
const callerPrefix = "@"

// Barrier returns the barrier rows of a transaction in the participant's database. It is
// for people who want to know what happened.
func (p *Participant) Barrier(ctx context.Context, gid string) ([]barrier.Row, error) {
	return barrier.Look(ctx, p.db, gid)
}

// Clean removes old transactions from every database of the participant: their barrier
// rows, and the rows that their branches keep. A transaction is old if all its branches
// in the database have been final for longer than age. Clean works in small batches and
// returns the number of removed transactions. Call it regularly, for example every hour:
// the participant does not learn when a transaction ends.
//
// A call that arrives after Clean finds no row: a Try runs and is never cancelled, unless
// the participant asks for outcomes, and a Confirm is a conflict. So choose an age that is
// longer than any call can be late, for example the longest time for which an engine may be
// down, or may not reach the service. Clean refuses an age below twice the CallTimeout plus
// the MaxDelay. It leaves rows of transactions that are in the log of an engine in the same
// database.
//
// If the Clean of a branch fails, panics, or does not return within the CallTimeout, the
// transactions with this kind of branch stay, and Clean continues with the others. It
// returns such errors at the end.
func (p *Participant) Clean(ctx context.Context, age time.Duration) (removed int, err error) {
	if age < p.minAge {
		return 0, wrap("clean", txn.Invalid("the age is %s, it must be at least %s, so that no late or repeated Try arrives after Clean", age, p.minAge))
	}
	removed, err = clean.Hosted(ctx, p.registry, p.calls, age)
	return removed, wrap("clean", err)
}
