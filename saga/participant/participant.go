// Package participant has branches that an engine in another process calls, and keeps
// their barrier. Package remote puts a participant behind HTTP.
package participant

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/barrier"
	"github.com/tccsaga/tccsaga/saga/internal/call"
	"github.com/tccsaga/tccsaga/saga/internal/clean"
	"github.com/tccsaga/tccsaga/saga/internal/txn"
	"github.com/tccsaga/tccsaga/saga/schema"
)

// Participant has branches that an orchestrator in another process calls, and
// keeps their barrier. Package remote puts one behind HTTP. It is safe for
// concurrent use.
type Participant struct {
	db       *gorm.DB
	registry *txn.Registry
	calls    *call.Caller
	minAge   time.Duration // of what Clean removes
}

var _ saga.Registrar = (*Participant)(nil)

// Config configures a [Participant]. The zero value works.
type Config struct {
	// CallTimeout bounds one call of a branch. Defaults to 10 seconds.
	CallTimeout time.Duration

	// MaxDelay is how long after it was made a call may still come, such as one
	// that somebody has recorded and repeats. Clean removes nothing that is
	// younger. Defaults to 0; package remote derives it from its signatures.
	MaxDelay time.Duration

	// Logger takes what goes wrong. Defaults to [slog.Default].
	Logger *slog.Logger
}

// New returns a participant whose barrier is in db, unless a branch
// has another database, where the barrier is then. It checks the schema.
func New(ctx context.Context, db *gorm.DB, config Config) (*Participant, error) {
	p, err := open(ctx, db, config)
	return p, txn.Wrap("participant", "", err)
}

func open(ctx context.Context, db *gorm.DB, config Config) (*Participant, error) {
	switch {
	case txn.CheckHandle(db) != nil:
		return nil, txn.Invalid("the database: %w", txn.CheckHandle(db))
	case config.CallTimeout < 0:
		return nil, txn.Invalid("the CallTimeout is negative: %s", config.CallTimeout)
	case config.MaxDelay < 0:
		return nil, txn.Invalid("the MaxDelay is negative: %s", config.MaxDelay)
	case config.CallTimeout == 0:
		config.CallTimeout = 10 * time.Second
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
	return &Participant{
		db:       db,
		registry: registry,
		calls:    call.New(call.Config{Timeout: config.CallTimeout, Logger: config.Logger, Instance: uuid.NewString(), Prefix: fromElsewhere}),
		minAge:   2*config.CallTimeout + config.MaxDelay,
	}, nil
}

// Register makes a kind of branch known; see [saga.Registrar].
func (p *Participant) Register(b saga.Branch) error {
	registered, err := txn.NewBranch(b, nil)
	switch {
	case err != nil:
	case registered.Remote != nil:
		err = txn.Invalid("it lives in another service, whose engine can call it there")
	default:
		err = p.registry.Add(context.Background(), registered)
	}
	return txn.Wrap("register", b.Kind(), err)
}

// Call makes one call of a branch, with the barrier, in a local transaction. A
// call that was made before succeeds and does nothing.
//
// The error of a Try wraps a [saga.Rejection] if the branch said no, and
// [barrier.ErrSuspended] if the branch was cancelled before: both are final. A
// Confirm or Cancel that contradicts what the branch has done wraps
// [barrier.ErrConflict]. A call that is under way, or has an unknown outcome,
// wraps [saga.ErrOngoing]. [saga.ErrUnknownKind] and [saga.ErrInvalid] are of calls that cannot
// be made here. After any other error the call may be repeated.
func (p *Participant) Call(ctx context.Context, c saga.Call) error {
	if err := c.Key().Validate(); err != nil {
		return txn.Invalid("%w", err)
	}
	switch c.Op {
	case barrier.Try, barrier.Confirm, barrier.Cancel:
	default:
		return txn.Invalid("unknown operation %q", string(c.Op))
	}
	b, err := p.registry.Branch(c.Kind)
	if err != nil {
		return err
	}
	return p.calls.CallAlone(ctx, b, c)
}

// fromElsewhere precedes the names of callers in the barrier rows of a participant: a
// row of an engine in the same database is never one of a call from elsewhere.
const fromElsewhere = "@"

// Barrier returns the barrier rows of a transaction in the participant's
// database, for people who want to know what happened.
func (p *Participant) Barrier(ctx context.Context, gid string) ([]barrier.Row, error) {
	return barrier.Look(ctx, p.db, gid)
}

// Clean removes, in every database of the participant, the barrier rows of
// transactions all of whose branches there are final for longer than age, and the
// rows that the branches keep of them. It works in small batches and returns the
// number of removed transactions. Call it regularly, for example every hour: the
// participant does not know when a transaction ends elsewhere.
//
// A call that comes after Clean finds no row: a Try would run, and nothing would
// cancel it; a Confirm would be a conflict. So choose an age longer than any call
// can take to arrive or be repeated, such as the longest time for which an
// orchestrator might be down. Clean refuses an age below twice the CallTimeout
// plus the MaxDelay. It leaves rows that the log of an orchestrator in the same
// database still names.
//
// A branch whose Clean fails, panics, or does not return within the CallTimeout keeps
// the transactions of its kind, and Clean goes on with the others. It returns such
// errors in the end.
func (p *Participant) Clean(ctx context.Context, age time.Duration) (removed int, err error) {
	if age < p.minAge {
		return 0, txn.Wrap("clean", "", txn.Invalid("the age is %s, it must be at least %s, so that no late or repeated Try comes after it", age, p.minAge))
	}
	removed, err = clean.Hosted(ctx, p.db, p.registry, p.calls, age)
	return removed, txn.Wrap("clean", "", err)
}
